"""What stands in for a GPU proves itself: it computes as CUDA does, and finds the bugs that it is there to find."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest
from cuda_on_cpu import fake_cupy as cp
from cuda_on_cpu.build import KernelFault, Library, Program
from numpy.typing import NDArray

import lenet.kernels.cuda
from lenet.executors import EagerExecutor, EpochPlan, Executor, State
from lenet.executors.check import self_check
from lenet.lenet5 import lenet5
from lenet.optimizers import Adam
from lenet.settings import NetworkSettings

ORDERS = (0, 1, 2, 3)  # ascending, descending, and two shuffled
MODES = ("fast", "check")
COUNT = 64  # numbers that most kernels here work on


@pytest.fixture(autouse=True)
def machine(on_cpu: Any) -> Iterator[cp.Machine]:
    with on_cpu.machine.running("check", 0):
        yield on_cpu.machine


def launch(
    source: str, *arguments: Any, grid: tuple[int, ...] = (1,), block: tuple[int, ...] = (COUNT,), shared: int = 0
) -> None:
    """Run the kernel ``k`` of a source."""
    module = cp.RawModule(code=f'extern "C" __global__ void {source}')
    module.get_function("k")(grid, block, arguments, shared_mem=shared)


def device(host: NDArray[Any]) -> cp.ndarray:
    return cp.array(host)


def ramp(count: int = COUNT) -> cp.ndarray:
    return device(np.arange(count, dtype=np.float32))


# seeded bugs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bug:
    """A broken kernel ``k(float* x, int n)``, run on 0, 1, ..., 63.

    ``found`` is what ``check`` says of it, and ``fast`` whether that mode finds it too: by a fault, by numbers that
    depend on the order of the threads, or by NaN.
    """

    source: str
    found: str
    fast: bool | None
    threads: int = COUNT
    blocks: int = 1


BUGS = {
    "no barrier before a neighbor's number is read": Bug(
        "k(float* x, int n) { __shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x];"
        " x[threadIdx.x] = s[63 - threadIdx.x]; }",
        "read before it is written|race",
        fast=True,
    ),
    "no barrier before a tile is overwritten": Bug(
        """k(float* x, int n) {
            __shared__ float s[64];
            float sum = 0;
            for (int i = 0; i < 3; ++i) {
                s[threadIdx.x] = x[threadIdx.x] + i;
                __syncthreads();
                sum += s[63 - threadIdx.x];
            }
            x[threadIdx.x] = sum;
        }""",
        "race of",
        fast=True,
    ),
    "an array is read by others while it is overwritten": Bug(
        "k(float* x, int n) { float v = x[(threadIdx.x + 1) % n]; x[threadIdx.x] = 2 * v; }", "race of", fast=True
    ),
    "shared memory that nobody wrote": Bug(
        "k(float* x, int n) { __shared__ float s[64]; if (threadIdx.x < 63) s[threadIdx.x] = 1; __syncthreads();"
        " x[threadIdx.x] = s[threadIdx.x]; }",
        "read before it is written, thread 63",
        fast=True,
    ),
    "shared memory left by the block before": Bug(
        "k(float* x, int n) { __shared__ float s[64]; if (blockIdx.x == 0) s[threadIdx.x] = 1; __syncthreads();"
        " x[32 * blockIdx.x + threadIdx.x] = s[threadIdx.x]; }",
        r"read before it is written.*block \(1, 0, 0\)",
        fast=True,
        threads=32,
        blocks=2,
    ),
    "a write behind the end": Bug(
        "k(float* x, int n) { if (threadIdx.x <= n) x[threadIdx.x] = 1; }", "out of bounds, thread 64", False, 65
    ),
    "a write before the beginning": Bug(
        "k(float* x, int n) { x[static_cast<int>(threadIdx.x) - 1] = 1; }", "out of bounds, thread 0", fast=False
    ),
    "a read behind the end, of no consequence": Bug(
        "k(float* x, int n) { float v = x[threadIdx.x + 1]; __syncthreads(); if (v == 123) x[threadIdx.x] = v; }",
        "out of bounds, thread 63",
        fast=False,
    ),
    "a write behind the shared arrays": Bug(
        "k(float* x, int n) { __shared__ float s[64]; s[threadIdx.x + 1] = 1; __syncthreads();"
        " x[threadIdx.x] = s[threadIdx.x ? threadIdx.x : 1]; }",
        "out of bounds, thread 63",
        fast=False,
    ),
    "too little dynamic shared memory": Bug(
        "k(float* x, int n) { extern __shared__ float s[]; s[threadIdx.x] = x[threadIdx.x]; __syncthreads();"
        " x[threadIdx.x] = s[63 - threadIdx.x]; }",
        "out of bounds",
        fast=False,
    ),
    "four numbers at an address that is not a multiple of 16": Bug(
        "k(float* x, int n) { float4 v = *reinterpret_cast<float4*>(x + 1); *reinterpret_cast<float4*>(x + 8) = v; }",
        "misaligned access, thread 0, line 1",
        fast=None,  # not tried: it ends the process
        threads=1,
    ),
    "a barrier that half of the threads do not pass": Bug(
        "k(float* x, int n) { if (threadIdx.x < 32) __syncthreads(); x[threadIdx.x] = 1; }",
        "barrier of line 1, when 32 threads have returned",
        fast=True,
    ),
    "two barriers in place of one": Bug(
        """k(float* x, int n) {
            if (threadIdx.x < 32) { __syncthreads(); }
            else { __syncthreads(); }
        }""",
        "at the barriers of lines 2 and 3",
        fast=True,
    ),
    "a barrier after some threads returned": Bug(
        "k(float* x, int n) { if (threadIdx.x >= 40) return; __syncthreads(); x[threadIdx.x] = 1; }",
        "barrier of line 1, when 24 threads have returned",
        fast=True,
    ),
    "a shuffle with lanes that never come": Bug(
        "k(float* x, int n) { float v = 1; if (threadIdx.x < 16) v += __shfl_down_sync(0xffffffffu, v, 1);\n"
        "else __syncthreads(); x[threadIdx.x] = v; }",
        "deadlock: threads wait at lines 2 and 1",
        fast=True,
        threads=32,
    ),
    "a shuffle by a lane that is not in its mask": Bug(
        "k(float* x, int n) { x[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 1); }",
        "thread [0-9]+ is not in the mask 0x0000ffff",
        fast=True,
        threads=32,
    ),
    "one warp at two shuffles": Bug(
        "k(float* x, int n) { if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(~0u, 1.0f, 0);\n"
        "else x[threadIdx.x] = __shfl_sync(~0u, 2.0f, 0); }",
        "at the warp operations of lines",
        fast=True,
        threads=32,
    ),
    "a sum without turns, in one block": Bug("k(float* x, int n) { x[0] += 1; }", "race of", fast=False),
    "a sum without turns, of several blocks": Bug(
        "k(float* x, int n) { if (threadIdx.x == 0) x[0] += 1; }", "race of", fast=False, blocks=3
    ),
    "blocks that overwrite what others read": Bug(
        "k(float* x, int n) { float v = x[1] + x[blockIdx.x]; x[blockIdx.x] = v; }",
        "race of",
        fast=True,
        threads=1,
        blocks=3,
    ),
    "a warp that takes its steps for granted": Bug(
        """k(float* x, int n) {
            __shared__ float s[64];
            const int t = threadIdx.x;
            s[t] = x[t], s[t + 32] = 0;
            __syncthreads();
            for (int o = 16; o; o /= 2) s[t] += s[t + o];
            x[t] = s[t];
        }""",
        "race of",
        fast=True,
        threads=32,
    ),
    "a shuffle in place of __syncwarp": Bug(
        """k(float* x, int n) {
            __shared__ float s[32];
            s[threadIdx.x] = x[threadIdx.x];
            __shfl_sync(~0u, 1.0f, 0);
            x[threadIdx.x] = s[31 - threadIdx.x];
        }""",
        "race of a read",
        fast=False,  # the fibers of a warp do meet there
        threads=32,
    ),
}


def run_bug(bug: Bug) -> NDArray[np.float32]:
    x = ramp()
    launch(bug.source, x, np.int32(COUNT), grid=(bug.blocks,), block=(bug.threads,))
    return x.get()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bug", BUGS.values(), ids=list(BUGS))
def test_check_finds_the_bug(machine: cp.Machine, bug: Bug, order: int) -> None:
    with machine.running("check", order), pytest.raises(KernelFault, match=bug.found):
        run_bug(bug)


@pytest.mark.parametrize("bug", [pytest.param(bug, id=name) for name, bug in BUGS.items() if bug.fast is not None])
def test_fast_finds_what_depends_on_the_order(machine: cp.Machine, bug: Bug) -> None:
    results = []
    try:
        for order in ORDERS:
            with machine.running("fast", order):
                results.append(run_bug(bug))
    except KernelFault:
        assert bug.fast
        return
    differ = any(result.tobytes() != results[0].tobytes() for result in results)
    assert (differ or any(np.isnan(result).any() for result in results)) == bug.fast


def test_a_fault_names_the_place(machine: cp.Machine) -> None:
    wanted = r"^k, threads in order 0: race of .*, block \(0, 0, 0\), line 2: x\[0\] = threadIdx.x;$"
    with pytest.raises(KernelFault, match=wanted):
        launch("k(float* x) {\n x[0] = threadIdx.x;\n}", ramp())


def test_after_a_fault_everything_works() -> None:
    with pytest.raises(KernelFault):
        launch("k(float* x) { x[0] = threadIdx.x; }", ramp())
    test_a_correct_kernel_passes("check", 0)


# a correct one -------------------------------------------------------------------------------------------------------

CONTROL = """k(const float* __restrict__ x, float* sums, int n) {
    __shared__ float tile[64];
    extern __shared__ float totals[];
    float sum = 0;
    for (int start = blockIdx.x * 64; start < n; start += gridDim.x * 64) {
        tile[threadIdx.x] = start + threadIdx.x < n ? x[start + threadIdx.x] : 0.0f;
        __syncthreads();
        sum += tile[63 - threadIdx.x];
        __syncthreads();
    }
    for (int other = 16; other > 0; other /= 2) sum += __shfl_down_sync(0xffffffffu, sum, other);
    if (threadIdx.x % 32 == 0) totals[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) sums[blockIdx.x] = totals[0] + totals[1];
    tile[threadIdx.x] = threadIdx.x;
    __syncwarp();
    const float neighbor = tile[threadIdx.x ^ 1];
    __syncwarp();
    tile[threadIdx.x] = neighbor;
}"""


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_a_correct_kernel_passes(mode: str, order: int) -> None:
    x, sums = ramp(1000), cp.empty(3, np.float32)
    with cp.machine.running(mode, order):
        launch(CONTROL, x, sums, np.int32(1000), grid=(3,), shared=8)
    owners = np.arange(1000) // 64 % 3
    np.testing.assert_array_equal(sums.get(), [np.arange(1000)[owners == block].sum() for block in range(3)])


def test_threads_and_blocks_run_in_the_order_of_the_seed(machine: cp.Machine) -> None:
    """The last one to write stays. Not checked, because it is a race."""
    last = {}
    for order in range(6):
        x = cp.zeros(2, np.float32)
        with machine.running("fast", order):
            launch("k(float* x) { x[0] = threadIdx.x; x[1] = blockIdx.x; }", x, grid=(100,), block=(100,))
        last[order] = tuple(x.get())
    assert last[0] == (99, 99)
    assert last[1] == (0, 0)
    assert len(set(last.values())) == 6


# the language --------------------------------------------------------------------------------------------------------


def test_indices_of_threads_and_blocks() -> None:
    """Thread (x, y, z) of block (x, y, z) writes its place in row-major order, and knows all sizes."""
    out = cp.empty((2 * 3 * 4, 5 * 6 * 7), np.int32)
    source = """k(int* out) {
        const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        out[block * 210 + thread] = 1000 * block + thread + (gridDim.z != 2 || blockDim.z != 5);
    }"""
    launch(source, out, grid=(4, 3, 2), block=(7, 6, 5))
    np.testing.assert_array_equal(out.get(), 1000 * np.arange(24)[:, None] + np.arange(210))


LANES = np.arange(32)
SHUFFLES = {
    "__shfl_sync(~0u, v, 5)": np.full(32, 5),
    "__shfl_sync(~0u, v, 5, 8)": LANES // 8 * 8 + 5,
    "__shfl_down_sync(~0u, v, 3)": np.where(LANES + 3 < 32, LANES + 3, LANES),
    "__shfl_down_sync(~0u, v, 3, 8)": np.where(LANES % 8 + 3 < 8, LANES + 3, LANES),
    "__shfl_up_sync(~0u, v, 3)": np.where(LANES >= 3, LANES - 3, LANES),
    "__shfl_up_sync(~0u, v, 3, 8)": np.where(LANES % 8 >= 3, LANES - 3, LANES),
    "__shfl_xor_sync(~0u, v, 9)": LANES ^ 9,
    "__shfl_xor_sync(~0u, v, 5, 8)": LANES ^ 5,
    "__ballot_sync(~0u, threadIdx.x % 3 == 1) >> 1": np.full(32, sum(2**lane for lane in range(0, 31, 3))),
    "__any_sync(~0u, threadIdx.x == 7)": np.ones(32),
    "__all_sync(~0u, threadIdx.x == 7)": np.zeros(32),
    "__syncthreads_count(threadIdx.x < 7)": np.full(32, 7),
    "__syncthreads_or(threadIdx.x == 7)": np.ones(32),
    "__syncthreads_and(threadIdx.x == 7)": np.zeros(32),
}


@pytest.mark.parametrize("expression", SHUFFLES)
def test_warp_operations(expression: str) -> None:
    out = cp.empty(32, np.int32)
    launch(f"k(int* out) {{ const int v = threadIdx.x; out[v] = {expression}; }}", out, block=(32,))
    np.testing.assert_array_equal(out.get(), SHUFFLES[expression])


def test_a_lane_that_gives_nothing_gives_nan() -> None:
    out = cp.zeros(32, np.float32)
    launch(
        "k(float* out) { if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xffffu, 1.0f, 8); }",
        out,
        block=(32,),
    )
    np.testing.assert_array_equal(out.get(), [1] * 8 + [np.nan] * 8 + [0] * 16)


def test_denormals_are_flushed_as_cupy_asks() -> None:
    x = device(np.array([1e-30, 1e-39], np.float32))
    launch("k(float* x) { x[threadIdx.x] *= threadIdx.x ? 1e10f : 1e-10f; }", x, block=(2,))
    np.testing.assert_array_equal(x.get(), [0, 0])
    assert np.float32(1e-30) * np.float32(1e-10) > 0  # and NumPy goes on as before


def test_no_atomics() -> None:
    """They would let the order of a sum depend on chance."""
    with pytest.raises(cp.CompileException, match="atomicAdd"):
        launch("k(float* x) { atomicAdd(x, 1.0f); }", ramp())


# what is refused, as on a GPU or more strictly -----------------------------------------------------------------------

STORE = "k(float* x, int n, float v) { x[n] = v; }"
ONE, HALF = np.int32(1), np.float32(0.5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((ONE, HALF), "has 3 parameters, and gets 2"),
        ((np.zeros(4, np.float32), ONE, HALF), "parameter 'P'"),
        ((None, 1, HALF), "1 is not what the parameter 'i'"),
        ((None, np.int64(1), HALF), "parameter 'i'"),
        ((None, HALF, HALF), "parameter 'i'"),
        ((None, ONE, 0.5), "0.5 is not what the parameter 'f'"),
        ((None, ONE, np.float64(0.5)), "parameter 'f'"),
        ((None, ONE, ONE), "parameter 'f'"),
    ],
)
def test_arguments_that_a_kernel_would_misread(arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(KernelFault, match=reason):
        launch(STORE, *arguments)


def test_an_array_that_is_not_contiguous() -> None:
    with pytest.raises(KernelFault, match="parameter 'P'"):
        launch(STORE, ramp()[::2], ONE, HALF)


@pytest.mark.parametrize(
    ("options", "grid", "block", "shared"),
    [
        ("", (0,), (32,), 0),
        ("", (1, 65_536), (32,), 0),
        ("", (1,), (1025,), 0),
        ("", (1,), (1, 1, 65), 0),
        ("__launch_bounds__(64)", (1,), (65,), 0),
        ("", (1,), (32,), 49_153),
    ],
)
def test_launches_that_a_gpu_refuses(options: str, grid: Any, block: Any, shared: int) -> None:
    function = cp.RawModule(code=f'extern "C" __global__ void {options} k() {{}}').get_function("k")
    with pytest.raises(cp.CUDADriverError, match="INVALID_VALUE"):
        function(grid, block, (), shared_mem=shared)


def test_more_shared_memory_where_it_is_asked_for() -> None:
    source = "k(float* x) { extern __shared__ float s[]; s[20000] = x[0]; x[0] = 2 * s[20000]; }"
    function = cp.RawModule(code=f'extern "C" __global__ void {source}').get_function("k")
    function.max_dynamic_shared_size_bytes = 80_004
    x = device(np.full(1, 21, np.float32))
    function((1,), (1,), (x,), shared_mem=80_004)
    assert x.get() == 42
    with pytest.raises(cp.CUDADriverError, match="INVALID_VALUE"):
        function.max_dynamic_shared_size_bytes = 228 << 10


def test_a_kernel_that_is_not_there() -> None:
    with pytest.raises(cp.CUDADriverError, match="NOT_FOUND"):
        cp.RawModule(code='extern "C" __global__ void k() {}').get_function("other")


def test_code_that_does_not_compile() -> None:
    with pytest.raises(cp.CompileException, match=r"kernel.cu:1:.*'?missing'?"):
        launch("k() { missing(); }")


def test_options_that_are_not_known() -> None:
    with pytest.raises(cp.CompileException, match="--use_fast_math"):
        cp.RawModule(code="", options=("--use_fast_math",)).compile()


# arrays --------------------------------------------------------------------------------------------------------------


def test_numpy_and_the_device_do_not_mix() -> None:
    x, host = ramp(), np.zeros(COUNT, np.float32)
    with pytest.raises(TypeError):
        np.asarray(x)
    with pytest.raises(TypeError):
        host + x  # type: ignore[operator]
    with pytest.raises(TypeError):
        x[...] = host
    with pytest.raises(ValueError, match="float64"):
        x.set(host.astype(np.float64))


def test_fresh_memory_is_nan() -> None:
    assert np.isnan(cp.empty((3, 4), np.float32).get()).all()
    assert (cp.zeros((3, 4), np.float32).get() == 0).all()


def test_views_and_copies() -> None:
    x = ramp(6)
    x[2:4][...] = x[:2]
    x[5:].fill(9)
    x[4] = 7
    np.testing.assert_array_equal(x.reshape(2, 3).get(), [[0, 1, 0], [1, 7, 9]])
    rows = x[device(np.array([5, 0], np.int32))]
    x.fill(0)
    np.testing.assert_array_equal(rows.get(), [9, 0])


# graphs --------------------------------------------------------------------------------------------------------------

FIRST = device(np.zeros(1, np.int32))
DOUBLE = 'extern "C" __global__ void k(float* x) { x[threadIdx.x] *= 2; }'


def test_a_graph_does_again_what_was_asked_for_while_it_was_recorded() -> None:
    stream, double = cp.Stream(), cp.RawModule(code=DOUBLE).get_function("k")
    x, y = ramp(4), cp.zeros(4, np.float32)
    with stream:
        stream.begin_capture()
        double((1,), (4,), (x,))
        y[...] = x
        x[:1].fill(1)
        graph = stream.end_capture()
    np.testing.assert_array_equal(x.get(), [0, 1, 2, 3])
    graph.launch(stream)
    graph.launch(stream)
    np.testing.assert_array_equal(y.get(), [2, 4, 8, 12])
    np.testing.assert_array_equal(x.get(), [1, 4, 8, 12])


def test_a_graph_keeps_no_array_alive() -> None:
    stream, x, y = cp.Stream(), ramp(4), cp.zeros(4, np.float32)
    with stream:
        stream.begin_capture()
        y[...] = x
        graph = stream.end_capture()
    del x
    with pytest.raises(KernelFault, match="an array that is gone"):
        graph.launch(stream)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.get(),
        lambda x: x.set(np.zeros(4, np.float32)),
        lambda x: cp.empty(4),
        lambda x: x[FIRST],
        lambda x: cp.get_current_stream().synchronize(),
        lambda x: cp.RawModule(code=DOUBLE).get_function("k"),
    ],
    ids=["to the host", "from the host", "allocation", "selection", "waiting", "loading"],
)
def test_what_cannot_be_recorded(work: Callable[[cp.ndarray], object]) -> None:
    x, stream = ramp(4), cp.Stream()
    with stream:
        stream.begin_capture()
        with pytest.raises(cp.CUDARuntimeError, match="CaptureUnsupported"):
            work(x)
        stream.end_capture()


def test_only_the_current_stream_is_recorded() -> None:
    x, stream = ramp(4), cp.Stream()
    stream.begin_capture()
    with pytest.raises(cp.CUDARuntimeError, match="CaptureImplicit"):
        x.fill(0)
    stream.end_capture()
    with pytest.raises(cp.CUDARuntimeError, match="CaptureUnsupported"):
        cp.Stream.null.begin_capture()


# the project's own code ----------------------------------------------------------------------------------------------


def test_the_modules_under_test_are_not_those_that_others_import(on_cpu: Any) -> None:
    assert "cupy" not in sys.modules or sys.modules["cupy"] is not on_cpu.cupy
    with cuda_on_cpu.installed():
        from lenet.executors import cuda_fused

        assert sys.modules["cupy"] is on_cpu.cupy
        assert cuda_fused is on_cpu.cuda_fused
    for name in cuda_on_cpu.MODULES:
        assert sys.modules.get(name) is not getattr(on_cpu, name.rpartition(".")[2])


EXECUTORS: dict[str, Callable[[Any], type[Executor]]] = {
    "eager": lambda modules: EagerExecutor,
    "graph": lambda modules: modules.cuda_graph.GraphExecutor,
    "fused": lambda modules: modules.cuda_fused.CudaFusedExecutor,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_in_every_order(on_cpu: Any, name: str, order: int) -> None:
    network = lenet5(NetworkSettings(), 28, 28, 10)
    with on_cpu.machine.running("check", order):
        self_check(EXECUTORS[name](on_cpu)(network, on_cpu.cupy_backend.CupyBackend(), Adam(), True))


# barriers: there is none too many, and a missing one is found --------------------------------------------------------

FILES = sorted(Path(lenet.kernels.cuda.__file__).parent.glob("*.cu*"))
BARRIERS = [(file, match.start()) for file in FILES for match in re.finditer(r"__sync\w+\(\);", file.read_text())]


def train_and_answer(modules: Any, build: type[Executor]) -> None:
    """On a network and a batch that are small, but go around in every loop over tiles."""
    images, rule = 66, Adam()
    network = lenet5(NetworkSettings(maps=(2, 3), dense=(20, 18), table="full"), 20, 20, 4)
    executor = build(network, modules.cupy_backend.CupyBackend(), rule)
    weights = np.linspace(-0.5, 0.5, network.size, dtype=np.float32)
    executor.write(State(weights, np.zeros((rule.moments, network.size), np.float32), None))
    samples = executor.upload(np.zeros((images, 20, 20), np.uint8), np.zeros(images, np.int32))
    executor.train_epoch(samples, EpochPlan(np.arange(images, dtype=np.int32), None, np.ones((1, 4)), images))
    executor.evaluate(samples)


@pytest.mark.parametrize("name", ["eager", "fused"])
def test_with_all_barriers_there_is_no_race(on_cpu: Any, name: str) -> None:
    train_and_answer(on_cpu, EXECUTORS[name](on_cpu))


@pytest.mark.parametrize(
    ("file", "at"),
    BARRIERS,
    ids=[f"{file.name}-line-{file.read_text().count(chr(10), 0, at) + 1}" for file, at in BARRIERS],
)
def test_a_missing_barrier_is_found(on_cpu: Any, monkeypatch: pytest.MonkeyPatch, file: Path, at: int) -> None:
    text = file.read_text()
    broken = text[:at] + text[text.index(";", at) :]

    def library(program: Program) -> Library:
        return Program(program.source.replace(text, broken), program.options).library("check")

    monkeypatch.setattr(cp, "_library", library)
    with pytest.raises(KernelFault, match=r"race|before it is written"):
        train_and_answer(on_cpu, EXECUTORS["fused" if file.name.startswith("fused") else "eager"](on_cpu))
