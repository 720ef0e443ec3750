// What a GPU can do at best: chains of multiply-adds that never leave the registers, and a stream of memory.

extern "C" __global__ void multiply_add(float* out, int rounds, float factor, float summand)
{
    float total[CHAINS];
    for (int chain = 0; chain < CHAINS; ++chain) total[chain] = threadIdx.x + chain;
    for (int round = 0; round < rounds; ++round) {
        for (int chain = 0; chain < CHAINS; ++chain) total[chain] = total[chain] * factor + summand;
    }
    float sum = 0.0f;
    for (int chain = 0; chain < CHAINS; ++chain) sum += total[chain];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;  // a number that needs all of it
}

extern "C" __global__ void stream(
    const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ out, float factor, int total)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < total) out[i] = x[i] + factor * y[i];
}
