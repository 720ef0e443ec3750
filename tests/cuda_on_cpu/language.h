// CUDA C as host C++17: included before an unchanged .cu source. Each thread of a block is a fiber of runtime.cpp.
//
// Only what the project's kernels may use is here. There are no atomics, so that sums are formed in a fixed order.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One copy in the process is enough, because one block runs at a time. `extern __shared__` is rewritten by build.py.
#define __shared__ static

struct uint3 {
    unsigned x, y, z;
};
#define VECTORS(T, NAME)                                                             \
    struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                               \
    struct alignas(4 * sizeof(T)) NAME##4 { T x, y, z, w; };                         \
    inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                       \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float, float)
VECTORS(int, int)
#undef VECTORS

// what the kernels ask of the runtime -------------------------------------------------------------------------------

namespace cuda_on_cpu {
struct Indices {
    uint3 thread, block, block_size, grid_size;
};
extern Indices now;  // of the thread that runs
extern char* dynamic_shared;

enum class WarpOp { SYNC, SHUFFLE, BALLOT };
int barrier(int predicate, int line);  // the number of threads whose predicate holds
uint64_t warp_op(WarpOp op, unsigned mask, uint64_t value, int source_lane, int line);
int lane();

template <class T>
T shuffle(unsigned mask, T value, int source_lane, int line)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = warp_op(WarpOp::SHUFFLE, mask, bits, source_lane, line);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::now.thread)
#define blockIdx (cuda_on_cpu::now.block)
#define blockDim (cuda_on_cpu::now.block_size)
#define gridDim (cuda_on_cpu::now.grid_size)
constexpr int warpSize = 32;

// Every barrier knows the line of the kernel that it is called from.
#define LINE int line = __builtin_LINE()
inline void __syncthreads(LINE) { cuda_on_cpu::barrier(0, line); }
inline int __syncthreads_count(int p, LINE) { return cuda_on_cpu::barrier(p != 0, line); }
inline int __syncthreads_or(int p, LINE) { return __syncthreads_count(p, line) != 0; }
inline int __syncthreads_and(int p, LINE) { return __syncthreads_count(!p, line) == 0; }
inline void __syncwarp(unsigned mask = ~0u, LINE)
{
    cuda_on_cpu::warp_op(cuda_on_cpu::WarpOp::SYNC, mask, 0, 0, line);
}
inline unsigned __ballot_sync(unsigned mask, int p, LINE)
{
    return static_cast<unsigned>(cuda_on_cpu::warp_op(cuda_on_cpu::WarpOp::BALLOT, mask, p != 0, 0, line));
}
inline int __any_sync(unsigned mask, int p, LINE) { return __ballot_sync(mask, p, line) != 0; }
inline int __all_sync(unsigned mask, int p, LINE) { return __ballot_sync(mask, !p, line) == 0; }

// A lane whose source lies outside its group of `width` lanes keeps its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, LINE)
{
    const int lane = cuda_on_cpu::lane(), group = lane & ~(width - 1);
    return cuda_on_cpu::shuffle(mask, value, group + (source & (width - 1)), line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, LINE)
{
    const int lane = cuda_on_cpu::lane(), to = (lane & (width - 1)) + static_cast<int>(delta);
    return cuda_on_cpu::shuffle(mask, value, to < width ? lane + static_cast<int>(delta) : lane, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, LINE)
{
    const int lane = cuda_on_cpu::lane(), to = (lane & (width - 1)) - static_cast<int>(delta);
    return cuda_on_cpu::shuffle(mask, value, to >= 0 ? lane - static_cast<int>(delta) : lane, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, LINE)
{
    const int lane = cuda_on_cpu::lane(), source = lane ^ bits;
    return cuda_on_cpu::shuffle(mask, value, source < (lane & ~(width - 1)) + width ? source : lane, line);
}
#undef LINE

// arithmetic ----------------------------------------------------------------------------------------------------------

template <class A, class B>
constexpr typename std::common_type<A, B>::type min(A a, B b) { return b < a ? b : a; }
template <class A, class B>
constexpr typename std::common_type<A, B>::type max(A a, B b) { return a < b ? b : a; }
template <class T>
T __ldg(const T* p) { return *p; }

// What build.py appends for each kernel: how to call it, and what its parameters are.
namespace cuda_on_cpu {
struct Kernel {
    void (*call)(void** arguments);
    const char* parameters;  // a letter each: P a pointer, i an int, f a float
    unsigned most_threads;
};

template <class T>
constexpr char letter()
{
    using U = std::remove_cv_t<T>;
    if (std::is_pointer_v<U>) return 'P';
    if (std::is_same_v<U, int>) return 'i';
    if (std::is_same_v<U, float>) return 'f';
    return '?';
}
template <class Function>
struct Caller;
template <class... T>
struct Caller<void (*)(T...)> {
    template <void (*kernel)(T...), size_t... I>
    __attribute__((no_sanitize("thread"))) static void unpack(void** arguments, std::index_sequence<I...>)
    {
        kernel(*static_cast<std::remove_cv_t<T>*>(arguments[I])...);
    }
    template <void (*kernel)(T...)>
    __attribute__((no_sanitize("thread"))) static void call(void** arguments)
    {
        unpack<kernel>(arguments, std::index_sequence_for<T...>());
    }
    static constexpr char parameters[] = {letter<T>()..., 0};
};
}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_EXPORT extern "C" __attribute__((visibility("default")))
#define CUDA_ON_CPU_KERNEL(NAME, THREADS)                                        \
    CUDA_ON_CPU_EXPORT const cuda_on_cpu::Kernel cuda_on_cpu_kernel_##NAME = {   \
        cuda_on_cpu::Caller<decltype(&NAME)>::call<&NAME>, cuda_on_cpu::Caller<decltype(&NAME)>::parameters, THREADS};

// The linker knows where the variables of the library are, all of which are shared memory, and its read-only part.
#define CUDA_ON_CPU_SYMBOL extern "C" __attribute__((visibility("hidden"))) char
#define CUDA_ON_CPU_BOUNDS                                                             \
    CUDA_ON_CPU_SYMBOL __bss_start[], _end[], __ehdr_start[], _DYNAMIC[];              \
    CUDA_ON_CPU_EXPORT char* const cuda_on_cpu_shared[2] = {__bss_start, _end};        \
    CUDA_ON_CPU_EXPORT char* const cuda_on_cpu_constants[2] = {__ehdr_start, _DYNAMIC};
