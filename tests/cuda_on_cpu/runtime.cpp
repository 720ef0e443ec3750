// Runs CUDA blocks on the CPU, one at a time: fibers, barriers, warp operations; and checks accesses (checker.h).
//
// Built once, without sanitizers; kernels are libraries that link to it.
#include <sys/mman.h>
#include <xmmintrin.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "language.h"

namespace cuda_on_cpu {

Indices now;
char* dynamic_shared;

namespace {

constexpr size_t STACK = 128 << 10, GUARD = 4096, DYNAMIC_SHARED = 256 << 10;
constexpr unsigned FLUSH_TO_ZERO = 0x8040;  // denormals of operands and of results, as CuPy asks of the compiler
constexpr int POISON = 0xFF;                // fresh memory: NaN as a float

enum class State { READY, AT_BARRIER, AT_WARP_OP, DONE };

struct Fiber {
    uint3 index;
    unsigned rank;  // in the block
    State state;
    int line;  // of the barrier or warp operation that it waits at
    int predicate, counted;
    WarpOp op;
    unsigned mask;
    int source_lane;
    uint64_t in, out;
    void* stack_pointer;
    char* stack;
};

std::vector<Fiber> fibers;
unsigned threads;            // of a block
Fiber* running;              // null outside of kernels
void* main_stack_pointer;
void (*kernel)(void**);
void** kernel_arguments;
unsigned block_rank, block_epoch;   // a barrier begins another epoch
std::vector<unsigned> warp_epochs;  // so does __syncwarp, for one warp
char message[1024];

bool failed() { return message[0] != 0; }

#if !defined(__x86_64__)
#error "fibers are switched in x86-64 assembly"
#endif
extern "C" void cuda_on_cpu_switch(void** save, void* to);
asm(R"(
    .text
    .hidden cuda_on_cpu_switch
    .globl cuda_on_cpu_switch
    .type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");

void leave(Fiber& fiber) { cuda_on_cpu_switch(&fiber.stack_pointer, main_stack_pointer); }

void enter(Fiber& fiber)
{
    running = &fiber;
    now.thread = fiber.index;
    cuda_on_cpu_switch(&main_stack_pointer, fiber.stack_pointer);
    running = nullptr;
}

// End the launch. Called in a kernel, it does not return: that thread and all others are abandoned where they are.
void fail(const char* format, ...)
{
    va_list values;
    va_start(values, format);
    const int length = vsnprintf(message, sizeof message, format, values);
    va_end(values);
    snprintf(message + length, sizeof message - length, ", block (%u, %u, %u)", now.block.x, now.block.y, now.block.z);
    if (running) leave(*running);
}

void run_kernel()
{
    kernel(kernel_arguments);
    running->state = State::DONE;
    leave(*running);
    abort();
}

void prepare(Fiber& fiber, unsigned rank)
{
    const uint3 size = now.block_size;
    fiber.rank = rank;
    fiber.index = {rank % size.x, rank / size.x % size.y, rank / size.x / size.y};
    fiber.state = State::READY;
    if (!fiber.stack) {
        char* memory = static_cast<char*>(mmap(
            nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        mprotect(memory, GUARD, PROT_NONE);
        fiber.stack = memory + GUARD;
    }
    // Staggered, because all stacks would share one set of the cache. The return address makes it begin.
    void** top = reinterpret_cast<void**>(fiber.stack + STACK - rank % 32 * 256);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(run_kernel);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    fiber.stack_pointer = top;
}

#include "checker.h"

// When all living lanes named in this one's mask wait with the same mask, let them go on with their results.
void try_warp_op(const Fiber& fiber)
{
    const unsigned first = fiber.rank & ~31u, lanes = std::min(32u, threads - first);
    unsigned present = 0, ballot = 0;
    for (unsigned i = 0; i < lanes; ++i) {
        const Fiber& other = fibers[first + i];
        if (!(fiber.mask >> i & 1) || other.state == State::DONE) continue;
        if (other.state != State::AT_WARP_OP || other.mask != fiber.mask) return;
        if (other.line != fiber.line) {
            fail("lanes %u and %u of one warp are at the warp operations of lines %d and %d", fiber.rank & 31, i,
                 fiber.line, other.line);
            return;
        }
        present |= 1u << i;
        if (other.in) ballot |= 1u << i;
    }
    for (unsigned i = 0; i < lanes; ++i) {
        if (!(present >> i & 1)) continue;
        Fiber& other = fibers[first + i];
        other.out = ballot;
        if (fiber.op == WarpOp::SHUFFLE) {  // a lane that is not there gives NaN
            other.out = present >> other.source_lane & 1 ? fibers[first + other.source_lane].in : ~0ull;
        }
        other.state = State::READY;
    }
    // Shuffles and votes do not order memory, and what a part of a warp does orders no more than that part.
    if (fiber.op == WarpOp::SYNC && fiber.mask == ~0u) ++warp_epochs[first / 32];
}

// All living threads wait at a barrier: let them go on.
void pass_barrier(unsigned living)
{
    const Fiber* first = nullptr;
    int count = 0;
    for (const Fiber& fiber : fibers) {
        if (fiber.state != State::AT_BARRIER) continue;
        if (!first) first = &fiber;
        if (fiber.line != first->line) {
            return fail("threads %u and %u are at the barriers of lines %d and %d", first->rank, fiber.rank,
                        first->line, fiber.line);
        }
        count += fiber.predicate;
    }
    if (living < threads) {
        return fail("barrier of line %d, when %u threads have returned", first->line, threads - living);
    }
    for (Fiber& fiber : fibers) {
        fiber.counted = count;
        fiber.state = State::READY;
    }
    ++block_epoch;
}

void report_deadlock()
{
    const Fiber* waiting[2] = {};
    for (const Fiber& fiber : fibers) {
        if (fiber.state == State::AT_BARRIER) waiting[0] = &fiber;
        if (fiber.state == State::AT_WARP_OP) waiting[1] = &fiber;
    }
    if (!waiting[0]) waiting[0] = waiting[1];
    fail("deadlock: threads wait at lines %d and %d for threads that never come", waiting[0]->line, waiting[1]->line);
}

void run_block(const std::vector<unsigned>& order)
{
    unsigned living = threads, waiting = 0;
    ++block_epoch;
    for (unsigned i = 0; i < threads; ++i) prepare(fibers[i], i);
    while (living) {
        bool moved = false;
        for (unsigned i : order) {
            Fiber& fiber = fibers[i];
            if (fiber.state != State::READY) continue;
            moved = true;
            enter(fiber);
            if (failed()) return;
            switch (fiber.state) {
                case State::AT_BARRIER: ++waiting; break;
                case State::AT_WARP_OP: try_warp_op(fiber); break;
                case State::DONE:
                    --living;
                    for (unsigned lane = i & ~31u; lane < std::min((i & ~31u) + 32, threads); ++lane) {
                        if (fibers[lane].state == State::AT_WARP_OP) try_warp_op(fibers[lane]);
                    }
                    break;
                case State::READY: break;
            }
            if (failed()) return;
        }
        if (living && waiting == living) {
            waiting = 0;
            pass_barrier(living);
        } else if (living && !moved) {
            report_deadlock();
        }
        if (failed()) return;
    }
}

}  // namespace

int barrier(int predicate, int line)
{
    Fiber& fiber = *running;
    fiber.predicate = predicate;
    fiber.line = line;
    fiber.state = State::AT_BARRIER;
    leave(fiber);
    return fiber.counted;
}

uint64_t warp_op(WarpOp op, unsigned mask, uint64_t value, int source_lane, int line)
{
    Fiber& fiber = *running;
    if (!(mask >> (fiber.rank & 31) & 1)) {
        fail("thread %u is not in the mask 0x%08x of line %d", fiber.rank, mask, line);
    }
    fiber.op = op;
    fiber.mask = mask;
    fiber.in = value;
    fiber.source_lane = source_lane;
    fiber.line = line;
    fiber.state = State::AT_WARP_OP;
    leave(fiber);
    return fiber.out;
}

int lane() { return running->rank & 31; }

// `shared`: the bounds of the kernel's static shared memory. `constants`: those of its module's read-only data.
// `arrays`: address, bytes and bytes of an element of each array that is passed; null to check nothing.
// Returns null, or what went wrong.
extern "C" const char* cuda_on_cpu_launch(
    const Kernel* launched, const unsigned* grid, const unsigned* block, size_t dynamic, void** arguments,
    unsigned seed, char* const* shared, char* const* constants, const uint64_t* arrays, unsigned array_count)
{
    message[0] = 0;
    kernel = launched->call;
    kernel_arguments = arguments;
    now.grid_size = {grid[0], grid[1], grid[2]};
    now.block_size = {block[0], block[1], block[2]};
    threads = block[0] * block[1] * block[2];
    if (!dynamic_shared) dynamic_shared = static_cast<char*>(aligned_alloc(256, DYNAMIC_SHARED));
    for (size_t i = threads; i < fibers.size(); ++i) munmap(fibers[i].stack - GUARD, STACK + GUARD);
    fibers.resize(threads);
    warp_epochs.assign((threads + 31) / 32, 0);

    // The order of threads and blocks: ascending (0), descending (1), or shuffled.
    uint64_t random = seed * 0x9E3779B97F4A7C15ull + 1;
    const auto draw = [&](uint64_t count) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        return random % count;
    };
    std::vector<unsigned> order(threads);
    std::iota(order.begin(), order.end(), 0);
    const uint64_t blocks = static_cast<uint64_t>(grid[0]) * grid[1] * grid[2];
    uint64_t first = 0, stride = 1;
    if (seed == 1) {
        std::reverse(order.begin(), order.end());
        first = stride = blocks - 1;
    } else if (seed > 1) {
        for (unsigned i = threads; i > 1; --i) std::swap(order[i - 1], order[draw(i)]);
        first = draw(blocks);
        do stride = 1 + draw(blocks);
        while (std::gcd(stride, blocks) != 1);
    }

    begin_checks(shared, constants, dynamic, arrays, array_count);
    const unsigned control = _mm_getcsr();
    _mm_setcsr(control | FLUSH_TO_ZERO);
    for (uint64_t i = 0; i < blocks && !failed(); ++i) {
        block_rank = static_cast<unsigned>((first + i * stride) % blocks);
        now.block = {block_rank % grid[0], block_rank / grid[0] % grid[1], block_rank / grid[0] / grid[1]};
        memset(shared[0], POISON, shared[1] - shared[0]);
        memset(dynamic_shared, POISON, dynamic);
        run_block(order);
    }
    _mm_setcsr(control);
    return failed() ? message : nullptr;
}

// Where in memory the instruction is that did it; 0 where it was no access.
extern "C" uintptr_t cuda_on_cpu_culprit() { return culprit; }

// What g++ -fsanitize=thread calls before an access.
#define RETURN_ADDRESS __builtin_return_address(0)
#define HOOK(NAME, BYTES, WRITE) \
    extern "C" void NAME(void* at) { check_access(at, BYTES, WRITE, RETURN_ADDRESS); }
#define HOOKS(BYTES)                                   \
    HOOK(__tsan_read##BYTES, BYTES, false)             \
    HOOK(__tsan_write##BYTES, BYTES, true)             \
    HOOK(__tsan_unaligned_read##BYTES, BYTES, false)   \
    HOOK(__tsan_unaligned_write##BYTES, BYTES, true)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
extern "C" void __tsan_read_range(void* at, size_t bytes) { check_access(at, bytes, false, RETURN_ADDRESS); }
extern "C" void __tsan_write_range(void* at, size_t bytes) { check_access(at, bytes, true, RETURN_ADDRESS); }
extern "C" void __tsan_init() {}

// What g++ -fsanitize=alignment calls.
struct Misaligned {
    const char* file;
    uint32_t line;
};
extern "C" void __ubsan_handle_type_mismatch_v1(const Misaligned* where, void*)
{
    fail("misaligned access, thread %u, line %u", running->rank, where->line);
}

}  // namespace cuda_on_cpu
