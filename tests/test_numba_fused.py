"""The fused executor of the Numba backend: held to NumPy in float64, for the shapes, threads and processors there are.

What all executors promise is in test_executors.py, and the runs in test_golden.py are fused runs too. Here stand the
edges of tiles and blocks, the threads, what interrupts them, and vectors of other widths.
"""

import _thread
import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite.binding import llvm_version_info
from numpy.typing import NDArray

from lenet import backends
from lenet.backends.numba_backend import NumbaBackend
from lenet.errors import Unsupported
from lenet.executors import EagerExecutor, EpochPlan, Executor, State, choose
from lenet.executors.numba_fused import FusedExecutor
from lenet.executors.numba_plan import Planner, vector_registers
from lenet.initialize import initialize
from lenet.kernels.cpu import cpus, fused
from lenet.kernels.cpu.simd import LANES
from lenet.layers import Dense, Pool2D
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule, hyper_table
from lenet.settings import NetworkSettings
from lenet.specs import DenseSpec, Pool2DSpec

X86 = platform.machine() in ("x86_64", "AMD64")


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, and on what."""

    settings: NetworkSettings = NetworkSettings()
    rule: Rule = Adam()
    averaging: bool = True
    distorted: bool = True
    height: int = 28
    width: int = 28
    classes: int = 10

    def network(self) -> Network:
        return lenet5(self.settings, self.height, self.width, self.classes)


CASES = {
    "default": Case(),
    "relu": Case(
        NetworkSettings((3, 5), (37, 11), "relu", "max", "full"),
        Momentum(),
        averaging=False,
        height=32,
        width=28,
        classes=3,
    ),
    "scaled_tanh": Case(
        NetworkSettings((6, 16), (37, 11), "scaled_tanh", "mean"),
        GradientDescent(),
        distorted=False,
        height=20,
        width=32,
    ),
    "tanh": Case(
        NetworkSettings((2, 3), (7, 20), "tanh", "mean", "full"),
        Adam(epsilon=1e-4),
        distorted=False,
        height=16,
        width=16,
        classes=3,
    ),
}
"""Few, because each is compiled anew; together they have every activation, pooling, table and rule."""

SMALL = CASES["tanh"]
STEPS, COUNT = 4, 57


def data(case: Case, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draw noisy images (M, H, W), brighter in a place that depends on the label, and their labels (M,)."""
    random = np.random.Generator(np.random.Philox(31))
    labels = random.integers(0, case.classes, count).astype(np.int32)
    images = random.integers(0, 128, (count, case.height, case.width))
    for image, label in zip(images, labels, strict=True):
        image[label : label + 6, 2 * label : 2 * label + 6] += 127
    return images.astype(np.uint8), labels


