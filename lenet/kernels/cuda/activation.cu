// Squashing functions, one number a thread; out may be x, and dx may be dy.

extern "C" __global__ void forward(const float* x, float* out, int count)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = activate<ACTIVATION>(x[i]);
}

extern "C" __global__ void backward(const float* dy, const float* y, float* dx, int count)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) dx[i] = dy[i] * derivative<ACTIVATION>(y[i]);
}
