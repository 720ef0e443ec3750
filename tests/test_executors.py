"""Executors: a training step against one assembled from the oracle, and what `lenet.executors.base` promises."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray

from lenet.backends.base import Backend
from lenet.executors import EagerExecutor, EpochPlan, Executor, State, choose
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule, hyper_table
from lenet.settings import NetworkSettings

Floats = NDArray[np.float64]
Build = Callable[..., Executor]

PIXELS, CLASSES, IMAGES, BATCH = 16, 3, 19, 4
MAPS, UNITS = (2, 3), (5, 4)
SHAPES = {
    "C1.weight": (2, 5, 5),
    "C1.bias": (2,),
    "C3.weight": (6, 5, 5),
    "C3.bias": (3,),
    "F5.weight": (5, 3),
    "F5.bias": (5,),
    "F6.weight": (4, 5),
    "F6.bias": (4,),
    "output.weight": (3, 4),
    "output.bias": (3,),
}
C1_PAIRS = [(0, 0), (1, 0)]
C3_PAIRS = [(k, c) for k in range(3) for c in range(2)]
RULE = Adam(epsilon=1e-4)  # so that rounding does not decide the direction of a step along a gradient of almost zero
AVERAGE = 0.2
STATE_TOLERANCES = {
    "parameters": 4000,  # each gradient is off by some eps of the largest; Adam divides it by its own size or epsilon
    "moments": 64,
    "average": 64,
}
"""In units of eps, relative to the farthest that a number has moved."""


@dataclass(frozen=True)
class Variant:
    """What of the tiny network varies."""

    activation: Literal["sigmoid", "tanh", "scaled_tanh", "relu"]
    pool: Literal["mean", "max"]

    def network(self) -> Network:
        settings = NetworkSettings(maps=MAPS, dense=UNITS, activation=self.activation, pool=self.pool, table="full")
        return lenet5(settings, PIXELS, PIXELS, CLASSES)


VARIANTS = [Variant("sigmoid", "mean"), Variant("relu", "max"), Variant("scaled_tanh", "max"), Variant("tanh", "mean")]
TINY_VARIANT = VARIANTS[0]
TINY = TINY_VARIANT.network()
SIZE = 264


@pytest.fixture(params=[EagerExecutor, choose], ids=["eager", "chosen"])
def build(request: pytest.FixtureRequest) -> Build:
    """Return what builds an executor: layer by layer, or the fastest there is."""
    return request.param


@cache
def problem() -> tuple[NDArray[np.uint8], NDArray[np.int32], EpochPlan, State]:
    """Draw images, labels, five steps (the last of three images) and where they start."""
    random = np.random.Generator(np.random.Philox(17))
    images = random.integers(0, 256, (IMAGES, PIXELS, PIXELS)).astype(np.uint8)
    labels = random.integers(0, CLASSES, IMAGES).astype(np.int32)
    transforms = np.eye(2, 3) + random.uniform(-0.2, 0.2, (IMAGES, 2, 3))
    hyper = hyper_table(RULE, "cosine", peak=0.02, warmup=0, average=AVERAGE, first=0, count=5, total=10)
    order = random.permutation(IMAGES).astype(np.int32)
    targets = random.dirichlet(np.ones(CLASSES), IMAGES).astype(np.float32)
    plan = EpochPlan(order, transforms.astype(np.float32), hyper, BATCH, targets)
    parameters = random.uniform(-0.5, 0.5, SIZE).astype(np.float32)
    average = random.uniform(-0.5, 0.5, SIZE).astype(np.float32)
    return images, labels, plan, State(parameters, np.zeros((2, SIZE), np.float32), average)


def shortened(plan: EpochPlan, steps: int) -> EpochPlan:
    last = steps * plan.batch_size
    transforms = None if plan.transforms is None else plan.transforms[:last]
    targets = None if plan.targets is None else plan.targets[:last]
    return replace(plan, order=plan.order[:last], transforms=transforms, hyper=plan.hyper[:steps], targets=targets)


# the same from the oracle --------------------------------------------------------------------------------------------


def named(flat: Floats) -> dict[str, Floats]:
    """Cut a flat vector into views of the shapes of the tiny network, written out above."""
    views, offset = {}, 0
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        views[name] = flat[offset : offset + size].reshape(shape)
        offset += size
    assert offset == len(flat) == SIZE
    return views


def forward(variant: Variant, p: dict[str, Floats], x: Floats) -> dict[str, Any]:
    """Return everything that the backward pass needs; ``a`` are inputs of activations, ``y`` outputs of layers."""
    f = variant.activation
    v: dict[str, Any] = {"x": x}
    v["a1"] = oracle.conv2d_forward(x, p["C1.weight"], p["C1.bias"], C1_PAIRS)
    v["y2"], v["first2"] = oracle.pool2d_forward(oracle.activation_forward(f, v["a1"]), 2, variant.pool)
    v["a3"] = oracle.conv2d_forward(v["y2"], p["C3.weight"], p["C3.bias"], C3_PAIRS)
    y4, v["first4"] = oracle.pool2d_forward(oracle.activation_forward(f, v["a3"]), 2, variant.pool)
    v["y4"] = y4.reshape(len(x), -1)
    v["a5"] = oracle.dense_forward(v["y4"], p["F5.weight"], p["F5.bias"])
    v["y5"] = oracle.activation_forward(f, v["a5"])
    v["a6"] = oracle.dense_forward(v["y5"], p["F6.weight"], p["F6.bias"])
    v["y6"] = oracle.activation_forward(f, v["a6"])
    v["logits"] = oracle.dense_forward(v["y6"], p["output.weight"], p["output.bias"])
    return v


def backward(variant: Variant, p: dict[str, Floats], v: dict[str, Any], dlogits: Floats) -> Floats:
    """Return the gradient of the mean loss as a flat vector."""
    f = variant.activation
    g: dict[str, Floats] = {}
    dy, g["output.weight"], g["output.bias"] = oracle.dense_backward(dlogits, v["y6"], p["output.weight"])
    dy = oracle.activation_backward(f, dy, v["a6"])
    dy, g["F6.weight"], g["F6.bias"] = oracle.dense_backward(dy, v["y5"], p["F6.weight"])
    dy = oracle.activation_backward(f, dy, v["a5"])
    dy, g["F5.weight"], g["F5.bias"] = oracle.dense_backward(dy, v["y4"], p["F5.weight"])
    dy = oracle.pool2d_backward(dy.reshape(len(dy), 3, 1, 1), 2, variant.pool, v["first4"])
    dy = oracle.activation_backward(f, dy, v["a3"])
    dy, g["C3.weight"], g["C3.bias"] = oracle.conv2d_backward(dy, v["y2"], p["C3.weight"], C3_PAIRS)
    dy = oracle.pool2d_backward(dy, 2, variant.pool, v["first2"])
    dy = oracle.activation_backward(f, dy, v["a1"])
    _, g["C1.weight"], g["C1.bias"] = oracle.conv2d_backward(dy, v["x"], p["C1.weight"], C1_PAIRS)
    return np.concatenate([g[name].ravel() for name in SHAPES])


@cache
def trained_by_the_oracle(variant: Variant, steps: int) -> tuple[float, State]:
    """Return cost and state after some steps of `problem`."""
    images, _, plan, state = problem()
    assert plan.transforms is not None
    assert plan.targets is not None
    w, average = state.parameters.astype(np.float64), state.weights.astype(np.float64)
    m, v = np.zeros(SIZE), np.zeros(SIZE)
    losses: list[float] = []
    for step in range(steps):
        batch = slice(step * BATCH, (step + 1) * BATCH)
        index = plan.order[batch]
        x = oracle.distort(images, index, plan.transforms[batch].astype(np.float64))
        values = forward(variant, named(w), x)
        loss, dlogits = oracle.softmax_cross_entropy(values["logits"], plan.targets[batch])
        losses += loss.tolist()
        gradient = backward(variant, named(w), values, dlogits)
        rate, decay = float(plan.hyper[step, 0]), min(AVERAGE, (2 + step) / (11 + step))
        for i, g in enumerate(gradient.tolist()):
            betas = (RULE.beta1, RULE.beta2)
            w[i], m[i], v[i] = oracle.adam(w[i], g, m[i], v[i], rate, betas, RULE.epsilon, step + 1)
            average[i] = oracle.moving_average(average[i], w[i], decay)
    return float(np.mean(losses)), State(w, np.array([m, v]), average)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_training_equals_the_oracle(backend: Backend, build: Build, variant: Variant, steps: int) -> None:
    images, labels, plan, state = problem()
    executor = build(variant.network(), backend, RULE, averaging=True)
    executor.write(state)
    cost = executor.train_epoch(executor.upload(images, labels), shortened(plan, steps))
    wanted_cost, wanted = trained_by_the_oracle(variant, steps)
    eps = float(np.finfo(backend.dtype).eps)
    assert cost == pytest.approx(wanted_cost, rel=16 * eps)
    actual = executor.read()
    for name, tolerance in STATE_TOLERANCES.items():
        ours, theirs, before = (getattr(each, name) for each in (actual, wanted, state))
        moved = abs(theirs - before).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * eps * moved, err_msg=name)


# what it trains on ---------------------------------------------------------------------------------------------------


def train(build: Build, backend: Backend, plan: EpochPlan, rule: Rule = RULE) -> tuple[float, State]:
    """Train the tiny network on `problem`, by another plan."""
    images, labels, _, state = problem()
    executor = build(TINY, backend, rule)
    executor.write(State(state.parameters, np.zeros((rule.moments, SIZE), np.float32), None))
    return executor.train_epoch(executor.upload(images, labels), plan), executor.read()


def same_bits(one: State, two: State) -> bool:
    arrays = [(one.parameters, two.parameters), (one.moments, two.moments)]
    return all(ours.tobytes() == theirs.tobytes() for ours, theirs in arrays)


@pytest.mark.parametrize("rule", [GradientDescent(), Momentum(), Adam()], ids=str)
def test_training_twice_gives_the_same_bits(backend: Backend, build: Build, rule: Rule) -> None:
    (cost, state), (again, state_again) = (train(build, backend, problem()[2], rule) for _ in range(2))
    assert cost == again
    assert same_bits(state, state_again)


def test_the_order_of_the_images_is_respected(backend: Backend, build: Build) -> None:
    images, labels, plan, state = problem()
    cost, ordered = train(build, backend, plan)

    executor = build(TINY, backend, RULE)
    executor.write(State(state.parameters, np.zeros((2, SIZE), np.float32), None))
    samples = executor.upload(images[plan.order], labels[plan.order])
    in_place = replace(plan, order=np.arange(IMAGES, dtype=np.int32))
    assert executor.train_epoch(samples, in_place) == cost
    assert same_bits(executor.read(), ordered)

    _, other = train(build, backend, in_place)
    assert not same_bits(other, ordered)


def test_an_epoch_may_leave_images_out_or_repeat_them(backend: Backend, build: Build) -> None:
    plan = replace(shortened(problem()[2], 2), order=np.array([3, 3, 18, 0, 3, 7, 7, 3], np.int32))
    images, labels, _, state = problem()
    cost, trained = train(build, backend, plan)
    executor = build(TINY, backend, RULE)
    executor.write(State(state.parameters, np.zeros((2, SIZE), np.float32), None))
    few = executor.upload(images[[3, 18, 0, 7]], labels[[3, 18, 0, 7]])
    assert executor.train_epoch(few, replace(plan, order=np.array([0, 0, 1, 2, 0, 3, 3, 0], np.int32))) == cost
    assert same_bits(executor.read(), trained)


def test_transforms_of_identity_are_no_transforms(backend: Backend, build: Build) -> None:
    identity = np.tile(np.eye(2, 3, dtype=np.float32), (IMAGES, 1, 1))
    plan = problem()[2]
    cost, _ = train(build, backend, replace(plan, transforms=identity))
    none, _ = train(build, backend, replace(plan, transforms=None))
    moved, _ = train(build, backend, plan)
    assert cost == pytest.approx(none, rel=1e-6)
    assert moved != pytest.approx(none, rel=1e-6)


def test_without_targets_the_labels_are_learned(backend: Backend, build: Build) -> None:
    _, labels, plan, _ = problem()
    hard = oracle.one_hot(labels[plan.order], CLASSES).astype(np.float32)
    cost, state = train(build, backend, replace(plan, targets=None))
    wanted_cost, wanted = train(build, backend, replace(plan, targets=hard))
    assert cost == wanted_cost
    assert same_bits(state, wanted)
    assert cost != train(build, backend, plan)[0]


def test_two_epochs_are_one_longer_one(backend: Backend, build: Build) -> None:
    images, labels, plan, state = problem()
    _, whole = train(build, backend, shortened(plan, 4))
    executor = build(TINY, backend, RULE)
    executor.write(State(state.parameters, np.zeros((2, SIZE), np.float32), None))
    samples = executor.upload(images, labels)
    assert plan.transforms is not None
    assert plan.targets is not None
    for half in (slice(0, 2), slice(2, 4)):
        part = slice(half.start * BATCH, half.stop * BATCH)
        first_or_second = EpochPlan(
            plan.order[part], plan.transforms[part], plan.hyper[half], BATCH, plan.targets[part]
        )
        executor.train_epoch(samples, first_or_second)
    assert same_bits(executor.read(), whole)


# the state -----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(backend: Backend, build: Build) -> None:
    random = np.random.Generator(np.random.Philox(3))
    rules: list[Rule] = [GradientDescent(), Momentum(), Adam()]
    for rule, average in itertools.product(rules, (False, True)):
        moments = random.random((rule.moments, SIZE), np.float32)
        state = State(random.random(SIZE, np.float32), moments, random.random(SIZE, np.float32) if average else None)
        executor = build(TINY, backend, rule, average)
        executor.write(state)
        read = executor.read()
        np.testing.assert_array_equal(read.parameters, state.parameters)
        np.testing.assert_array_equal(read.moments, state.moments)
        np.testing.assert_array_equal(read.weights, state.weights)
        assert (read.average is None) == (not average)

        read.parameters[:] = np.nan
        state.parameters[:] = np.nan
        assert np.isfinite(executor.read().parameters).all()  # both were copies


def test_an_interrupted_and_restored_run_continues_to_the_same_bits(backend: Backend, build: Build) -> None:
    images, labels, plan, state = problem()
    executor = build(TINY, backend, RULE, averaging=True)
    samples = executor.upload(images, labels)
    executor.write(state)
    executor.train_epoch(samples, plan)
    middle = executor.read()
    cost = executor.train_epoch(samples, plan)

    other = build(TINY, backend, RULE, averaging=True)
    other.write(middle)
    assert other.train_epoch(other.upload(images, labels), plan) == cost
    assert same_bits(other.read(), executor.read())
    assert other.read().weights.tobytes() == executor.read().weights.tobytes()


# answers -------------------------------------------------------------------------------------------------------------


def many_images() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draw more images than are evaluated at once, and not a multiple of anything: noise that fades to black."""
    random = np.random.Generator(np.random.Philox(23))
    images = (random.random((301, PIXELS, PIXELS)) * np.linspace(255, 0, 301)[:, None, None]).astype(np.uint8)
    return images, random.integers(0, CLASSES, 301).astype(np.int32)