def epoch(case: Case, count: int, batch_size: int, images: int | None = None, rate: float = 0.02) -> EpochPlan:
    """Draw up an epoch of ``count`` out of ``images`` images, by default of each of them once."""
    random = np.random.Generator(np.random.Philox(37))
    order = random.permutation(count) if images is None else random.integers(0, images, count)
    moves = random.uniform(-1, 1, (count, 2, 3)) * [0.15, 0.15, 3.0]
    steps = -(-count // batch_size)
    hyper = hyper_table(case.rule, "constant", peak=rate, warmup=2, average=0.9, first=0, count=steps, total=steps)
    transforms = (np.eye(2, 3) + moves).astype(np.float32) if case.distorted else None
    return EpochPlan(order.astype(np.int32), transforms, hyper, batch_size)


def shared(plan: EpochPlan, case: Case) -> EpochPlan:
    """Return a plan whose targets are shares of all classes."""
    classes = case.network().classes
    shares = np.random.Generator(np.random.Philox(43)).dirichlet(np.ones(classes), len(plan.order))
    return replace(plan, targets=shares.astype(np.float32))


def start(case: Case) -> State:
    """Draw weights and biases, neither zero."""
    network = case.network()
    random = np.random.Generator(np.random.Philox(41))
    weights = (initialize(network, "glorot", 5) + random.uniform(-0.1, 0.1, network.size)).astype(np.float32)
    average = (weights + random.uniform(-0.1, 0.1, network.size)).astype(np.float32) if case.averaging else None
    return State(weights, np.zeros((case.rule.moments, network.size), np.float32), average)


def fused_executor(case: Case, threads: int = 2) -> FusedExecutor:
    return FusedExecutor(case.network(), NumbaBackend(threads), case.rule, case.averaging)


def definition(case: Case) -> EagerExecutor:
    """Return what the fused executor is held to: layer by layer, in float64."""
    return EagerExecutor(case.network(), backends.get("numpy", dtype=np.float64), case.rule, case.averaging)


def trained(executor: Executor, case: Case, plan: EpochPlan, images: int) -> tuple[list[float], State]:
    """Train the steps of a plan one by one; return the mean loss of each, and the last state."""
    executor.write(start(case))
    samples = executor.upload(*data(case, images))
    losses = []
    for step in range(plan.steps):
        part = slice(step * plan.batch_size, (step + 1) * plan.batch_size)
        moved = None if plan.transforms is None else plan.transforms[part]
        targets = None if plan.targets is None else plan.targets[part]
        one = EpochPlan(plan.order[part], moved, plan.hyper[step : step + 1], plan.batch_size, targets)
        losses.append(executor.train_epoch(samples, one))
    return losses, executor.read()


def assert_near(network: Network, ours: NDArray[Any], theirs: NDArray[Any], tolerance: float, before: Any = 0) -> None:
    """Compare every parameter's array: the largest difference, relative to how far the farthest number has moved."""
    for p in network.parameters:
        wanted = p.view(theirs)
        moved = abs(wanted - (p.view(before) if np.ndim(before) else before)).max()
        assert abs(p.view(ours) - wanted).max() <= tolerance * moved, p.key


def assert_same_state(case: Case, ours: State, theirs: State, tolerance: float) -> None:
    network, before = case.network(), start(case)
    assert_near(network, ours.parameters, theirs.parameters, tolerance, before.parameters)
    for moments, wanted in zip(ours.moments, theirs.moments, strict=True):
        assert_near(network, moments, wanted, tolerance)
    assert (ours.average is None) == (theirs.average is None) == (not case.averaging)
    if case.averaging:
        assert_near(network, ours.weights, theirs.weights, tolerance, before.weights)


# what is still to be put right


# numbers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_float64(name: str) -> None:
    """Read the gradient off a first step: the moments hold it, or a step so long that the weights vanish beside it."""
    case = CASES[name]
    network, gradients = case.network(), []
    plan = epoch(case, 33, 33, rate=2.0**60)
    for executor in (fused_executor(case), definition(case)):
        one = replace(plan, hyper=np.array([[2.0**60, 0.1, 0.001, 0.9]]))
        _, state = trained(executor, case, shared(one, case), 33)
        gradients.append(state.moments[0] if case.rule.moments else state.parameters * -(2.0**-60))
    assert_near(network, *gradients, tolerance=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_steps_equal_float64(name: str) -> None:
    case = CASES[name]
    plan = epoch(case, COUNT, 17)
    assert plan.steps == STEPS
    losses, state = trained(fused_executor(case), case, plan, COUNT)
    wanted_losses, wanted = trained(definition(case), case, plan, COUNT)
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-5)
    assert_same_state(case, state, wanted, 1e-4)


@pytest.mark.parametrize("batch_size", [1, 15, 16, 17, 64, 100])
def test_every_batch_size_and_a_smaller_last_batch(batch_size: int) -> None:
    count = 2 * batch_size + (batch_size + 1) // 2
    plan = shared(epoch(SMALL, count, batch_size), SMALL)
    states = []
    for executor in (fused_executor(SMALL), definition(SMALL)):
        executor.write(start(SMALL))
        cost = executor.train_epoch(executor.upload(*data(SMALL, count)), plan)
        states.append((cost, executor.read()))
    (cost, state), (wanted_cost, wanted) = states
    assert cost == pytest.approx(wanted_cost, rel=1e-5)
    assert_same_state(SMALL, state, wanted, 1e-4)


def opinionated(case: Case) -> State:
    """Return weights large enough, and biases of the output balanced enough, to give different answers."""
    state = start(case)
    weights = 3 * state.weights
    undecided = definition(case)
    undecided.write(replace(state, average=weights))
    output = case.network().parameters[-1]
    output.view(weights)[:] -= undecided.predict(data(case, 100)[0]).mean(axis=0)
    return replace(state, average=weights)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38])
