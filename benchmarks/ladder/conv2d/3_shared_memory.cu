// 3. One block an image: its input maps and all kernels are brought into shared memory once, each read by many threads.
//
// Global memory is now read as little as can be. Still, every multiplication loads both of its factors.

extern "C" __global__ void forward(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ out, int images)
{
    constexpr int AREA = KERNEL_HEIGHT * KERNEL_WIDTH, PIXELS = INPUTS * HEIGHT * WIDTH;
    __shared__ float maps[PIXELS], kernels[OUTPUTS * INPUTS * AREA];
    const int n = blockIdx.x;
    for (int i = threadIdx.x; i < PIXELS; i += blockDim.x) maps[i] = x[n * PIXELS + i];
    for (int i = threadIdx.x; i < OUTPUTS * INPUTS * AREA; i += blockDim.x) kernels[i] = weight[i];
    __syncthreads();

    for (int i = threadIdx.x; i < OUTPUTS * ROWS * COLUMNS; i += blockDim.x) {
        const int q = i % COLUMNS, p = i / COLUMNS % ROWS, k = i / (COLUMNS * ROWS);
        float sum = bias[k];
        for (int c = 0; c < INPUTS; ++c) {
            const float* pixels = maps + (c * HEIGHT + p) * WIDTH + q;
            const float* kernel = kernels + (k * INPUTS + c) * AREA;
#pragma unroll
            for (int r = 0; r < KERNEL_HEIGHT; ++r) {
#pragma unroll
                for (int s = 0; s < KERNEL_WIDTH; ++s) sum += kernel[r * KERNEL_WIDTH + s] * pixels[r * WIDTH + s];
            }
        }
        out[n * OUTPUTS * ROWS * COLUMNS + i] = sum;
    }
}