@cache
def answering() -> State:
    """Draw weights large enough, and biases of the output balanced enough, to give different answers."""
    parameters = np.random.Generator(np.random.Philox(29)).uniform(-1, 1, SIZE)
    images, _ = many_images()
    named(parameters)["output.bias"][:] = 0
    middle = oracle.distort(images, np.array([150], np.int32), None)
    named(parameters)["output.bias"][:] = -forward(TINY_VARIANT, named(parameters), middle)["logits"][0]
    return State(parameters.astype(np.float32), np.empty((0, SIZE), np.float32), None)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_answers_equal_the_oracle(backend: Backend, build: Build, variant: Variant) -> None:
    images, labels = many_images()
    state = answering()
    executor = build(variant.network(), backend)
    executor.write(state)
    logits = executor.predict(images)
    losses, answers = executor.evaluate(executor.upload(images, labels))

    checked = [0, 1, 15, 16, 255, 256, 300]
    x = oracle.distort(images, np.array(checked, np.int32), None)
    wanted = forward(variant, named(state.parameters.astype(np.float64)), x)["logits"]
    eps = float(np.finfo(backend.dtype).eps)
    assert logits.shape == (301, CLASSES)
    np.testing.assert_allclose(logits[checked], wanted, rtol=0, atol=32 * eps * max(1.0, abs(wanted).max()))

    # and the losses and answers of all images follow from the logits
    wanted_losses, _ = oracle.softmax_cross_entropy(logits.astype(np.float64), oracle.one_hot(labels, CLASSES))
    np.testing.assert_allclose(losses, wanted_losses, rtol=32 * eps)
    np.testing.assert_array_equal(answers, oracle.argmax(logits))
    assert len(set(answers.tolist())) > 1