def test_a_map_that_leads_nowhere_gives_a_dark_image(number: float) -> None:
    """Not what lies somewhere in memory: bit for bit as when the image is moved far away."""
    case = CASES["default"]
    results = []
    for wrong in (number, 1e6):
        plan = epoch(case, 32, 32)
        assert plan.transforms is not None
        plan.transforms[5:20, :, 2] = wrong
        results.append(trained(fused_executor(case), case, plan, 32))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1].parameters, results[1][1].parameters)


@pytest.mark.parametrize("name", ["default", "tanh"])
def test_answers_equal_float64(name: str) -> None:
    case = CASES[name]
    images, labels = data(case, 100)
    ours, theirs = fused_executor(case), definition(case)
    for executor in (ours, theirs):
        executor.write(opinionated(case))
    wanted = theirs.predict(images)
    wanted_losses, wanted_answers = theirs.evaluate(theirs.upload(images, labels))
    assert len(set(wanted_answers.tolist())) > 1
    for count in (100, 33, 17, 16, 15, 2, 1, 0):
        np.testing.assert_allclose(ours.predict(images[:count]), wanted[:count], rtol=0, atol=1e-5)
        losses, answers = ours.evaluate(ours.upload(images[:count], labels[:count]))
        np.testing.assert_allclose(losses, wanted_losses[:count], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(answers, wanted_answers[:count])


def test_one_image_is_answered_by_its_own_network() -> None:
    """Others of the same sizes, and compiled later, must not be mistaken for it."""
    images, _ = data(SMALL, 1)
    other = replace(SMALL, settings=replace(SMALL.settings, activation="sigmoid"))
    for case in (SMALL, other, SMALL, other):
        ours, theirs = fused_executor(case), definition(case)
        for executor in (ours, theirs):
            executor.write(start(case))
        for _ in range(2):
            np.testing.assert_allclose(ours.predict(images), theirs.predict(images), rtol=0, atol=1e-5)


def test_the_average_answers() -> None:
    images, _ = data(SMALL, 20)
    state = start(SMALL)
    executor, plain = fused_executor(SMALL), definition(replace(SMALL, averaging=False))
    executor.write(state)
    plain.write(State(state.weights, state.moments, None))
    assert abs(state.weights - state.parameters).max() > 0.01
    np.testing.assert_allclose(executor.predict(images), plain.predict(images), rtol=0, atol=1e-5)


def test_no_layer_reads_beyond_its_arrays() -> None:
    """Inputs are kept in whole blocks of 16 vectors: the scratch has to reach behind the last of them."""
    for units, classes in product([(1, 1), (7, 20), (37, 11), (120, 84)], [2, 10]):
        network = lenet5(NetworkSettings((2, 3), units, table="full"), 16, 16, classes)
        plan = Planner(network, 32).plan(None, False, False)
        for stage in (plan.f5, plan.f6, plan.output):
            assert stage.x + stage.stride * LANES <= plan.scratch


# threads -------------------------------------------------------------------------------------------------------------


@cache
def trained_by(threads: int) -> tuple[bytes, ...]:
    """Return the bits of all that training and evaluation give."""
    executor = fused_executor(SMALL, threads)
    plan = epoch(SMALL, 570, 100)
    executor.write(start(SMALL))
    images, labels = data(SMALL, 570)
    samples = executor.upload(images, labels)
    cost = executor.train_epoch(samples, plan)
    state = executor.read()
    arrays = (state.parameters, state.moments, state.weights, *executor.evaluate(samples), executor.predict(images))
    return np.float64(cost).tobytes(), *(array.tobytes() for array in arrays)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_same_bits_for_any_number_of_threads(threads: int) -> None:
    for _ in range(3):
        trained_by.cache_clear()
        assert trained_by(threads) == trained_by(1)


class Long:
    """An epoch of some seconds."""

    def __init__(self, threads: int, count: int = 1_000_000, case: Case = SMALL) -> None:
        self.executor = fused_executor(case, threads)
        self.executor.write(start(case))
        self.samples = self.executor.upload(*data(case, 50))
        self.executor.train_epoch(self.samples, epoch(case, 50, 50))  # compiled before any clock starts
        self.plan = epoch(case, count, 64, images=50, rate=1e-4)

    def train(self, watch: Any = None) -> float:
        return self.executor.train_epoch(self.samples, self.plan, watch)


def own_threads() -> set[threading.Thread]:
    """Return what runs besides the main thread, and besides what other tests have left running."""
    return set(threading.enumerate()) - STRANGERS


STRANGERS = set(threading.enumerate())


@pytest.fixture(autouse=True)
def _strangers() -> None:
    STRANGERS.update(threading.enumerate())


def assert_works_as_new(executor: FusedExecutor) -> None:
    """After whatever happened: no thread is left, and training gives the bits of a fresh executor."""
    assert not own_threads()
    results = []
    for each in (executor, fused_executor(SMALL, 2)):
        losses, state = trained(each, SMALL, epoch(SMALL, COUNT, 17), COUNT)
        results.append((losses, *(array.tobytes() for array in (state.parameters, state.moments, state.weights))))
    assert results[0] == results[1]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_as_many_threads_as_asked_for(threads: int) -> None:
    counts: list[int] = []

    def count(done: int, mean: float) -> None:
        counts.append(len(own_threads()))
        raise StopIteration

    with pytest.raises(StopIteration):
        Long(threads).train(count)
    assert counts == [threads]
    assert not own_threads()


def test_the_watch_is_told_of_all_images() -> None:
    told: list[tuple[int, float]] = []
    long = Long(2, 50_000)
    cost = long.train(lambda done, mean: told.append((done, mean)))
    places, means = zip(*told, strict=True)
    assert list(places) == sorted(set(places))
    assert places[-1] == 50_000
    assert np.isfinite(means).all()
    counts = np.diff([0, *places])
    assert (counts @ np.array(means)) / 50_000 == pytest.approx(cost, rel=1e-6)


def test_the_watch_is_told_of_the_shortest_epoch() -> None:
    long = Long(2)
    told: list[int] = []
    for _ in range(50):
        long.executor.train_epoch(long.samples, epoch(SMALL, 1, 1), lambda done, mean: told.append(done))
    assert told == [1] * 50


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_the_watch_raises_comes_out_and_nothing_is_left_behind(threads: int) -> None:
    long = Long(threads)

    def fail(done: int, mean: float) -> None:
        raise ZeroDivisionError("watched")

    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="watched"):
        long.train(fail)
    assert time.monotonic() - begun < 2
    assert_works_as_new(long.executor)


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_an_epoch_within_a_second(threads: int) -> None:
    long = Long(threads, 3_000_000)
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        _thread.interrupt_main()

    timer = threading.Timer(0.3, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        long.train()
    assert time.monotonic() - pressed[0] < 1
    timer.join()
    assert_works_as_new(long.executor)


def lose_a_thread() -> None:
    """Let the second of three threads fail as soon as it begins; exit with the code 3 when that comes out."""
    long = Long(3, 100_000)
    lock, begun = threading.Lock(), []
    compiled = fused.train

    def train(*arguments: Any) -> None:
        with lock:
            begun.append(threading.current_thread() is not threading.main_thread())
            if begun[-1] and sum(begun) == 2:
                raise MemoryError("no room")
        compiled(*arguments)

    fused.train = train
    try:
        long.train()
    except MemoryError:
        fused.train = compiled
        assert_works_as_new(long.executor)
        sys.exit(3)


def test_what_a_thread_raises_ends_the_epoch() -> None:
    """The others must not wait for a thread that is gone; in a process of its own, for they might."""
    program = "import test_numba_fused; test_numba_fused.lose_a_thread()"
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, timeout=20, check=False)
    assert done.returncode == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes")
