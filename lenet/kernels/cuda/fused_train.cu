// The first of two launches of a training step: each block takes one image of the batch there and back again.

// The links of each input map of C3, on the way back; and the output map of each kernel.
__constant__ const short back_first[] = {BACK_FIRST}, back_source[] = {BACK_SOURCE}, back_kernel[] = {BACK_KERNEL};
__constant__ const short c1_output[] = {C1_OUTPUT}, c3_output[] = {C3_OUTPUT};

// Turn the derivatives of the pooled into deltas: times the gradient of each window, which comes in parts.
template <class Conv, int PARTS>
__device__ void unpool(const float* parts, float* slope)
{
    for (int window = threadIdx.x; window < Conv::WINDOWS; window += THREADS) {
        const int q = window % (Conv::COLUMNS / 2) * 2, row = window / (Conv::COLUMNS / 2) * 2;
        float dy = 0.0f;
#pragma unroll
        for (int part = 0; part < PARTS; ++part) dy += parts[part * Conv::WINDOWS + window];
        float* at = slope + row * Conv::STRIDE + Conv::BORDER + q;
#pragma unroll
        for (int i = 0; i < 4; ++i) at[i / 2 * Conv::STRIDE + i % 2] *= dy;
    }
}

// Sum deltas times inputs for the taps of a kernel row, over each part of the rows; and the deltas, for the bias.
// parts is (PARTS, parameters of the convolution).
template <class Conv, int PARTS>
__device__ void kernel_gradients(
    const float* x, const float* deltas, const short* first, const short* source, const short* output, float* parts)
{
    constexpr int ROWS = (Conv::ROWS + PARTS - 1) / PARTS;
    constexpr int WIDE = Conv::COLUMNS % 8 == 0 ? 8 : Conv::COLUMNS % 4 == 0 ? 4 : 2;
    for (int item = threadIdx.x; item < PARTS * Conv::CONNECTIONS * KERNEL_HEIGHT; item += THREADS) {
        const int r = item % KERNEL_HEIGHT, part = item / KERNEL_HEIGHT % PARTS;
        const int e = item / (KERNEL_HEIGHT * PARTS), k = output[e];
        const int last = min((part + 1) * ROWS, Conv::ROWS);
        float taps[KERNEL_WIDTH] = {}, bias = 0.0f;
        for (int p = part * ROWS; p < last; ++p) {
            const float* delta_row = deltas + (k * Conv::ROWS + p) * Conv::STRIDE + Conv::BORDER;
            const float* x_row = x + (source[e] * Conv::HEIGHT + p + r) * Conv::WIDTH;
            for (int q = 0; q < Conv::COLUMNS; q += WIDE) {
                float delta[WIDE], row[WIDE + KERNEL_WIDTH - 1];
                load_row<Conv::STRIDE>(delta, delta_row + q);
                load_row<Conv::WIDTH>(row, x_row + q);
#pragma unroll
                for (int i = 0; i < WIDE; ++i) {
                    bias += delta[i];
#pragma unroll
                    for (int s = 0; s < KERNEL_WIDTH; ++s) taps[s] += delta[i] * row[i + s];
                }
            }
        }
        float* sums = parts + part * Conv::PARAMETERS;
#pragma unroll
        for (int s = 0; s < KERNEL_WIDTH; ++s) sums[(e * KERNEL_HEIGHT + r) * KERNEL_WIDTH + s] = taps[s];
        if (r == 0 && e == first[k]) sums[Conv::CONNECTIONS * AREA + k] = bias;
    }
}

// Add the parts of the gradients and write them out.
template <class Conv, int PARTS>
__device__ void keep_gradients(const float* parts, float* gradients)
{
    for (int i = threadIdx.x; i < Conv::PARAMETERS; i += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int part = 0; part < PARTS; ++part) sum += parts[part * Conv::PARAMETERS + i];
        gradients[i] = sum;
    }
}

// Sum weights times deltas for each input, over each part of the outputs; parts is (PARTS, INPUTS).
template <class Layer, int PARTS>
__device__ void dense_backward(const float* __restrict__ parameters, const float* delta, float* parts)
{
    constexpr int VECTOR = Layer::VECTOR, ACROSS = Layer::INPUTS / VECTOR;
    constexpr int ROWS = (Layer::OUTPUTS + PARTS - 1) / PARTS;
    for (int item = threadIdx.x; item < PARTS * ACROSS; item += THREADS) {
        const int d = item % ACROSS * VECTOR, part = item / ACROSS;
        const int last = min((part + 1) * ROWS, Layer::OUTPUTS);
        float sums[VECTOR] = {};
#pragma unroll 8
        for (int k = part * ROWS; k < last; ++k) {
            float w[VECTOR];
            load<VECTOR>(w, parameters + Layer::WEIGHT + k * Layer::INPUTS + d);
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) sums[i] += delta[k] * w[i];
        }
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) parts[part * Layer::INPUTS + d + i] = sums[i];
    }
}

