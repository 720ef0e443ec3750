"""The CUDA executors: the oracle and NumPy in float64 say what is right; a stand-in for a GPU, or one, runs them."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import test_executors
from numpy.typing import NDArray

from lenet import backends
from lenet.backends.base import Backend
from lenet.errors import DeviceUnusable, Unsupported
from lenet.executors import EagerExecutor, EpochPlan, Executor, State, choose
from lenet.executors.check import self_check
from lenet.initialize import initialize
from lenet.layers import Conv2D, Dense, Pool2D
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule, hyper_table
from lenet.settings import NetworkSettings
from lenet.specs import ConnectionTable, Conv2DSpec, DenseSpec, Pool2DSpec

Build = Callable[..., Executor]


@dataclass(frozen=True)
class Cuda:
    """A GPU, or what stands in for it: a backend, and the modules of its executors."""

    backend: Backend
    graph: Any
    fused: Any


@pytest.fixture(scope="module", params=["stand-in", "gpu"])
def cuda(request: pytest.FixtureRequest) -> Cuda:
    if request.param == "stand-in":
        modules = request.getfixturevalue("on_cpu")
        return Cuda(modules.cupy_backend.CupyBackend(), modules.cuda_graph, modules.cuda_fused)
    try:
        backend = backends.get("cupy")
    except DeviceUnusable as error:
        pytest.skip(str(error))
    return Cuda(backend, *(import_module(f"lenet.executors.cuda_{name}") for name in ("graph", "fused")))


@pytest.fixture(params=["graph", "fused"])
def build(request: pytest.FixtureRequest, cuda: Cuda) -> Build:
    classes = {"graph": cuda.graph.GraphExecutor, "fused": cuda.fused.CudaFusedExecutor}
    return classes[request.param]


@pytest.fixture(autouse=True)
def _few_steps_in_a_graph(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let short epochs be replayed more than once."""
    for module in (cuda.graph, cuda.fused):
        monkeypatch.setattr(module, "STEPS", 2)


# against the oracle --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("variant", test_executors.VARIANTS, ids=str)
def test_training_equals_the_oracle(cuda: Cuda, build: Build, variant: test_executors.Variant, steps: int) -> None:
    test_executors.test_training_equals_the_oracle(cuda.backend, build, variant, steps)


@pytest.mark.parametrize("variant", test_executors.VARIANTS, ids=str)
def test_answers_equal_the_oracle(cuda: Cuda, build: Build, variant: test_executors.Variant) -> None:
    test_executors.test_answers_equal_the_oracle(cuda.backend, build, variant)


