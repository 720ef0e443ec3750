// Pooling, one window a thread. Maps do not matter: a batch is so many rows of windows.

constexpr int ROWS = HEIGHT / WINDOW, COLUMNS = WIDTH / WINDOW;

// The first pixel of a window.
__device__ inline int corner(int window)
{
    const int q = window % COLUMNS, p = window / COLUMNS % ROWS, map = window / (COLUMNS * ROWS);
    return (map * HEIGHT + p * WINDOW) * WIDTH + q * WINDOW;
}

extern "C" __global__ void mean_forward(const float* __restrict__ x, float* __restrict__ out, int windows)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= windows) return;
    x += corner(i);
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < WINDOW * WINDOW; ++j) sum += x[j / WINDOW * WIDTH + j % WINDOW];
    out[i] = sum * (1.0f / (WINDOW * WINDOW));
}

extern "C" __global__ void mean_backward(const float* __restrict__ dy, float* __restrict__ dx, int windows)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= windows) return;
    dx += corner(i);
    const float share = dy[i] * (1.0f / (WINDOW * WINDOW));
#pragma unroll
    for (int j = 0; j < WINDOW * WINDOW; ++j) dx[j / WINDOW * WIDTH + j % WINDOW] = share;
}

// argmax: which pixel of the window, row by row; the first of equals, the first NaN if there is one.
extern "C" __global__ void max_forward(
    const float* __restrict__ x, float* __restrict__ out, unsigned char* __restrict__ argmax, int windows)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= windows) return;
    x += corner(i);
    float largest = x[0];
    int hit = 0;
#pragma unroll
    for (int j = 1; j < WINDOW * WINDOW; ++j) {
        const float value = x[j / WINDOW * WIDTH + j % WINDOW];
        if (value > largest || (value != value && largest == largest)) {
            largest = value;
            hit = j;
        }
    }
    out[i] = largest;
    argmax[i] = hit;
}

extern "C" __global__ void max_backward(
    const float* __restrict__ dy, const unsigned char* __restrict__ argmax, float* __restrict__ dx, int windows)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= windows) return;
    dx += corner(i);
    const int hit = argmax[i];
#pragma unroll
    for (int j = 0; j < WINDOW * WINDOW; ++j) dx[j / WINDOW * WIDTH + j % WINDOW] = j == hit ? dy[i] : 0.0f;
}
