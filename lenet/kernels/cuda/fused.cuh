// What one block of threads does with one image of LeNet-5: forward, loss, backward. All of it stays in shared memory.
//
// Letters as in lenet/specs.py. Sums over threads are always added in the same order.

constexpr int AREA = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int KERNEL_STRIDE = (AREA + 3) / 4 * 4;  // each kernel begins at 16 bytes

template <int INPUTS_, int HEIGHT_, int WIDTH_, int OUTPUTS_, int CONNECTIONS_, int BORDER_>
struct Convolution {
    static constexpr int INPUTS = INPUTS_, HEIGHT = HEIGHT_, WIDTH = WIDTH_;
    static constexpr int OUTPUTS = OUTPUTS_, CONNECTIONS = CONNECTIONS_;
    static constexpr int ROWS = HEIGHT - KERNEL_HEIGHT + 1, COLUMNS = WIDTH - KERNEL_WIDTH + 1;
    static constexpr int BORDER = BORDER_, STRIDE = COLUMNS + 2 * BORDER;  // of the slopes: zeros left and right
    static constexpr int OUTPUT_SIZE = OUTPUTS * ROWS * COLUMNS;
    static constexpr int WINDOWS = OUTPUTS * (ROWS / 2) * (COLUMNS / 2);
    static constexpr int PARAMETERS = CONNECTIONS * AREA + OUTPUTS;
};
using C1 = Convolution<1, IMAGE_HEIGHT, IMAGE_WIDTH, C1_MAPS, C1_MAPS, 0>;
using C3 = Convolution<C1_MAPS, C1::ROWS / 2, C1::COLUMNS / 2, C3_MAPS, C3_CONNECTIONS, KERNEL_WIDTH - 1>;

template <int INPUTS_, int OUTPUTS_, int WEIGHT_>
struct Dense {
    static constexpr int INPUTS = INPUTS_, OUTPUTS = OUTPUTS_;
    static constexpr int WEIGHT = WEIGHT_, BIAS = WEIGHT + OUTPUTS * INPUTS, END = BIAS + OUTPUTS;
    static constexpr int VECTOR = WEIGHT % 4 == 0 && INPUTS % 4 == 0 ? 4 : 1;  // weights that are loaded at once
};
using F5 = Dense<C3::WINDOWS, F5_UNITS, C1::PARAMETERS + C3::PARAMETERS>;
using F6 = Dense<F5_UNITS, F6_UNITS, F5::END>;
using Output = Dense<F6_UNITS, CLASSES, F6::END>;

// Which maps a convolution connects: output map k has the links first[k] to first[k + 1] - 1, each with an input map and a
// kernel.
__constant__ const short c1_first[] = {C1_FIRST}, c1_source[] = {C1_SOURCE}, c1_kernel[] = {C1_KERNEL};
__constant__ const short c3_first[] = {C3_FIRST}, c3_source[] = {C3_SOURCE}, c3_kernel[] = {C3_KERNEL};

// The shared memory of a block.
struct Image {
    alignas(16) float pixels[IMAGE_HEIGHT * IMAGE_WIDTH];
    alignas(16) float kernels1[C1::CONNECTIONS * KERNEL_STRIDE];
    alignas(16) float kernels3[C3::CONNECTIONS * KERNEL_STRIDE];
    alignas(16) float slope1[C1::OUTPUTS * C1::ROWS * C1::STRIDE];  // derivatives of the pooled, then deltas
    alignas(16) float slope3[C3::OUTPUTS * C3::ROWS * C3::STRIDE];
    alignas(16) float y2[C1::WINDOWS];
    alignas(16) float y4[C3::WINDOWS];
    alignas(16) float y5[F5_UNITS];
    alignas(16) float y6[F6_UNITS];
    alignas(16) float logits[CLASSES];
    alignas(16) float delta5[F5_UNITS];
    alignas(16) float delta6[F6_UNITS];
    alignas(16) float scratch[SCRATCH];  // sums of some threads, before they are added
};
static_assert(sizeof(Image) == SHARED_BYTES, "the host counts the same");

