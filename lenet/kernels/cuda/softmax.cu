// What is done with the K logits of an image. Classes are few: one image a thread.

extern "C" __global__ void cross_entropy(
    const float* __restrict__ logits, const float* __restrict__ targets, float* __restrict__ losses,
    float* __restrict__ dlogits, int count, int classes)
{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    logits += n * classes;
    targets += n * classes;
    dlogits += n * classes;
    float largest = logits[0];
    for (int k = 1; k < classes; ++k) largest = larger(logits[k], largest);
    float total = 0.0f, loss = 0.0f;
    for (int k = 0; k < classes; ++k) {
        dlogits[k] = expf(logits[k] - largest);
        total += dlogits[k];
    }
    for (int k = 0; k < classes; ++k) {
        loss += targets[k] * (logf(total) - (logits[k] - largest));
        dlogits[k] = (dlogits[k] / total - targets[k]) / count;
    }
    losses[n] = loss;
}

// The first of the largest; the first NaN, if there is one.
extern "C" __global__ void argmax(const float* __restrict__ x, int* __restrict__ out, int count, int classes)
{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    x += n * classes;
    int best = 0;
    for (int k = 1; k < classes; ++k) {
        if (x[k] > x[best] || (x[k] != x[k] && x[best] == x[best])) best = k;
    }
    out[n] = best;
}