# against NumPy in float64 --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network, and how two epochs of it are trained."""

    settings: NetworkSettings = NetworkSettings()
    height: int = 28
    width: int = 28
    classes: int = 10
    rule: Rule = GradientDescent()
    averaging: bool = True
    distorted: bool = True
    images: int = 7
    batch: int = 3

    def network(self) -> Network:
        return lenet5(self.settings, self.height, self.width, self.classes)

    def state(self) -> State:
        network = self.network()
        parameters = initialize(network, "glorot", 1)
        parameters += np.random.Generator(np.random.Philox(5)).uniform(-0.05, 0.05, network.size)  # biases too
        moments = np.zeros((self.rule.moments, network.size), np.float32)
        return State(parameters.astype(np.float32), moments, parameters.astype(np.float32) if self.averaging else None)

    def data(self) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        random = np.random.Generator(np.random.Philox(7))
        count = self.images + 2  # some that the epoch leaves out
        images = random.integers(0, 256, (count, self.height, self.width)).astype(np.uint8)
        return images, random.integers(0, self.classes, count).astype(np.int32)

    def epochs(self) -> Iterator[EpochPlan]:
        random = np.random.Generator(np.random.Philox(11))
        steps = -(-self.images // self.batch)
        for first in (0, steps):
            moved = (np.eye(2, 3) + random.uniform(-0.2, 0.2, (self.images, 2, 3))).astype(np.float32)
            hyper = hyper_table(
                self.rule, "cosine", peak=0.02, warmup=0, average=0.9, first=first, count=steps, total=2 * steps
            )
            order = random.permutation(self.images + 2)[: self.images].astype(np.int32)
            targets = random.dirichlet(np.ones(self.classes), self.images).astype(np.float32)
            yield EpochPlan(order, moved if self.distorted else None, hyper, self.batch, targets if first else None)

    def run(self, executor: Executor) -> tuple[list[float], State, tuple[NDArray[Any], NDArray[np.int32]]]:
        """Train two epochs and evaluate; return the costs, the state, the losses and answers."""
        executor.write(self.state())
        samples = executor.upload(*self.data())
        costs = [executor.train_epoch(samples, plan) for plan in self.epochs()]
        return costs, executor.read(), executor.evaluate(samples)


SMALL = NetworkSettings(maps=(2, 3), dense=(5, 4), table="full")
ADAM = Adam(epsilon=1e-3)  # so that rounding does not decide the direction of a step along a gradient of almost zero
CASES = {
    "the default network": Case(rule=ADAM),
    "every pair, maximum, relu": Case(
        NetworkSettings(activation="relu", pool="max", table="full"), rule=Momentum(), averaging=False, distorted=False
    ),
    "one image a step": Case(SMALL, 16, 16, 3, images=5, batch=1),
    "one step": Case(SMALL, 16, 16, 3, rule=Momentum(), images=6, batch=6),
    "a batch larger than the epoch": Case(SMALL, 16, 16, 3, rule=Momentum(), images=6, batch=1000),
    "more images than a tile of the update": Case(SMALL, 16, 16, 3, rule=ADAM, averaging=False, images=150, batch=70),
    "odd sizes": Case(
        replace(SMALL, maps=(3, 5), dense=(7, 9), activation="scaled_tanh", pool="max"), 20, 24, 4, rule=ADAM
    ),
    "more units than threads": Case(replace(SMALL, dense=(600, 37), activation="tanh"), 16, 20, 40, images=4),
    "more maps than threads": Case(replace(SMALL, maps=(7, 70), dense=(20, 10)), 20, 20, 4, images=4),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_two_epochs_equal_numpy(cuda: Cuda, case: Case) -> None:
    executor = cuda.fused.CudaFusedExecutor(case.network(), cuda.backend, case.rule, case.averaging)
    costs, state, (losses, answers) = case.run(executor)
    reference = EagerExecutor(case.network(), backends.get("numpy", dtype=np.float64), case.rule, case.averaging)
    wanted_costs, wanted, (wanted_losses, wanted_answers) = case.run(reference)
    np.testing.assert_allclose(costs, wanted_costs, rtol=1e-5)
    for name in ("parameters", "moments", "weights"):
        ours, theirs = getattr(state, name), getattr(wanted, name)
        start = 0.0 if name == "moments" else case.state().parameters
        moved = float(np.linalg.norm(theirs - start))
        assert np.linalg.norm(ours - theirs) <= 1e-4 * moved, name
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-4)
    np.testing.assert_array_equal(answers, wanted_answers)


@pytest.mark.parametrize("distorted", [True, False], ids=["distorted", "as they are"])
@pytest.mark.parametrize("images", [10, 13, 14, 15], ids=lambda images: f"{images} images")
def test_a_graph_trains_to_the_bits_of_eager(cuda: Cuda, images: int, distorted: bool) -> None:
    case = Case(SMALL, 16, 16, 3, rule=ADAM, images=images, batch=2, distorted=distorted)
    costs, state, (losses, _) = case.run(cuda.graph.GraphExecutor(case.network(), cuda.backend, ADAM, True))
    wanted_costs, wanted, (wanted_losses, _) = case.run(EagerExecutor(case.network(), cuda.backend, ADAM, True))
    assert costs == wanted_costs
    assert test_executors.same_bits(state, wanted)
    assert state.weights.tobytes() == wanted.weights.tobytes()
    assert losses.tobytes() == wanted_losses.tobytes()


def test_a_graph_serves_other_data_other_batches_and_epochs_without_distortion(cuda: Cuda, build: Build) -> None:
    case = Case(SMALL, 16, 16, 3, rule=ADAM, images=12, batch=2)
    images, labels = case.data()
    plan, other = case.epochs()
    plans = [plan, replace(plan, transforms=None), replace(plan, hyper=plan.hyper[:4], batch_size=3), other]
    executors = [build(case.network(), cuda.backend, ADAM)]
    executors.append(EagerExecutor(case.network(), backends.get("numpy", dtype=np.float64), ADAM))
    costs = []
    for executor in executors:
        executor.write(replace(case.state(), average=None))
        data = [executor.upload(images, labels), executor.upload(images[::-1].copy(), labels)]
        costs.append([executor.train_epoch(samples, each) for samples in data for each in plans])
    assert costs[0] == pytest.approx(costs[1], rel=1e-4)


@pytest.mark.parametrize("distorted", [True, False])
def test_the_images_of_an_epoch_are_answered_as_they_are_met_in_it(cuda: Cuda, build: Build, distorted: bool) -> None:
    case = Case(SMALL, 16, 16, 3, distorted=distorted)
    plan, _ = case.epochs()
    logits = []
    for backend, kind in ((cuda.backend, build), (backends.get("numpy", dtype=np.float64), EagerExecutor)):
        executor = kind(case.network(), backend)
        executor.write(State.of(case.state().parameters))
        logits.append(executor.predict_epoch(executor.upload(*case.data()), plan))
    assert logits[0].dtype == np.float32
    np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-5 * abs(logits[1]).max())