constexpr int padded(int count, int to) { return (count + to - 1) / to * to; }
constexpr int TILE_OUTPUTS = 16, TILE_INPUTS = 32;  // weights that a block of the update owns

// What an image leaves behind for the update.
struct Record {
    alignas(16) float gradients[C1::PARAMETERS + C3::PARAMETERS];
    alignas(16) float x5[padded(F5::INPUTS, TILE_INPUTS)];
    alignas(16) float x6[padded(F6::INPUTS, TILE_INPUTS)];
    alignas(16) float x7[padded(Output::INPUTS, TILE_INPUTS)];
    alignas(16) float delta5[padded(F5::OUTPUTS, TILE_OUTPUTS)];
    alignas(16) float delta6[padded(F6::OUTPUTS, TILE_OUTPUTS)];
    alignas(16) float delta7[padded(Output::OUTPUTS, TILE_OUTPUTS)];
};
static_assert(sizeof(Record) == RECORD_BYTES, "the host counts the same");

template <int COUNT>
__device__ __forceinline__ void load(float* to, const float* from)
{
    if constexpr (COUNT == 4) {
        const float4 v = *reinterpret_cast<const float4*>(from);
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (COUNT == 2) {
        const float2 v = *reinterpret_cast<const float2*>(from);
        to[0] = v.x, to[1] = v.y;
    } else {
        to[0] = *from;
    }
}

// A part of a row, four numbers at a time where rows of this STRIDE, and the part, are multiples of four.
template <int STRIDE, int COUNT>
__device__ __forceinline__ void load_row(float (&to)[COUNT], const float* from)
{
    constexpr int VECTOR = STRIDE % 4 == 0 && COUNT % 4 == 0 ? 4 : 2;
#pragma unroll
    for (int i = 0; i < COUNT; i += VECTOR) load<VECTOR>(to + i, from + i);
}

// Images ----------------------------------------------------------------------------------------------------------------

// Copy the kernels to shared memory, each to its own 16 bytes.
template <class Conv>
__device__ void load_kernels(const float* weights, float* kernels)
{
    for (int i = threadIdx.x; i < Conv::CONNECTIONS * KERNEL_STRIDE; i += THREADS) {
        const int e = i / KERNEL_STRIDE, tap = i % KERNEL_STRIDE;
        kernels[i] = tap < AREA ? weights[e * AREA + tap] : 0.0f;
    }
}

// Resample one image through its affine map, or take it as it is.
__device__ inline void load_pixels(const unsigned char* image, const float* transform, float* pixels)
{
    for (int i = threadIdx.x; i < IMAGE_HEIGHT * IMAGE_WIDTH; i += THREADS) {
        pixels[i] = transform ? resample(image, IMAGE_HEIGHT, IMAGE_WIDTH, transform, i % IMAGE_WIDTH, i / IMAGE_WIDTH)
                              : image[i] * (1.0f / 255.0f);
    }
}

// Convolutions ----------------------------------------------------------------------------------------------------------

// Add the correlation of one kernel with one map to 2 rows of outputs; x points to their first pixel, in row `top`.
// On the way back the kernel is turned around, and rows above and below the map are zero.
template <bool BACK, int HEIGHT, int STRIDE, int COLUMNS>
__device__ __forceinline__ void correlate(float (&sums)[2][COLUMNS], const float* x, int top, const float* kernel)
{
    float taps[KERNEL_STRIDE];
#pragma unroll
    for (int i = 0; i < KERNEL_STRIDE; i += 4) load<4>(taps + i, kernel + i);
#pragma unroll
    for (int i = 0; i < KERNEL_HEIGHT + 1; ++i) {
        if (BACK && (top + i < 0 || top + i >= HEIGHT)) continue;
        float row[COLUMNS + KERNEL_WIDTH - 1];
        load_row<STRIDE>(row, x + i * STRIDE);
#pragma unroll
        for (int p = 0; p < 2; ++p) {
            const int r = i - p;
            if (r < 0 || r >= KERNEL_HEIGHT) continue;
#pragma unroll
            for (int s = 0; s < KERNEL_WIDTH; ++s) {
                const float tap = taps[BACK ? AREA - 1 - (r * KERNEL_WIDTH + s) : r * KERNEL_WIDTH + s];
#pragma unroll
                for (int q = 0; q < COLUMNS; ++q) sums[p][q] += tap * row[q + s];
            }
        }
    }
}

// Correlate all maps. A thread forms 2 x 4 sums over every PARTS-th link of a map: sums is (PARTS, MAPS, ROWS, COLUMNS).
template <bool BACK, int MAPS, int ROWS, int COLUMNS, int HEIGHT, int STRIDE, int PARTS>
__device__ void correlate_maps(
    const float* x, const float* kernels, const short* first, const short* source, const short* kernel, float* sums)
{
    constexpr int WIDE = COLUMNS % 4 == 0 ? 4 : 2, ACROSS = COLUMNS / WIDE, DOWN = ROWS / 2;
    for (int item = threadIdx.x; item < PARTS * MAPS * DOWN * ACROSS; item += THREADS) {
        // On the way back the threads of a warp share their rows, so that they skip the same ones.
        const int q = item % ACROSS * WIDE;
        const int p = (BACK ? item / (ACROSS * MAPS * PARTS) : item / ACROSS % DOWN) * 2;
        const int rest = BACK ? item / ACROSS : item / (ACROSS * DOWN);
        const int map = rest % MAPS, part = rest / MAPS % PARTS, top = BACK ? p - KERNEL_HEIGHT + 1 : p;
        float block[2][WIDE] = {};
        for (int link = first[map] + part; link < first[map + 1]; link += PARTS) {
            const float* at = x + (source[link] * HEIGHT + top) * STRIDE + q;
            correlate<BACK, HEIGHT, STRIDE>(block, at, top, kernels + kernel[link] * KERNEL_STRIDE);
        }
#pragma unroll
        for (int i = 0; i < 2 * WIDE; ++i) {
            sums[((part * MAPS + map) * ROWS + p + i / WIDE) * COLUMNS + q + i % WIDE] = block[i / WIDE][i % WIDE];
        }
    }
}

// Add the parts of the sums and the bias, squash and pool windows of 2 x 2; keep the derivative of the pooled by each sum.
template <class Conv, int PARTS>
__device__ void squash_and_pool(const float* sums, const float* biases, float* slope, float* pooled)
{
    for (int window = threadIdx.x; window < Conv::WINDOWS; window += THREADS) {
        const int q = window % (Conv::COLUMNS / 2) * 2, row = window / (Conv::COLUMNS / 2) * 2;  // row: of all maps
        const float bias = biases[row / Conv::ROWS];
        float y[4] = {bias, bias, bias, bias};
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                float pair[2];
                load<2>(pair, sums + part * Conv::OUTPUT_SIZE + (row + i / 2) * Conv::COLUMNS + q);
                y[i] += pair[0], y[i + 1] += pair[1];
            }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) y[i] = activate<ACTIVATION>(y[i]);
        float largest = y[0];
        int hit = 0;
#pragma unroll
        for (int i = 1; i < 4; ++i) {
            if (y[i] > largest || y[i] != y[i]) largest = y[i], hit = i;
        }
        pooled[window] = POOL_MAX ? largest : 0.25f * (y[0] + y[1] + y[2] + y[3]);
        float* at = slope + row * Conv::STRIDE + Conv::BORDER + q;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float share = POOL_MAX ? (i == hit ? 1.0f : 0.0f) : 0.25f;
            at[i / 2 * Conv::STRIDE + i % 2] = share * derivative<ACTIVATION>(y[i]);
        }
    }
}