@pytest.mark.parametrize("distorted", [True, False])
def test_the_images_of_an_epoch_are_answered_as_they_are_met_in_it(
    backend: Backend, build: Build, distorted: bool
) -> None:
    images, labels, plan, _ = problem()
    plan = plan if distorted else replace(plan, transforms=None)
    executor = build(TINY, backend)
    executor.write(answering())
    logits = executor.predict_epoch(executor.upload(images, labels), plan)
    moved = None if plan.transforms is None else plan.transforms.astype(np.float64)
    x = oracle.distort(images, plan.order, moved)
    wanted = forward(TINY_VARIANT, named(answering().parameters.astype(np.float64)), x)["logits"]
    assert logits.shape == wanted.shape
    eps = float(np.finfo(backend.dtype).eps)
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=64 * eps * max(1.0, abs(wanted).max()))


def test_an_image_is_answered_the_same_in_any_company(backend: Backend, build: Build) -> None:
    images, _ = many_images()
    executor = build(TINY, backend)
    executor.write(answering())
    together = executor.predict(images)
    eps = float(np.finfo(backend.dtype).eps)
    for part in (slice(0, 1), slice(5, 22), slice(250, 300), slice(300, 301)):
        np.testing.assert_allclose(executor.predict(images[part]), together[part], rtol=0, atol=32 * eps)


