// 1. The formula, one output a thread. The geometry is known only at run time.
//
// Each output loads C R S pixels and as many weights from global memory, and there are two integer multiplications to
// find each: the caches serve most of the loads, but the instructions are there.

extern "C" __global__ void forward(
    const float* x, const float* weight, const float* bias, float* out, int images, int inputs, int height, int width,
    int outputs, int kernel_height, int kernel_width)
{
    const int rows = height - kernel_height + 1, columns = width - kernel_width + 1;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= images * outputs * rows * columns) return;
    const int q = i % columns, p = i / columns % rows, k = i / (columns * rows) % outputs, n = i / (columns * rows * outputs);
    float sum = bias[k];
    for (int c = 0; c < inputs; ++c) {
        for (int r = 0; r < kernel_height; ++r) {
            for (int s = 0; s < kernel_width; ++s) {
                sum += weight[((k * inputs + c) * kernel_height + r) * kernel_width + s]
                     * x[((n * inputs + c) * height + p + r) * width + q + s];
            }
        }
    }
    out[i] = sum;
}