// Add the parts, and pass them through the derivative of the squashing function of the layer below, whose outputs are y.
template <class Layer, int PARTS>
__device__ void unsquash(const float* parts, const float* y, float* delta)
{
    for (int d = threadIdx.x; d < Layer::INPUTS; d += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int part = 0; part < PARTS; ++part) sum += parts[part * Layer::INPUTS + d];
        delta[d] = sum * derivative<ACTIVATION>(y[d]);
    }
}

// The loss, and the logits turned into their gradient, by the first warp.
__device__ inline void loss_and_deltas(float* logits, const float* targets, int count, float* loss)
{
    if (threadIdx.x >= 32) return;
    const float2 parts = softmax_parts(logits);
    if (threadIdx.x == 0) {
        *loss = cross_entropy(logits, parts, targets);
    }
    __syncwarp();
    for (int k = threadIdx.x; k < CLASSES; k += 32) {
        logits[k] = (expf(logits[k] - parts.x) / parts.y - targets[k]) * (1.0f / count);
    }
}

template <int COUNT>
__device__ void keep(const float* from, float* to)
{
    for (int i = threadIdx.x; i < COUNT; i += THREADS) to[i] = from[i];
}

// Train on one batch: step `step` behind the `progress[0]` that are done, of an epoch of `progress[1]` images.
extern "C" __global__ void __launch_bounds__(THREADS, 1) train(
    const unsigned char* __restrict__ images, const int* __restrict__ order, const float* __restrict__ targets,
    const float* __restrict__ transforms, const int* __restrict__ progress, int step, int batch_size,
    const float* __restrict__ parameters, float* losses, Record* records)
{
    extern __shared__ float4 shared[];
    Image& image = *reinterpret_cast<Image*>(shared);
    const int first = (progress[0] + step) * batch_size, count = min(batch_size, progress[1] - first);
    const int n = blockIdx.x, place = first + n;
    if (n >= count) return;

    load_kernels<C1>(parameters, image.kernels1);
    load_kernels<C3>(parameters + C1::PARAMETERS, image.kernels3);
    for (int i = threadIdx.x; i < C3::OUTPUTS * C3::ROWS * C3::STRIDE; i += THREADS) image.slope3[i] = 0.0f;
    load_pixels(
        images + static_cast<size_t>(order[place]) * (IMAGE_HEIGHT * IMAGE_WIDTH), transforms ? transforms + 6 * place : nullptr,
        image.pixels);
    __syncthreads();
    forward(image, parameters);

    loss_and_deltas(image.logits, targets + place * CLASSES, count, losses + place);
    __syncthreads();
    dense_backward<Output, OUTPUT_PARTS>(parameters, image.logits, image.scratch);
    __syncthreads();
    unsquash<Output, OUTPUT_PARTS>(image.scratch, image.y6, image.delta6);
    __syncthreads();
    dense_backward<F6, F6_PARTS>(parameters, image.delta6, image.scratch);
    __syncthreads();
    unsquash<F6, F6_PARTS>(image.scratch, image.y5, image.delta5);
    __syncthreads();
    Record& record = records[n];
    keep<F5::INPUTS>(image.y4, record.x5);
    keep<F6::INPUTS>(image.y5, record.x6);
    keep<Output::INPUTS>(image.y6, record.x7);
    keep<F5::OUTPUTS>(image.delta5, record.delta5);
    keep<F6::OUTPUTS>(image.delta6, record.delta6);
    keep<Output::OUTPUTS>(image.logits, record.delta7);
    dense_backward<F5, F5_PARTS>(parameters, image.delta5, image.scratch);
    __syncthreads();
    unpool<C3, F5_PARTS>(image.scratch, image.slope3);
    __syncthreads();

    // The gradients of C3 and the way back through it need the same deltas, and not each other.
    float* back = image.scratch + padded(GRADIENT3_PARTS * C3::PARAMETERS, 4);
    kernel_gradients<C3, GRADIENT3_PARTS>(image.y2, image.slope3, c3_first, c3_source, c3_output, image.scratch);
    correlate_maps<true, C1_MAPS, C3::HEIGHT, C3::WIDTH, C3::ROWS, C3::STRIDE, BACK_PARTS>(
        image.slope3, image.kernels3, back_first, back_source, back_kernel, back);
    __syncthreads();
    keep_gradients<C3, GRADIENT3_PARTS>(image.scratch, record.gradients + C1::PARAMETERS);
    unpool<C1, BACK_PARTS>(back, image.slope1);
    __syncthreads();
    kernel_gradients<C1, GRADIENT1_PARTS>(image.pixels, image.slope1, c1_first, c1_source, c1_output, image.scratch);
    __syncthreads();
    keep_gradients<C1, GRADIENT1_PARTS>(image.scratch, record.gradients);
}

// Count the steps that are done: behind the last of a graph.
extern "C" __global__ void advance(int* progress, int steps)
{
    progress[0] += steps;
}
