// Convolutions between partially connected maps: forward, and the gradients of input, kernels and biases.
//
// BLOCK threads are in a block, each forms WIDE sums side by side. KERNEL_OF lists, for each output map and each input map, the number of their kernel, or -1 where they are not
// connected; OUTPUT and SOURCE list the maps of each kernel.

constexpr int AREA = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int ROWS = HEIGHT - KERNEL_HEIGHT + 1, COLUMNS = WIDTH - KERNEL_WIDTH + 1;
constexpr int TAPS = CONNECTIONS * AREA;

__constant__ const short kernel_of[OUTPUTS * INPUTS] = {KERNEL_OF};
__constant__ const short output_of[CONNECTIONS] = {OUTPUT}, source_of[CONNECTIONS] = {SOURCE};

// Copy a map to shared memory, with `BORDER` zeros to the left and as many to the right as whole blocks of sums read.
template <int HIGH, int ACROSS, int STRIDE, int BORDER>
__device__ inline void load_map(const float* __restrict__ map, float* shared)
{
    for (int i = threadIdx.x; i < HIGH * STRIDE; i += blockDim.x) {
        const int column = i % STRIDE - BORDER;
        shared[i] = column >= 0 && column < ACROSS ? map[i / STRIDE * ACROSS + column] : 0.0f;
    }
}

// sums[j] += the taps times what lies under them, from a row of a map in shared memory on.
template <bool BACK>
__device__ inline void add_taps(float (&sums)[WIDE], const float* row, const float* __restrict__ taps)
{
    float x[WIDE + KERNEL_WIDTH - 1];
#pragma unroll
    for (int i = 0; i < WIDE + KERNEL_WIDTH - 1; ++i) x[i] = row[i];
#pragma unroll
    for (int s = 0; s < KERNEL_WIDTH; ++s) {
        const float tap = taps[BACK ? KERNEL_WIDTH - 1 - s : s];
#pragma unroll
        for (int j = 0; j < WIDE; ++j) sums[j] += tap * x[j + s];
    }
}

// out[n,k,p,q] = bias[k] + sum of weight[e,r,s] x[n,c,p+r,q+s]: a block works some rows of an image's output maps, a thread
// four outputs of one. The input maps come into shared memory one after the other.
extern "C" __global__ void __launch_bounds__(BLOCK) forward(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ out)
{
    constexpr int ACROSS = (COLUMNS + WIDE - 1) / WIDE, STRIDE = ACROSS * WIDE + KERNEL_WIDTH - 1;
    __shared__ float map[HEIGHT * STRIDE];
    const int n = blockIdx.x, item = blockIdx.y * BLOCK + threadIdx.x;
    const int q = item % ACROSS * WIDE, p = item / ACROSS % ROWS, k = item / (ACROSS * ROWS);
    float sums[WIDE];
#pragma unroll
    for (int j = 0; j < WIDE; ++j) sums[j] = k < OUTPUTS ? bias[k] : 0.0f;
    for (int c = 0; c < INPUTS; ++c) {
        load_map<HEIGHT, WIDTH, STRIDE, 0>(x + static_cast<size_t>(n * INPUTS + c) * (HEIGHT * WIDTH), map);
        __syncthreads();
        const int e = k < OUTPUTS ? kernel_of[k * INPUTS + c] : -1;
        if (e >= 0) {
            for (int r = 0; r < KERNEL_HEIGHT; ++r) {
                add_taps<false>(sums, map + (p + r) * STRIDE + q, weight + e * AREA + r * KERNEL_WIDTH);
            }
        }
        __syncthreads();
    }
    if (k >= OUTPUTS) return;
    out += (static_cast<size_t>(n * OUTPUTS + k) * ROWS + p) * COLUMNS + q;
#pragma unroll
    for (int j = 0; j < WIDE; ++j) {
        if (q + j < COLUMNS) out[j] = sums[j];
    }
}

// dx[n,c,h,w] = sum of weight[e,r,s] dy[n,k,h-r,w-s]: the same, with kernels turned around, on maps with a border.
extern "C" __global__ void __launch_bounds__(BLOCK) backward_input(
    const float* __restrict__ dy, const float* __restrict__ weight, float* __restrict__ dx)
{
    constexpr int ACROSS = (WIDTH + WIDE - 1) / WIDE, STRIDE = ACROSS * WIDE + KERNEL_WIDTH - 1;
    __shared__ float map[ROWS * STRIDE];
    const int n = blockIdx.x, item = blockIdx.y * BLOCK + threadIdx.x;
    const int w = item % ACROSS * WIDE, h = item / ACROSS % HEIGHT, c = item / (ACROSS * HEIGHT);
    float sums[WIDE] = {};
    for (int k = 0; k < OUTPUTS; ++k) {
        load_map<ROWS, COLUMNS, STRIDE, KERNEL_WIDTH - 1>(
            dy + static_cast<size_t>(n * OUTPUTS + k) * (ROWS * COLUMNS), map);
        __syncthreads();
        const int e = c < INPUTS ? kernel_of[k * INPUTS + c] : -1;
        if (e >= 0) {
            for (int r = max(0, h - ROWS + 1); r < min(KERNEL_HEIGHT, h + 1); ++r) {
                add_taps<true>(sums, map + (h - r) * STRIDE + w, weight + e * AREA + r * KERNEL_WIDTH);
            }
        }
        __syncthreads();
    }
    if (c >= INPUTS) return;
    dx += (static_cast<size_t>(n * INPUTS + c) * HEIGHT + h) * WIDTH + w;
#pragma unroll
    for (int j = 0; j < WIDE; ++j) {
        if (w + j < WIDTH) dx[j] = sums[j];
    }
}

