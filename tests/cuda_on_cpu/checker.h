// The access checker, a part of runtime.cpp. g++ -fsanitize=thread calls a hook before each access of a kernel; the
// hooks here are ours, and know thread, block and epoch. They find accesses out of bounds, shared memory that is read
// before it is written, and races: two accesses, one of them a write, that no barrier orders.
//
// One block runs after the other, and the first failure ends the launch. So it is enough to remember for each element
// its last write (earlier ones are ordered before it) and who has read it since.

// When and by whom an element was touched. Blocks count from 1.
struct Touch {
    unsigned block, thread, epoch, warp_epoch;
};

struct Element {
    Touch written, read;  // the last
    bool read_by_lanes;   // also by another lane of that warp, in the same epoch of the warp
    bool read_by_warps;   // also by another warp, in the same epoch of the block
    bool read_by_blocks;  // also by another block
};

struct Range {
    char *first, *last;
    size_t item;  // bytes of an element
    bool shared;
    std::unique_ptr<Element, decltype(&free)> elements;
};

bool checking;
std::vector<Range> ranges;
char *constants_first, *constants_last;
uintptr_t culprit;  // the address of the instruction that failed

void begin_checks(
    char* const* shared, char* const* constants, size_t dynamic, const uint64_t* arrays, unsigned array_count)
{
    ranges.clear();
    culprit = 0;
    checking = arrays != nullptr;
    if (!checking) return;
    constants_first = constants[0], constants_last = constants[1];
    const auto add = [](char* first, size_t bytes, size_t item, bool is_shared) {
        // calloc leaves to the system what nobody touches: data sets are large.
        Element* elements = static_cast<Element*>(calloc(bytes / item, sizeof(Element)));
        ranges.push_back({first, first + bytes, item, is_shared, {elements, free}});
    };
    add(shared[0], shared[1] - shared[0], 1, true);
    add(dynamic_shared, dynamic, 1, true);
    for (unsigned i = 0; i < array_count; ++i) {
        add(reinterpret_cast<char*>(arrays[3 * i]), arrays[3 * i + 1], arrays[3 * i + 2], false);
    }
}

// Nothing orders that earlier touch before this one. Shared memory is another one in every block.
bool unordered(const Touch& before, const Touch& touch, bool shared)
{
    if (before.block != touch.block) return before.block && !shared;
    if (before.thread == touch.thread || before.epoch != touch.epoch) return false;
    return before.thread / 32 != touch.thread / 32 || before.warp_epoch == touch.warp_epoch;
}

// Remember the touch, and return what is wrong with it, or null.
const char* touch_element(Element& element, const Touch& touch, bool write, bool shared)
{
    Touch& read = element.read;
    if (shared && !write && element.written.block != touch.block) return "shared memory read before it is written";
    if (unordered(element.written, touch, shared)) return write ? "race of two writes" : "race of a read with a write";
    const bool same_block = read.block == touch.block, same_epoch = same_block && read.epoch == touch.epoch;
    const bool same_warp_epoch =
        same_epoch && read.thread / 32 == touch.thread / 32 && read.warp_epoch == touch.warp_epoch;
    if (write) {
        if (unordered(read, touch, shared) || (element.read_by_blocks && !shared) ||
            (element.read_by_warps && same_epoch) || (element.read_by_lanes && same_warp_epoch)) {
            return "race of a write with a read";
        }
        element.written = touch;
        return nullptr;
    }
    element.read_by_blocks |= read.block && !same_block;
    element.read_by_warps = same_epoch && (element.read_by_warps || read.thread / 32 != touch.thread / 32);
    element.read_by_lanes = same_warp_epoch && (element.read_by_lanes || read.thread != touch.thread);
    read = touch;
    return nullptr;
}

const char* find_fault(char* first, size_t bytes, bool write)
{
    for (const Range& range : ranges) {
        if (first < range.first || first >= range.last) continue;
        if (first + bytes > range.last) break;
        const Touch touch = {block_rank + 1, running->rank, block_epoch, warp_epochs[running->rank / 32]};
        const size_t last = (first + bytes - 1 - range.first) / range.item;
        for (size_t i = (first - range.first) / range.item; i <= last; ++i) {
            if (const char* fault = touch_element(range.elements.get()[i], touch, write, range.shared)) return fault;
        }
        return nullptr;
    }
    return "access out of bounds";
}

void check_access(void* at, size_t bytes, bool write, void* return_address)
{
    if (!checking) return;
    char* first = static_cast<char*>(at);
    const auto within = [first](const void* low, const void* high) { return first >= low && first < high; };
    if (within(running->stack, running->stack + STACK)) return;  // its local variables
    if (within(&now, &now + 1) || within(&dynamic_shared, &dynamic_shared + 1)) return;
    if (!write && within(constants_first, constants_last)) return;
    if (const char* fault = find_fault(first, bytes, write)) {
        culprit = reinterpret_cast<uintptr_t>(return_address) - 1;
        fail("%s, thread %u", fault, running->rank);
    }
}
