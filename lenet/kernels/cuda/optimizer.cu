// One step of an update rule, and of the moving average: one parameter a thread.

extern "C" __global__ void step(
    float* parameters, const float* __restrict__ gradients, float* moments, float* average,
    const float* __restrict__ hyper, int total)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= total) return;
    Weight weight = load_weight(parameters, moments, average, total, i);
    apply_rule(weight, gradients[i], hyper);
    store_weight(weight, parameters, moments, average, total, i);
}