// partial[g,e,r,s] = the sum of dy[n,k,p,q] x[n,c,p+r,q+s] over the images of group g. A block works one connection of a group; a
// thread one kernel row r, over every PARTS-th row p. The parts are added in their order.
extern "C" __global__ void __launch_bounds__(BLOCK) backward_weight(
    const float* __restrict__ dy, const float* __restrict__ x, float* __restrict__ partial, int images)
{
    constexpr int PARTS = BLOCK / KERNEL_HEIGHT < ROWS ? BLOCK / KERNEL_HEIGHT : ROWS;
    static_assert(PARTS > 0, "a kernel has at most as many rows as a block has threads");
    __shared__ float map[HEIGHT * WIDTH], deltas[ROWS * COLUMNS], parts[PARTS * AREA];
    const int e = blockIdx.x, first = blockIdx.y * GROUP, last = min(first + GROUP, images);
    const int r = threadIdx.x % KERNEL_HEIGHT, part = threadIdx.x / KERNEL_HEIGHT;
    float sums[KERNEL_WIDTH] = {};
    for (int n = first; n < last; ++n) {
        load_map<HEIGHT, WIDTH, WIDTH, 0>(
            x + static_cast<size_t>(n * INPUTS + source_of[e]) * (HEIGHT * WIDTH), map);
        load_map<ROWS, COLUMNS, COLUMNS, 0>(
            dy + static_cast<size_t>(n * OUTPUTS + output_of[e]) * (ROWS * COLUMNS), deltas);
        __syncthreads();
        for (int p = part; part < PARTS && p < ROWS; p += PARTS) {
            const float *row = map + (p + r) * WIDTH, *delta = deltas + p * COLUMNS;
            float window[KERNEL_WIDTH];
#pragma unroll
            for (int s = 0; s < KERNEL_WIDTH - 1; ++s) window[s + 1] = row[s];
            for (int q = 0; q < COLUMNS; ++q) {
#pragma unroll
                for (int s = 0; s < KERNEL_WIDTH - 1; ++s) window[s] = window[s + 1];
                window[KERNEL_WIDTH - 1] = row[q + KERNEL_WIDTH - 1];
#pragma unroll
                for (int s = 0; s < KERNEL_WIDTH; ++s) sums[s] += delta[q] * window[s];
            }
        }
        __syncthreads();
    }
    if (part < PARTS) {
#pragma unroll
        for (int s = 0; s < KERNEL_WIDTH; ++s) parts[part * AREA + r * KERNEL_WIDTH + s] = sums[s];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < AREA; i += BLOCK) {
        float total = 0.0f;
        for (int j = 0; j < PARTS; ++j) total += parts[j * AREA + i];
        partial[blockIdx.y * (TAPS + OUTPUTS) + e * AREA + i] = total;
    }
}

// The same for the biases: partial[g,k] = sum of dy[n,k,p,q] over group g. The sums of a block's threads are added by halves.
extern "C" __global__ void __launch_bounds__(BLOCK) backward_bias(
    const float* __restrict__ dy, float* __restrict__ partial, int images)
{
    constexpr int SIZE = ROWS * COLUMNS;
    __shared__ float sums[BLOCK];
    const int k = blockIdx.x, first = blockIdx.y * GROUP, last = min(first + GROUP, images);
    float total = 0.0f;
    for (int n = first; n < last; ++n) {
        const float* map = dy + static_cast<size_t>(n * OUTPUTS + k) * SIZE;
        for (int i = threadIdx.x; i < SIZE; i += BLOCK) total += map[i];
    }
    sums[threadIdx.x] = total;
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) partial[blockIdx.y * (TAPS + OUTPUTS) + TAPS + k] = sums[0];
}

// dweight and dbias: the sum of the groups, in their order; one number a thread.
extern "C" __global__ void sum_groups(
    const float* __restrict__ partial, float* __restrict__ dweight, float* __restrict__ dbias, int groups)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= TAPS + OUTPUTS) return;
    float total = 0.0f;
    for (int g = 0; g < groups; ++g) total += partial[g * (TAPS + OUTPUTS) + i];
    if (i < TAPS) dweight[i] = total;
    else dbias[i - TAPS] = total;
}
