// 2. The same, compiled for one geometry: loops unroll, divisions become multiplications, addresses become offsets.

extern "C" __global__ void forward(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ out, int images)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= images * OUTPUTS * ROWS * COLUMNS) return;
    const int q = i % COLUMNS, p = i / COLUMNS % ROWS, k = i / (COLUMNS * ROWS) % OUTPUTS;
    const int n = i / (COLUMNS * ROWS * OUTPUTS);
    float sum = bias[k];
    for (int c = 0; c < INPUTS; ++c) {
        const float* pixels = x + ((n * INPUTS + c) * HEIGHT + p) * WIDTH + q;
        const float* kernel = weight + (k * INPUTS + c) * KERNEL_HEIGHT * KERNEL_WIDTH;
#pragma unroll
        for (int r = 0; r < KERNEL_HEIGHT; ++r) {
#pragma unroll
            for (int s = 0; s < KERNEL_WIDTH; ++s) sum += kernel[r * KERNEL_WIDTH + s] * pixels[r * WIDTH + s];
        }
    }
    out[i] = sum;
}