@pytest.mark.skipif(cpus.usable() < 2, reason="one CPU only")
def test_two_threads_on_two_cpus_of_which_one_is_taken() -> None:
    """Threads that only spun would wait whole turns of the scheduler for each other: tens of times slower."""
    before = os.sched_getaffinity(0)
    one, other = sorted(before)[:2]
    rivals = [Long(threads, 3200, CASES["default"]) for threads in (1, 2)]
    program = f"import os\nos.sched_setaffinity(0, {{{one}}})\nwhile True: pass"
    seconds: list[list[float]] = []
    with subprocess.Popen([sys.executable, "-c", program]) as taken:
        try:
            os.sched_setaffinity(0, {one, other})  # of this thread and of those that it starts
            for _ in range(9):
                seconds.append([])
                for long in rivals:
                    begun = time.perf_counter()
                    long.train()
                    seconds[-1].append(time.perf_counter() - begun)
        finally:
            os.sched_setaffinity(0, before)
            taken.kill()
    alone, together = np.min(seconds, axis=0)  # others may take a core as well now and then
    assert together < 3 * alone, f"{alone:.3f} s with one thread, {together:.3f} s with two"


# processors ----------------------------------------------------------------------------------------------------------

PROCESSORS = {
    "avx512": ("skylake-avx512", "+avx,+avx2,+fma,+avx512f", 32),
    "avx2": ("haswell", "+avx,+avx2,+fma", 8),
    "sse2": ("x86-64", "", 4),
}
"""Names and features of LLVM, and how many vectors of 16 floats their registers hold."""