// Dense layers ----------------------------------------------------------------------------------------------------------

// y = f(w x + b), or without f: 8 threads for each output, each with every 8th piece of the inputs.
template <class Layer, bool SQUASHED>
__device__ void dense_forward(const float* __restrict__ parameters, const float* x, float* y)
{
    constexpr int LANES = 8, VECTOR = Layer::VECTOR;
    const int lane = threadIdx.x % LANES;
#pragma unroll
    for (int first = 0; first < Layer::OUTPUTS; first += THREADS / LANES) {  // all threads go around, to shuffle
        const int k = first + threadIdx.x / LANES;
        float sum = 0.0f;
        if (k < Layer::OUTPUTS) {
            const float* weights = parameters + Layer::WEIGHT + k * Layer::INPUTS;
#pragma unroll 8
            for (int d = lane * VECTOR; d < Layer::INPUTS; d += LANES * VECTOR) {
                float w[VECTOR], value[VECTOR];
                load<VECTOR>(w, weights + d);
                load<VECTOR>(value, x + d);
#pragma unroll
                for (int i = 0; i < VECTOR; ++i) sum += w[i] * value[i];
            }
        }
#pragma unroll
        for (int other = LANES / 2; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
        if (k < Layer::OUTPUTS && lane == 0) {
            sum += parameters[Layer::BIAS + k];
            y[k] = SQUASHED ? activate<ACTIVATION>(sum) : sum;
        }
    }
}

// From the pixels, and the kernels in shared memory, to the logits.
__device__ inline void forward(Image& image, const float* __restrict__ parameters)
{
    correlate_maps<false, C1_MAPS, C1::ROWS, C1::COLUMNS, C1::HEIGHT, C1::WIDTH, 1>(
        image.pixels, image.kernels1, c1_first, c1_source, c1_kernel, image.slope1);
    __syncthreads();
    squash_and_pool<C1, 1>(image.slope1, parameters + C1_MAPS * AREA, image.slope1, image.y2);
    __syncthreads();
    correlate_maps<false, C3_MAPS, C3::ROWS, C3::COLUMNS, C3::HEIGHT, C3::WIDTH, C3_PARTS>(
        image.y2, image.kernels3, c3_first, c3_source, c3_kernel, image.scratch);
    __syncthreads();
    squash_and_pool<C3, C3_PARTS>(
        image.scratch, parameters + C1::PARAMETERS + C3_CONNECTIONS * AREA, image.slope3, image.y4);
    __syncthreads();
    dense_forward<F5, true>(parameters, image.y4, image.y5);
    __syncthreads();
    dense_forward<F6, true>(parameters, image.y5, image.y6);
    __syncthreads();
    dense_forward<Output, false>(parameters, image.y6, image.logits);
    __syncthreads();
}

// Return the largest logit and the sum of all exp(logit - largest), in every thread of one warp.
__device__ inline float2 softmax_parts(const float* logits)
{
    const int lane = threadIdx.x % 32;
    float largest = logits[0];
    for (int k = lane; k < CLASSES; k += 32) largest = larger(logits[k], largest);
#pragma unroll
    for (int other = 16; other > 0; other /= 2) {
        largest = larger(__shfl_xor_sync(0xffffffffu, largest, other), largest);
    }
    float total = 0.0f;
    for (int k = lane; k < CLASSES; k += 32) total += expf(logits[k] - largest);
#pragma unroll
    for (int other = 16; other > 0; other /= 2) total += __shfl_xor_sync(0xffffffffu, total, other);
    return make_float2(largest, total);
}

// Return the loss, with the parts from above.
__device__ inline float cross_entropy(const float* logits, float2 parts, const float* targets)
{
    float loss = 0.0f;
    for (int k = 0; k < CLASSES; ++k) loss += targets[k] * (logf(parts.y) - (logits[k] - parts.x));
    return loss;
}
