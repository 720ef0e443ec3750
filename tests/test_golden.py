"""Golden runs: twenty steps on a few drawn digits, whose losses and final weights are committed in ``golden/``.

A change of the numbers of any step, on any backend, shows here. The committed values come from NumPy in float64 and are
compared with a tolerance, not bit by bit and not as a digest: OpenBLAS picks its order of summation by the processor
(the last bits of float64 differ between its Haswell and SkylakeX code) and, in float32, by its number of threads. Where
the numbers are meant to change, ``python tests/test_golden.py`` writes them anew.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lenet import backends
from lenet.backends.base import Backend
from lenet.executors import EagerExecutor, EpochPlan, Executor, State, choose
from lenet.initialize import initialize
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.optimizers import hyper_table
from lenet.settings import NetworkSettings, Settings, TrainingSettings
from lenet.streams import Purpose, permutation, stream, uniform

FOLDER = Path(__file__).parent / "golden"
SEED, STEPS, IMAGES, BATCH = 1998, 20, 60, 23

RUNS = {
    "sigmoid-mean-lecun-adam": Settings(
        NetworkSettings(), TrainingSettings(optimizer="adam", learning_rate=0.01, schedule="constant", average=0.999)
    ),
    "tanh-max-full-momentum": Settings(
        NetworkSettings(activation="scaled_tanh", pool="max", table="full"),
        TrainingSettings(optimizer="momentum", learning_rate=0.01, schedule="cosine", average=0.0),
    ),
    "relu-max-lecun-gd": Settings(
        NetworkSettings(activation="relu", pool="max"),
        TrainingSettings(optimizer="gd", learning_rate=0.1, schedule="one_cycle", average=0.9),
    ),
}

TOLERANCES = {
    ("float64", "mean"): (1e-10, 1e-10),
    ("float64", "max"): (1e-10, 1e-10),
    ("float32", "mean"): (1e-5, 1e-5),
    # Among half a million windows there are some whose two largest numbers differ by less than float32 rounding. Which
    # of them is handed the gradient changes the weights by 1e-5 of their norm, and the steps after it by as much again.
    # Nearly all of it is seen in the biases, which begin at 0 and after twenty steps are small still: by 3 % with relu.
    # Their own norm is therefore no measure; that of all weights is.
    ("float32", "max"): (2e-3, 4e-4),
}
"""By type and pooling: of the losses, relative to each; of the weights, relative to the norm of their array, or where
windows are decided by rounding to the norm of all weights."""

# The segments of a calculator's digits: top, upper left, upper right, middle, lower left, lower right, bottom.
SEGMENTS = (
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
)
BARS = (
    (5, 9, 7, 19),
    (6, 14, 7, 11),
    (6, 14, 16, 20),
    (13, 17, 8, 19),
    (15, 23, 7, 11),
    (15, 23, 16, 20),
    (21, 25, 7, 19),
)
"""First row, last row + 1, first column, last column + 1 of each segment."""


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draw images (M, 28, 28) of segment digits in noise, and their labels (M,)."""
    labels = (np.arange(IMAGES) % 10).astype(np.int32)
    images = uniform(stream(SEED, Purpose.VALIDATION), 0, 60, (IMAGES, 28, 28))
    for image, label in zip(images, labels, strict=True):
        for lit, (top, bottom, left, right) in zip(SEGMENTS[label], BARS, strict=True):
            if lit == "1":
                image[top:bottom, left:right] += 190
    return images.astype(np.uint8), labels


def network(settings: Settings) -> Network:
    return lenet5(settings.network, 28, 28, classes=10)


def run(executor: Executor, settings: Settings) -> tuple[list[float], State]:
    """Train twenty steps, each on a batch of its own, and return the loss of each and the state after the last."""
    training = settings.training
    rule, averaging = training.rule(), training.average > 0
    weights = initialize(executor.network, training.initialization, SEED)
    executor.write(State(weights, np.zeros((rule.moments, weights.size)), weights if averaging else None))
    samples = executor.upload(*digits())
    hyper = hyper_table(
        rule,
        training.schedule,
        peak=training.learning_rate,
        warmup=3,
        average=training.average,
        first=0,
        count=STEPS,
        total=STEPS,
    )
    losses = []
    for step in range(STEPS):
        order = permutation(stream(SEED, Purpose.ORDER, step), IMAGES)[:BATCH]
        moves = uniform(stream(SEED, Purpose.DISTORTION, step), -1, 1, (BATCH, 2, 3)) * [0.1, 0.1, 3.0]
        transforms = (np.eye(2, 3) + moves).astype(np.float32)
        losses.append(executor.train_epoch(samples, EpochPlan(order, transforms, hyper[step : step + 1], BATCH)))
    return losses, executor.read()


def summary(executor: Executor, settings: Settings) -> dict[str, Any]:
    """Return what is committed: the losses, and the norm and the first five numbers of every array of weights."""
    losses, state = run(executor, settings)
    weights = {p.key: p.view(state.weights).astype(np.float64).ravel() for p in executor.network.parameters}
    return {
        "losses": losses,
        "norms": {key: float(np.sqrt((array**2).sum())) for key, array in weights.items()},
        "first": {key: array[:5].tolist() for key, array in weights.items()},
    }


def golden(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def executors(backend: Backend, settings: Settings) -> list[Executor]:
    """Return the executor that is the definition and, where that is another one, the fastest."""
    rule, averaging = settings.training.rule(), settings.training.average > 0
    eager = EagerExecutor(network(settings), backend, rule, averaging)
    chosen = choose(network(settings), backend, rule, averaging)
    return [eager] if type(chosen) is EagerExecutor else [eager, chosen]


@pytest.mark.parametrize("name", RUNS)
def test_golden_run(backend: Backend, name: str) -> None:
    wanted = golden(name)
    kind = backend.dtype.name, RUNS[name].network.pool
    of_losses, of_weights = TOLERANCES[kind]
    sizes = wanted["norms"]
    if kind == ("float32", "max"):
        sizes = dict.fromkeys(sizes, np.linalg.norm(list(sizes.values())))
    for executor in executors(backend, RUNS[name]):
        actual = summary(executor, RUNS[name])
        np.testing.assert_allclose(actual["losses"], wanted["losses"], rtol=of_losses, err_msg=executor.name)
        assert list(actual["norms"]) == list(actual["first"]) == list(sizes)
        for key, size in sizes.items():
            ours, theirs = ([values["norms"][key], *values["first"][key]] for values in (actual, wanted))
            message = f"{executor.name}: {key}"
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=of_weights * size, err_msg=message)


@pytest.mark.parametrize("name", RUNS)
def test_the_same_run_gives_the_same_bits(backend: Backend, name: str) -> None:
    first = [run(executor, RUNS[name]) for executor in executors(backend, RUNS[name])]
    second = [run(executor, RUNS[name]) for executor in executors(backend, RUNS[name])]
    for (losses, state), (losses_again, state_again) in zip(first, second, strict=True):
        assert losses == losses_again
        assert state.parameters.tobytes() == state_again.parameters.tobytes()
        assert state.moments.tobytes() == state_again.moments.tobytes()
        assert state.weights.tobytes() == state_again.weights.tobytes()


def write() -> None:
    """Write the committed values anew."""
    backend = backends.get("numpy", dtype=np.float64)
    for name, settings in RUNS.items():
        text = json.dumps(summary(executors(backend, settings)[0], settings), indent=1)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