def test_training_twice_gives_the_same_bits(cuda: Cuda, build: Build) -> None:
    case = Case(SMALL, 16, 16, 3, rule=ADAM)
    (costs, state, _), (again, state_again, _) = (
        case.run(build(case.network(), cuda.backend, ADAM, True)) for _ in range(2)
    )
    assert costs == again
    assert test_executors.same_bits(state, state_again)


def test_a_diverged_run_is_seen_in_its_cost(cuda: Cuda, build: Build) -> None:
    case = Case(replace(SMALL, activation="relu", pool="max"), 16, 16, 3)
    executor = build(case.network(), cuda.backend, case.rule)
    start = replace(case.state(), average=None)
    start.parameters[0] = np.nan
    executor.write(start)
    plan, _ = case.epochs()
    samples = executor.upload(*case.data())
    assert np.isnan(executor.train_epoch(samples, plan))
    assert np.isnan(executor.evaluate(samples)[0]).all()


def test_the_self_check_passes(cuda: Cuda, build: Build) -> None:
    self_check(build(Case(SMALL, 16, 16, 3).network(), cuda.backend, Adam(), True))


# the watch -----------------------------------------------------------------------------------------------------------


def test_the_watch_is_told_of_images_and_their_cost(cuda: Cuda, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    test_executors.test_the_watch_is_told_of_images_and_their_cost(cuda.backend, build, monkeypatch)


def test_ctrl_c_ends_an_epoch_and_another_one_can_begin(
    cuda: Cuda, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    case = Case(SMALL, 16, 16, 3, images=20, batch=2, averaging=False)
    plan, _ = case.epochs()
    executor = build(case.network(), cuda.backend, case.rule)
    executor.write(case.state())
    samples = executor.upload(*case.data())
    told: list[int] = []

    def watch(done: int, _: float) -> None:
        told.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.train_epoch(samples, plan, watch)
    assert told[0] <= 8  # a graph of two steps, and the first

    executor.write(case.state())
    cost = executor.train_epoch(samples, plan)
    fresh = build(case.network(), cuda.backend, case.rule)
    fresh.write(case.state())
    assert cost == fresh.train_epoch(fresh.upload(*case.data()), plan)


# what the fused executor serves --------------------------------------------------------------------------------------


def changed(**layers: Any) -> Network:
    """Return the default network with other layers in place of some."""
    names = {"C3": 3, "S4": 5, "F5": 6}
    network = list(lenet5(NetworkSettings(), 28, 28, 10).layers)
    for name, layer in layers.items():
        network[names[name]] = layer
    return Network(tuple(network))


REFUSED = {
    "not LeNet-5": (Network((Dense("output", DenseSpec(784, 10)),)), "LeNet-5 only"),
    "another window": (
        changed(S4=Pool2D("S4", Pool2DSpec(16, 8, 8, window=4)), F5=Dense("F5", DenseSpec(64, 120))),
        "pools windows of 2 x 2, not 4 x 4",
    ),
    "another pooling": (changed(S4=Pool2D("S4", Pool2DSpec(16, 8, 8, mode="max"))), "one way of pooling"),
    "wide layers": (
        lenet5(NetworkSettings(maps=(32, 64), dense=(512, 128), table="full"), 28, 28, 10),
        r"needs 580 KB of shared memory for an image of this network; .* has \d+",
    ),
}


@pytest.mark.parametrize(("network", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_another_network_is_refused_with_the_reason(cuda: Cuda, network: Network, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        cuda.fused.CudaFusedExecutor(network, cuda.backend)


def test_the_fastest_executor_that_serves_is_chosen(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lenet.executors.cuda_fused", cuda.fused)
    monkeypatch.setitem(sys.modules, "lenet.executors.cuda_graph", cuda.graph)
    assert type(choose(CASES["the default network"].network(), cuda.backend)) is cuda.fused.CudaFusedExecutor
    for network, _ in REFUSED.values():
        assert type(choose(network, cuda.backend)) is cuda.graph.GraphExecutor


def test_another_kernel_is_refused_with_the_reason(cuda: Cuda) -> None:
    conv = Conv2DSpec(ConnectionTable.full(6, 16), 12, 12, 3, 3)
    layers = list(lenet5(NetworkSettings(table="full"), 28, 28, 10).layers)
    layers[3] = Conv2D("C3", conv)
    layers[4] = replace(layers[4], spec=replace(layers[4].spec, shape=conv.output_shape))  # type: ignore[type-var]
    layers[5] = Pool2D("S4", Pool2DSpec(*conv.output_shape))
    layers[6] = Dense("F5", DenseSpec(16 * 5 * 5, 120))
    with pytest.raises(Unsupported, match="kernels of 5 x 5, not 3 x 3"):
        cuda.fused.CudaFusedExecutor(Network(tuple(layers)), cuda.backend)
