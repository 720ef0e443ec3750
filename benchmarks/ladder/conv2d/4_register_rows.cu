// 4. A thread computes a whole row of outputs: the pixels of an input row, once in registers, serve all S taps of all of
// its outputs, and a weight serves COLUMNS outputs.
//
// A multiply-add now costs (1 / COLUMNS + (COLUMNS + S - 1) / (COLUMNS S)) loads instead of two: with 8 columns and 5
// taps, 0.43. The price is fewer threads: OUTPUTS x ROWS for an image.

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

    for (int i = threadIdx.x; i < OUTPUTS * ROWS; i += blockDim.x) {
        const int p = i % ROWS, k = i / ROWS;
        float sums[COLUMNS];
#pragma unroll
        for (int q = 0; q < COLUMNS; ++q) sums[q] = bias[k];
        for (int c = 0; c < INPUTS; ++c) {
#pragma unroll
            for (int r = 0; r < KERNEL_HEIGHT; ++r) {
                const float* pixels = maps + (c * HEIGHT + p + r) * WIDTH;
                const float* kernel = kernels + (k * INPUTS + c) * AREA + r * KERNEL_WIDTH;
                float row[WIDTH];
#pragma unroll
                for (int w = 0; w < WIDTH; ++w) row[w] = pixels[w];
#pragma unroll
                for (int s = 0; s < KERNEL_WIDTH; ++s) {
                    const float factor = kernel[s];
#pragma unroll
                    for (int q = 0; q < COLUMNS; ++q) sums[q] += factor * row[q + s];
                }
            }
        }
        float* target = out + ((n * OUTPUTS + k) * ROWS + p) * COLUMNS;
#pragma unroll
        for (int q = 0; q < COLUMNS; ++q) target[q] = sums[q];
    }
}
