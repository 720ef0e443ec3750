// Dense layers: three products of matrices, each tiled the same way.
//
// A block of TILE x TILE threads forms as many elements of the product. It brings one tile of each factor into shared
// memory at a time, so that every loaded number is used TILE times.

// Element (row, column) of a matrix; transposed, it is stored column by column.
template <bool TRANSPOSED>
__device__ inline float element(const float* matrix, int row, int column, int rows, int columns)
{
    if (row >= rows || column >= columns) return 0.0f;
    return TRANSPOSED ? matrix[column * rows + row] : matrix[row * columns + column];
}

// Return one element of a b, for a (rows, depth) and b (depth, columns).
template <bool A_TRANSPOSED, bool B_TRANSPOSED>
__device__ inline float product(const float* a, const float* b, int rows, int depth, int columns)
{
    __shared__ float left[TILE][TILE + 1], right[TILE][TILE + 1];  // the spare column keeps banks apart
    const int i = threadIdx.x / TILE, j = threadIdx.x % TILE;
    const int row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    float sum = 0.0f;
    for (int start = 0; start < depth; start += TILE) {
        // Neighboring threads load neighboring numbers: along the row, or along the column of a transposed matrix.
        if (A_TRANSPOSED) left[j][i] = element<true>(a, row + j, start + i, rows, depth);
        else left[i][j] = element<false>(a, row + i, start + j, rows, depth);
        if (B_TRANSPOSED) right[j][i] = element<true>(b, start + j, column + i, depth, columns);
        else right[i][j] = element<false>(b, start + i, column + j, depth, columns);
        __syncthreads();
#pragma unroll
        for (int l = 0; l < TILE; ++l) sum += left[i][l] * right[l][j];
        __syncthreads();
    }
    return sum;
}

// out (N, K) = x (N, D) weight^T (K, D) + bias (K,)
extern "C" __global__ void __launch_bounds__(TILE* TILE) forward(
    const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    float* __restrict__ out, int count)
{
    const float sum = product<false, true>(x, weight, count, INPUTS, OUTPUTS);
    const int n = blockIdx.y * TILE + threadIdx.x / TILE, k = blockIdx.x * TILE + threadIdx.x % TILE;
    if (n < count && k < OUTPUTS) out[n * OUTPUTS + k] = sum + bias[k];
}

// dx (N, D) = dy (N, K) weight (K, D)
extern "C" __global__ void __launch_bounds__(TILE* TILE) backward_input(
    const float* __restrict__ dy, const float* __restrict__ weight, float* __restrict__ dx, int count)
{
    const float sum = product<false, false>(dy, weight, count, OUTPUTS, INPUTS);
    const int n = blockIdx.y * TILE + threadIdx.x / TILE, d = blockIdx.x * TILE + threadIdx.x % TILE;
    if (n < count && d < INPUTS) dx[n * INPUTS + d] = sum;
}

// dweight (K, D) = dy^T (N, K) x (N, D), and by the way dbias (K,), the sum of dy.
extern "C" __global__ void __launch_bounds__(TILE* TILE) backward_weight(
    const float* __restrict__ dy, const float* __restrict__ x, float* __restrict__ dweight, float* __restrict__ dbias,
    int count)
{
    const float sum = product<true, false>(dy, x, OUTPUTS, count, INPUTS);
    const int k = blockIdx.y * TILE + threadIdx.x / TILE, d = blockIdx.x * TILE + threadIdx.x % TILE;
    if (k < OUTPUTS && d < INPUTS) dweight[k * INPUTS + d] = sum;

    const int unit = blockIdx.y * TILE + threadIdx.x;
    if (blockIdx.x == 0 && threadIdx.x < TILE && unit < OUTPUTS) {
        float total = 0.0f;
        for (int n = 0; n < count; ++n) total += dy[n * OUTPUTS + unit];
        dbias[unit] = total;
    }
}
