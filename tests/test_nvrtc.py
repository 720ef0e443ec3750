"""Every kernel that the CuPy backend and its executors ask for, compiled by NVIDIA's compiler for all architectures."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NoReturn

import cuda_on_cpu
import numpy as np
import nvrtc
import pytest
from cuda_on_cpu.build import Program
from cuda_on_cpu.fake_cupy import Launch
from nvrtc import Nvrtc, Usage

from lenet.bench.ceilings import ceilings
from lenet.executors import EagerExecutor, EpochPlan, State
from lenet.lenet5 import lenet5
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule
from lenet.settings import NetworkSettings

KIB = 1 << 10
SHARED = {70: 96, 75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""The architectures, and how many KiB of shared memory a block may have there (CUDA C++ programming guide)."""

REGISTERS_OF_A_BLOCK = 65_536
REGISTERS = {"train": 96, "answer": 96, "update": 128}
"""The most a thread of a fused kernel may need. They hold whole tiles; a block of them has an SM (almost) to itself."""
REGISTERS_OF_OTHERS = 64  # so that 1024 threads fit on an SM

NETWORKS: list[tuple[NetworkSettings, Rule, bool]] = [
    (NetworkSettings(), Adam(), True),
    (NetworkSettings(), Momentum(), False),
    (NetworkSettings(activation="relu", pool="max", table="full"), Momentum(), True),
    (NetworkSettings(activation="tanh"), GradientDescent(), True),
    (NetworkSettings(activation="scaled_tanh", pool="max"), GradientDescent(), False),
]
"""Each choice at least once; the default network first."""


@cache
def launches_of(settings: NetworkSettings, rule: Rule, averaging: bool) -> set[Launch]:
    """Train and evaluate with every executor, without running a kernel, and return what would have been launched."""
    modules, network = cuda_on_cpu.stand_in(), lenet5(settings, 28, 28, 10)
    weights, moments = np.zeros(network.size, np.float32), np.zeros((rule.moments, network.size), np.float32)
    plan = EpochPlan(np.arange(4, dtype=np.int32), np.zeros((4, 2, 3), np.float32), np.ones((2, 4)), batch_size=2)
    modules.machine.launched.clear()
    with modules.machine.running("record"):
        for build in (EagerExecutor, modules.cuda_graph.GraphExecutor, modules.cuda_fused.CudaFusedExecutor):
            executor = build(network, modules.cupy_backend.CupyBackend(), rule, averaging)
            executor.write(State(weights, moments, weights if averaging else None))
            samples = executor.upload(np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.int32))
            executor.train_epoch(samples, plan)
            executor.evaluate(samples)
        with cuda_on_cpu.installed():
            for ceiling in ceilings(modules.cupy_backend.CupyBackend()):
                ceiling.run()
    return set(modules.machine.launched)


def launches() -> set[Launch]:
    return set().union(*(launches_of(*network) for network in NETWORKS))


@pytest.fixture(scope="module", params=[12, 13])
def compiler(request: pytest.FixtureRequest, without_tool: Callable[[str], NoReturn]) -> Nvrtc:
    versions = {found.version[0]: found for found in nvrtc.installed()}
    if request.param not in versions:
        without_tool(f"NVRTC {request.param} is not installed; pip install lenet[cuda-check]")
    return versions[request.param]


@pytest.fixture(scope="module", params=SHARED, ids=lambda architecture: f"sm_{architecture}")
def architecture(request: pytest.FixtureRequest, compiler: Nvrtc) -> Any:
    if request.param not in compiler.architectures:
        assert (request.param, compiler.version[0]) == (70, 13)
        pytest.skip(f"NVRTC {compiler.version[0]} compiles no more for sm_{request.param}")
    return request.param


@pytest.fixture(scope="module")
def usages(compiler: Nvrtc, architecture: int) -> dict[Program, dict[str, Usage]]:
    programs = sorted({launch.program for launch in launches()}, key=lambda program: len(program.source))
    with ThreadPoolExecutor() as pool:
        done = pool.map(lambda program: compiler.compile(program.source, program.options, architecture), programs)
        return dict(zip(programs, done, strict=True))


def name(launch: Launch) -> str:
    """Return the kernel and its macros, but for the lists of connections."""
    return " ".join([launch.kernel, *(option for option in launch.program.options if "," not in option)])


def test_no_kernel_spills(usages: dict[Program, dict[str, Usage]]) -> None:
    local = {name(launch): usages[launch.program][launch.kernel].local for launch in launches()}
    assert {kernel: size for kernel, size in local.items() if size} == {}


def test_registers(usages: dict[Program, dict[str, Usage]]) -> None:
    for launch in launches():
        registers = usages[launch.program][launch.kernel].registers
        assert 0 < registers <= REGISTERS.get(launch.kernel, REGISTERS_OF_OTHERS), name(launch)
        assert -(-registers // 8) * 8 * launch.threads <= REGISTERS_OF_A_BLOCK, name(launch)


def test_shared_memory_of_the_default_network(usages: dict[Program, dict[str, Usage]], architecture: int) -> None:
    """Of other networks the fused executor asks on the spot."""
    for launch in launches_of(*NETWORKS[0]):
        assert usages[launch.program][launch.kernel].shared + launch.shared <= SHARED[architecture] * KIB, name(launch)


def test_a_kernel_that_does_not_compile_is_refused(compiler: Nvrtc) -> None:
    with pytest.raises(nvrtc.CompileError, match="undefined"):
        compiler.compile('extern "C" __global__ void k() { missing(); }', (), 90)


def test_a_kernel_with_local_memory_is_seen(compiler: Nvrtc) -> None:
    source = """extern "C" __global__ void k(float* x, int n) {
        float local[64];
        for (int i = 0; i < n; ++i) local[int(x[i]) % 64] = i;
        x[0] = local[n];
    }"""
    assert compiler.compile(source, (), 90)["k"].local == 256


def test_everything_was_asked_for() -> None:
    """Every kernel of every file: one that nobody launches would be compiled by nobody."""
    folder = cuda_on_cpu.stand_in().loader.HERE
    written = {kernel for file in folder.glob("*.cu") for kernel in cuda_on_cpu.build.kernels(file.read_text())}
    assert {launch.kernel for launch in launches()} == written
