// Answers: each block takes one image to its logits; with labels also to its loss and its class.

extern "C" __global__ void __launch_bounds__(THREADS, 1) answer(
    const unsigned char* __restrict__ images, const int* __restrict__ labels, const float* __restrict__ parameters,
    float* logits, float* losses, int* answers)
{
    extern __shared__ float4 shared[];
    Image& image = *reinterpret_cast<Image*>(shared);
    const int n = blockIdx.x;
    load_kernels<C1>(parameters, image.kernels1);
    load_kernels<C3>(parameters + C1::PARAMETERS, image.kernels3);
    load_pixels(images + static_cast<size_t>(n) * (IMAGE_HEIGHT * IMAGE_WIDTH), nullptr, image.pixels);
    __syncthreads();
    forward(image, parameters);
    if (logits) {
        for (int k = threadIdx.x; k < CLASSES; k += THREADS) logits[n * CLASSES + k] = image.logits[k];
    }
    if (labels && threadIdx.x < 32) {
        const float2 parts = softmax_parts(image.logits);
        if (threadIdx.x == 0) {
            losses[n] = logf(parts.y) - (image.logits[labels[n]] - parts.x);
            int largest = 0;
            for (int k = 1; k < CLASSES; ++k) {
                const float value = image.logits[k], best = image.logits[largest];
                if (value > best || (value != value && best == best)) largest = k;
            }
            answers[n] = largest;
        }
    }
}
