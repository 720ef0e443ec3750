// The second launch of a training step: the gradients of the batch, image by image in order, and the rule at once.
// Each block owns some parameters.

constexpr int TILE_THREADS = TILE_OUTPUTS * TILE_INPUTS / 4;  // each with 4 weights of one output
constexpr int TILE_IMAGES = 64;  // in shared memory at once
constexpr int GROUPS = 4;  // of threads that share the images of a convolution's gradients
constexpr int TOTAL = Output::END, CONVOLUTIONS = C1::PARAMETERS + C3::PARAMETERS;
constexpr int RECORD = sizeof(Record) / sizeof(float);

struct Tile {
    alignas(16) float inputs[TILE_IMAGES][TILE_INPUTS];
    alignas(16) float deltas[TILE_IMAGES][TILE_OUTPUTS];
};

__host__ __device__ constexpr int tiles(int inputs, int outputs)
{
    return ((inputs + TILE_INPUTS - 1) / TILE_INPUTS) * ((outputs + TILE_OUTPUTS - 1) / TILE_OUTPUTS);
}

// A tile of the weights of one layer, and with the first inputs also the biases. x and deltas are the first image's.
template <class Layer>
__device__ void update_tile(
    Tile& shared, int tile, const float* x, const float* deltas, int count, float* parameters, float* moments,
    float* average, const float* hyper)
{
    constexpr int ACROSS = (Layer::INPUTS + TILE_INPUTS - 1) / TILE_INPUTS;
    const int first_input = tile % ACROSS * TILE_INPUTS, first_output = tile / ACROSS * TILE_OUTPUTS;
    const int column = threadIdx.x % (TILE_INPUTS / 4) * 4, row = threadIdx.x / (TILE_INPUTS / 4);
    const int k = first_output + row, d = first_input + column;
    const bool has_bias = first_input == 0 && threadIdx.x < TILE_OUTPUTS && first_output + threadIdx.x < Layer::OUTPUTS;

    // What is to be updated is asked for before the sums, which hide the wait.
    Weight weights[4], bias;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (k < Layer::OUTPUTS && d + i < Layer::INPUTS) {
            weights[i] = load_weight(parameters, moments, average, TOTAL, Layer::WEIGHT + k * Layer::INPUTS + d + i);
        }
    }
    const int bias_at = Layer::BIAS + first_output + threadIdx.x;
    if (has_bias) bias = load_weight(parameters, moments, average, TOTAL, bias_at);

    float sums[4] = {}, bias_sum = 0.0f;
    for (int start = 0; start < count; start += TILE_IMAGES) {
        const int images = min(TILE_IMAGES, count - start);
        for (int i = threadIdx.x; i < images * (TILE_INPUTS / 4); i += TILE_THREADS) {
            const int n = i / (TILE_INPUTS / 4), at = i % (TILE_INPUTS / 4) * 4;
            load<4>(&shared.inputs[n][at], x + static_cast<size_t>(start + n) * RECORD + first_input + at);
        }
        for (int i = threadIdx.x; i < images * (TILE_OUTPUTS / 4); i += TILE_THREADS) {
            const int n = i / (TILE_OUTPUTS / 4), at = i % (TILE_OUTPUTS / 4) * 4;
            load<4>(&shared.deltas[n][at], deltas + static_cast<size_t>(start + n) * RECORD + first_output + at);
        }
        __syncthreads();
#pragma unroll 8
        for (int n = 0; n < images; ++n) {
            float value[4];
            load<4>(value, &shared.inputs[n][column]);
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[i] += shared.deltas[n][row] * value[i];
        }
        if (has_bias) {
            for (int n = 0; n < images; ++n) bias_sum += shared.deltas[n][threadIdx.x];
        }
        __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (k < Layer::OUTPUTS && d + i < Layer::INPUTS) {
            apply_rule(weights[i], sums[i], hyper);
            store_weight(weights[i], parameters, moments, average, TOTAL, Layer::WEIGHT + k * Layer::INPUTS + d + i);
        }
    }
    if (has_bias) {
        apply_rule(bias, bias_sum, hyper);
        store_weight(bias, parameters, moments, average, TOTAL, bias_at);
    }
}

// 32 numbers of the convolutions; each group of threads sums every fourth image.
__device__ inline void update_convolutions(
    float (&parts)[GROUPS][32], int tile, const float* gradients, int count, float* parameters, float* moments,
    float* average, const float* hyper)
{
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32, at = tile * 32 + lane;
    Weight weight;
    if (group == 0 && at < CONVOLUTIONS) weight = load_weight(parameters, moments, average, TOTAL, at);
    float sum = 0.0f;
    if (at < CONVOLUTIONS) {
#pragma unroll 16
        for (int n = group; n < count; n += GROUPS) sum += gradients[static_cast<size_t>(n) * RECORD + at];
    }
    parts[group][lane] = sum;
    __syncthreads();
    if (group == 0 && at < CONVOLUTIONS) {
        float total = 0.0f;
#pragma unroll
        for (int i = 0; i < GROUPS; ++i) total += parts[i][lane];
        apply_rule(weight, total, hyper);
        store_weight(weight, parameters, moments, average, TOTAL, at);
    }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 4) update(
    const Record* __restrict__ records, const int* __restrict__ progress, int step, int batch_size,
    const float* __restrict__ hypers, float* parameters, float* moments, float* average)
{
    static_assert(TILE_THREADS == 32 * GROUPS);
    __shared__ Tile shared;
    __shared__ float parts[GROUPS][32];
    const int number = progress[0] + step, count = min(batch_size, progress[1] - number * batch_size);
    if (count <= 0) return;
    const float* hyper = hypers + 4 * number;
    constexpr int TILES5 = tiles(F5::INPUTS, F5::OUTPUTS), TILES6 = tiles(F6::INPUTS, F6::OUTPUTS);
    constexpr int TILES7 = tiles(Output::INPUTS, Output::OUTPUTS);
    int tile = blockIdx.x;
    if (tile < TILES5) {
        update_tile<F5>(shared, tile, records->x5, records->delta5, count, parameters, moments, average, hyper);
        return;
    }
    tile -= TILES5;
    if (tile < TILES6) {
        update_tile<F6>(shared, tile, records->x6, records->delta6, count, parameters, moments, average, hyper);
        return;
    }
    tile -= TILES6;
    if (tile < TILES7) {
        update_tile<Output>(shared, tile, records->x7, records->delta7, count, parameters, moments, average, hyper);
        return;
    }
    update_convolutions(parts, tile - TILES7, records->gradients, count, parameters, moments, average, hyper);
}
