// What is done with the K logits of an image. Classes are few: one image a thread.

extern "C" __global__ void cross_entropy(
    const float* __restrict__ logits, const int* __restrict__ labels, float* __restrict__ losses,
    float* __restrict__ dlogits, float smoothing, int count, int classes)
{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    logits += n * classes;
    dlogits += n * classes;
    float largest = logits[0];
    for (int k = 1; k < classes; ++k) largest = larger(logits[k], largest);
    float total = 0.0f, mean = 0.0f;
    for (int k = 0; k < classes; ++k) {
        dlogits[k] = expf(logits[k] - largest);
        total += dlogits[k];
        mean += logits[k] / classes;
    }
    const float labeled = logits[labels[n]];
    losses[n] = logf(total) - (labeled - largest) + smoothing * (labeled - mean);
    for (int k = 0; k < classes; ++k) {
        const float target = (k == labels[n] ? 1.0f - smoothing : 0.0f) + smoothing / classes;
        dlogits[k] = (dlogits[k] / total - target) / count;
    }
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