def test_no_images_have_no_answers(backend: Backend, build: Build) -> None:
    executor = build(TINY, backend)
    executor.write(answering())
    nothing = np.empty((0, PIXELS, PIXELS), np.uint8)
    losses, answers = executor.evaluate(executor.upload(nothing, np.empty(0, np.int32)))
    assert len(losses) == len(answers) == 0
    assert executor.predict(nothing).shape == (0, CLASSES)


def test_the_average_answers_where_there_is_one(backend: Backend, build: Build) -> None:
    images, labels, _, state = problem()
    averaging = build(TINY, backend, RULE, averaging=True)
    averaging.write(state)
    outcomes = []
    for parameters in (state.weights, state.parameters):
        plain = build(TINY, backend, RULE)
        plain.write(State(parameters, state.moments, None))
        outcomes.append((plain.predict(images), plain.evaluate(plain.upload(images, labels))[0]))
    of_the_average, of_the_parameters = outcomes
    for ours, average, parameters in zip(
        (averaging.predict(images), averaging.evaluate(averaging.upload(images, labels))[0]),
        of_the_average,
        of_the_parameters,
        strict=True,
    ):
        np.testing.assert_array_equal(ours, average)
        assert (ours != parameters).all()


def test_evaluation_in_between_does_not_change_training(backend: Backend, build: Build) -> None:
    images, labels, plan, _ = problem()
    _, undisturbed = train(build, backend, plan)
    executor = build(TINY, backend, RULE)
    executor.write(State(problem()[3].parameters, np.zeros((2, SIZE), np.float32), None))
    samples = executor.upload(images, labels)
    executor.evaluate(executor.upload(*many_images()))
    executor.train_epoch(samples, plan)
    trained = executor.read()
    executor.evaluate(samples)
    executor.predict(images)
    assert same_bits(trained, undisturbed)
    assert same_bits(executor.read(), undisturbed)