NARROWER = ("avx2", "sse2")


def small_training() -> tuple[float, State, NDArray[Any]]:
    """Train some steps; return cost, state and answers."""
    executor = fused_executor(SMALL)
    executor.write(start(SMALL))
    images, labels = data(SMALL, COUNT)
    cost = executor.train_epoch(executor.upload(images, labels), epoch(SMALL, COUNT, 17))
    return cost, executor.read(), executor.predict(images[:3])


def digest(state: State, logits: NDArray[Any]) -> str:
    """Return a checksum of what a training gives."""
    arrays = (state.parameters, state.moments, state.weights, logits)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def report() -> dict[str, Any]:
    """Return what another process, which compiles for another processor, has to tell."""
    registers = vector_registers()
    cost, state, logits = small_training()
    return {
        "registers": registers,
        "hits": sum(fused.train.stats.cache_hits.values()),  # type: ignore[attr-defined]
        "misses": sum(fused.train.stats.cache_misses.values()),  # type: ignore[attr-defined]
        "cost": cost,
        "digest": digest(state, logits),
        "arrays": [array.tolist() for array in (state.parameters, state.moments, state.weights, logits)],
        "zmm": any("zmm" in code for code in fused.train.inspect_asm().values()),  # type: ignore[attr-defined]
    }


