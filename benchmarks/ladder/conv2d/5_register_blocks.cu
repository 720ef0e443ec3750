// 5. A thread computes blocks of 2 rows x 4 columns of 2 output maps: the pixels serve both maps, the weights eight
// outputs, and there are twice as many threads as in 4 for half the registers.
//
// A multiply-add costs (2 + 8) loads for 16 sums in the inner loop over a row of taps, about 0.4; and neighboring
// threads write 16 bytes each, one behind the other.

extern "C" __global__ void forward(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ out, int images)
{
    constexpr int AREA = KERNEL_HEIGHT * KERNEL_WIDTH, PIXELS = INPUTS * HEIGHT * WIDTH;
    constexpr int MAPS = 2, HIGH = 2, WIDE = 4;  // of a block of sums
    static_assert(OUTPUTS % MAPS == 0 && ROWS % HIGH == 0 && COLUMNS % WIDE == 0, "whole blocks only");
    __shared__ float maps[PIXELS], kernels[OUTPUTS * INPUTS * AREA];
    const int n = blockIdx.x;
    for (int i = threadIdx.x; i < PIXELS; i += blockDim.x) maps[i] = x[n * PIXELS + i];
    for (int i = threadIdx.x; i < OUTPUTS * INPUTS * AREA; i += blockDim.x) kernels[i] = weight[i];
    __syncthreads();

    constexpr int ACROSS = COLUMNS / WIDE, DOWN = ROWS / HIGH;
    for (int i = threadIdx.x; i < OUTPUTS / MAPS * DOWN * ACROSS; i += blockDim.x) {
        const int q = i % ACROSS * WIDE, p = i / ACROSS % DOWN * HIGH, k = i / (ACROSS * DOWN) * MAPS;
        float sums[MAPS][HIGH][WIDE];
#pragma unroll
        for (int m = 0; m < MAPS; ++m) {
#pragma unroll
            for (int j = 0; j < HIGH * WIDE; ++j) sums[m][j / WIDE][j % WIDE] = bias[k + m];
        }
        for (int c = 0; c < INPUTS; ++c) {
#pragma unroll
            for (int h = 0; h < HIGH + KERNEL_HEIGHT - 1; ++h) {
                float row[WIDE + KERNEL_WIDTH - 1];
#pragma unroll
                for (int w = 0; w < WIDE + KERNEL_WIDTH - 1; ++w) row[w] = maps[(c * HEIGHT + p + h) * WIDTH + q + w];
#pragma unroll
                for (int j = 0; j < HIGH; ++j) {
                    const int r = h - j;
                    if (r < 0 || r >= KERNEL_HEIGHT) continue;
#pragma unroll
                    for (int s = 0; s < KERNEL_WIDTH; ++s) {
#pragma unroll
                        for (int m = 0; m < MAPS; ++m) {
                            const float factor = kernels[((k + m) * INPUTS + c) * AREA + r * KERNEL_WIDTH + s];
#pragma unroll
                            for (int l = 0; l < WIDE; ++l) sums[m][j][l] += factor * row[l + s];
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int m = 0; m < MAPS; ++m) {
#pragma unroll
            for (int j = 0; j < HIGH; ++j) {
                float* target = out + ((n * OUTPUTS + k + m) * ROWS + p + j) * COLUMNS + q;
#pragma unroll
                for (int l = 0; l < WIDE; ++l) target[l] = sums[m][j][l];
            }
        }
    }
}