# the watch -----------------------------------------------------------------------------------------------------------


def test_the_watch_is_told_of_images_and_their_cost(
    backend: Backend, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))  # a second goes by at every look
    images, labels, plan, state = problem()
    executor = build(TINY, backend, RULE)
    executor.write(State(state.parameters, np.zeros((2, SIZE), np.float32), None))
    told: list[tuple[int, float]] = []
    cost = executor.train_epoch(executor.upload(images, labels), plan, lambda done, mean: told.append((done, mean)))
    assert told
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] <= IMAGES
    if told[-1][0] == IMAGES:  # then the costs told add up to that of the epoch
        counts = np.diff([0, *(done for done, _ in told)])
        assert cost == pytest.approx(sum(counts * [mean for _, mean in told]) / IMAGES, rel=1e-6)


def test_watching_changes_nothing(backend: Backend, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    _, unwatched = train(build, backend, problem()[2])
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    images, labels, plan, state = problem()
    executor = build(TINY, backend, RULE)
    executor.write(State(state.parameters, np.zeros((2, SIZE), np.float32), None))
    executor.train_epoch(executor.upload(images, labels), plan, lambda done, mean: None)
    assert same_bits(executor.read(), unwatched)


def test_what_the_watch_raises_ends_the_epoch(backend: Backend, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    images, labels, plan, state = problem()
    executor = build(TINY, backend, RULE)
    executor.write(State(state.parameters, np.zeros((2, SIZE), np.float32), None))

    def interrupt(done: int, mean: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.train_epoch(executor.upload(images, labels), plan, interrupt)


# the plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "batch", "steps"), [(1, 64, 1), (64, 64, 1), (65, 64, 2), (60000, 64, 938)])
def test_steps_of_an_epoch(images: int, batch: int, steps: int) -> None:
    assert EpochPlan(np.zeros(images, np.int32), None, np.empty((0, 4)), batch).steps == steps
