// Answers: each block takes one image to its logits; with targets also to its loss and its class. With an order, the
// images are those that it names, and with transforms they are distorted.

extern "C" __global__ void __launch_bounds__(THREADS, 1) answer(
    const unsigned char* __restrict__ images, const int* __restrict__ order, const float* __restrict__ transforms,
    const float* __restrict__ targets, const float* __restrict__ parameters, float* logits, float* losses, int* answers)
{
    extern __shared__ float4 shared[];
    Image& image = *reinterpret_cast<Image*>(shared);
    const int n = blockIdx.x, index = order ? order[n] : n;
    load_kernels<C1>(parameters, image.kernels1);
    load_kernels<C3>(parameters + C1::PARAMETERS, image.kernels3);
    load_pixels(
        images + static_cast<size_t>(index) * (IMAGE_HEIGHT * IMAGE_WIDTH), transforms ? transforms + 6 * n : nullptr,
        image.pixels);
    __syncthreads();
    forward(image, parameters);
    if (logits) {
        for (int k = threadIdx.x; k < CLASSES; k += THREADS) logits[n * CLASSES + k] = image.logits[k];
    }
    if (targets && threadIdx.x < 32) {
        const float2 parts = softmax_parts(image.logits);
        if (threadIdx.x == 0) {
            int largest = 0;
            for (int k = 1; k < CLASSES; ++k) {
                const float value = image.logits[k], best = image.logits[largest];
                if (value > best || (value != value && best == best)) largest = k;
            }
            losses[n] = cross_entropy(image.logits, parts, targets + n * CLASSES);
            answers[n] = largest;
        }
    }
}