def begin(environment: dict[str, str], folder: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, **environment, "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, __file__]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return dict(json.loads(out))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in NARROWER}


@pytest.fixture(scope="module")
def reports(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Train in processes that compile for narrower vectors, each with a cache of its own, all at once."""
    running = {name: begin(forced(name), folder) for name, folder in folders.items()}
    return {name: end(process) for name, process in running.items()}


def forced(name: str) -> dict[str, str]:
    """Return the environment in which Numba compiles for a processor."""
    return {"NUMBA_CPU_NAME": PROCESSORS[name][0], "NUMBA_CPU_FEATURES": PROCESSORS[name][1]}


@pytest.mark.skipif(not X86, reason="the digests are of x86-64")
def test_each_width_gives_the_bits_that_are_kept(reports: dict[str, dict[str, Any]]) -> None:
    """Where the numbers are meant to change, so are those in ``golden/``; other compilers may round otherwise."""
    kept = json.loads((Path(__file__).parent / "golden" / "fused-digests.json").read_text())
    if llvm_version_info[0] != kept.pop("llvm"):
        pytest.skip(f"the digests are those of another LLVM than {llvm_version_info[0]}")
    found = {name: report["digest"] for name, report in reports.items()}
    if vector_registers() == PROCESSORS["avx512"][2]:
        found["avx512"] = digest(*small_training()[1:])
    assert found == {name: kept[name] for name in found}


@pytest.mark.skipif(not X86, reason="the processors that are forced are x86-64")
@pytest.mark.parametrize("name", NARROWER)
def test_narrower_vectors_train_the_same(name: str, reports: dict[str, dict[str, Any]]) -> None:
    report = reports[name]
    assert not report["zmm"]  # it was forced indeed
    assert report["registers"] == PROCESSORS[name][2]
    wanted_cost, wanted, logits = small_training()
    assert report["cost"] == pytest.approx(wanted_cost, rel=1e-5)
    parameters, moments, average, answers = (np.array(array) for array in report["arrays"])
    assert_same_state(SMALL, State(parameters, moments, average), wanted, 1e-4)
    np.testing.assert_allclose(answers, logits, rtol=0, atol=1e-5)


@pytest.mark.skipif(not X86, reason="the processors that are forced are x86-64")
def test_the_next_process_compiles_nothing(folders: dict[str, Path], reports: dict[str, dict[str, Any]]) -> None:
    first = reports["avx2"]
    assert (first["hits"], first["misses"]) == (0, 1)
    second = end(begin(forced("avx2"), folders["avx2"]))
    assert (second["hits"], second["misses"]) == (1, 0)
    assert second["arrays"] == first["arrays"]


@pytest.mark.skipif(not X86, reason="the processors that are forced are x86-64")
@pytest.mark.parametrize("name", PROCESSORS)
def test_blocks_fit_the_registers_of_the_processor_compiled_for(name: str) -> None:
    program = "from lenet.executors.numba_plan import vector_registers; print(vector_registers())"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **forced(name)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == PROCESSORS[name][2]


@pytest.mark.parametrize("registers", [32, 8, 4])
@pytest.mark.parametrize("settings", [case.settings for case in CASES.values()], ids=list(CASES))
def test_accumulators_and_what_is_added_to_them_fit_the_registers(settings: NetworkSettings, registers: int) -> None:
    plan = Planner(lenet5(settings, 28, 28, 10), registers).plan(None, False, False)
    for conv in (plan.c1, plan.c3):
        assert 2 * conv.block + conv.block + conv.kernel_width - 1 <= max(registers, 10)
        assert conv.columns % conv.block == 0
        assert conv.block % 2 == 0
    for dense in (plan.f5, plan.f6, plan.output):
        for block, rest, count in (
            (dense.out, dense.out_rest, dense.outputs),
            (dense.back, dense.back_rest, dense.inputs),
        ):
            assert block.count < registers
            assert count % block.count % rest.count == 0


# what it serves ------------------------------------------------------------------------------------------------------


def pooled_by_four() -> Network:
    """Return LeNet-5 but for its last pooling, over windows of 4 x 4."""
    network = lenet5(NetworkSettings(), 28, 28, 10)
    layers = list(network.layers)
    layers[5] = Pool2D("S4", Pool2DSpec(16, 8, 8, window=4))
    layers[6] = Dense("F5", DenseSpec(16 * 2 * 2, 120))
    return Network(tuple(layers))


def test_the_fused_executor_is_chosen_where_it_serves() -> None:
    for case in CASES.values():
        assert type(choose(case.network(), NumbaBackend(1), case.rule, case.averaging)) is FusedExecutor
    assert type(choose(SMALL.network(), backends.get("numpy"), SMALL.rule)) is EagerExecutor


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (pooled_by_four(), "pools windows of 2 x 2, not 4 x 4"),
        (Network((Dense("output", DenseSpec(784, 10)),)), "LeNet-5 only"),
    ],
    ids=["pool", "dense"],
)
def test_another_network_is_refused_with_the_reason_and_runs_layer_by_layer(network: Network, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        FusedExecutor(network, NumbaBackend(1))
    assert type(choose(network, NumbaBackend(1))) is EagerExecutor


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report()))
