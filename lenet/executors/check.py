"""Whether a backend computes what the reference computes, on one small batch, before a run trusts it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.backends import get
from lenet.errors import DeviceUnusable, LenetError
from lenet.executors.base import EpochPlan, Executor, State
from lenet.executors.eager import EagerExecutor
from lenet.initialize import initialize
from lenet.streams import Purpose, stream, uniform

IMAGES = 20  # a batch of 16 and a smaller one
HINT = "use --backend numpy, and please report it with the output of lenet info"
TOLERANCE = 1e-3  # of the norm; float32 stays an order of magnitude below, a wrong kernel is far above


def self_check(executor: Executor, *, distorted: bool = True) -> None:
    """Train two steps and answer a few random images, here and on NumPy; the executor's state is then undefined.

    With ``distorted`` as in the run to come, its kernels are compiled here and not within the first epoch.

    Raises
    ------
    DeviceUnusable
        When cost, weights or answers differ by more than rounding explains, or when there are none: no memory is left,
        or a kernel does not compile.
    """
    try:
        outcomes = _outcomes(executor, distorted)
    except (LenetError, KeyboardInterrupt):
        raise
    except Exception as error:  # a library's own kinds, of which nobody knows up here
        text = " ".join(str(error).split()) or type(error).__name__
        raise DeviceUnusable(f"{executor.backend.device} failed in a small self-check: {text}", HINT) from error
    for name, ours, reference in zip(("cost", "losses", "logits", "weights"), *outcomes, strict=True):
        error_norm = float(np.linalg.norm(ours - reference)) / max(float(np.linalg.norm(reference)), 1e-6)
        if not error_norm <= TOLERANCE:  # also when it is NaN
            raise DeviceUnusable(
                f"{executor.backend.device} computes wrong {name} (off by {error_norm:.1e} of their norm in a small "
                "self-check against NumPy)",
                HINT,
            )


def _outcomes(executor: Executor, distorted: bool) -> list[list[NDArray[Any]]]:
    """Return cost, losses, logits and weights, as they are here and as they are on NumPy."""
    network, rule, averaging = executor.network, executor.rule, executor.averaging
    _, height, width = network.input_shape
    source = stream(0, Purpose.INITIALIZATION)
    images = uniform(source, 0, 256, (IMAGES, height, width)).astype(np.uint8)
    labels = (np.arange(IMAGES) % network.classes).astype(np.int32)
    transforms = np.array([[1, 0.1, -1], [-0.1, 1, 0.5]]) + uniform(source, -0.1, 0.1, (IMAGES, 2, 3))
    plan = EpochPlan(
        order=np.arange(IMAGES, dtype=np.int32)[::-1].copy(),
        transforms=transforms.astype(np.float32) if distorted else None,
        hyper=np.array([[0.01, 0.1, 0.001, 0.2], [0.01, 0.19, 0.002, 0.3]]),
        batch_size=16,
        targets=(0.9 * np.eye(network.classes)[labels] + 0.1 / network.classes).astype(np.float32),
    )
    weights = initialize(network, "glorot", 0).astype(np.float32)
    outcomes = []
    for each in (executor, EagerExecutor(network, get("numpy"), rule, averaging)):
        moments = np.zeros((rule.moments if rule else 0, network.size), np.float32)
        each.write(State(weights, moments, weights if averaging else None))
        samples = each.upload(images, labels)
        cost = [] if rule is None else [each.train_epoch(samples, plan)]
        losses, _ = each.evaluate(samples)
        logits = each.predict_epoch(samples, plan) if rule is None else each.predict(images)
        outcomes.append([np.array(cost), losses, logits, each.read().weights - weights])
    return outcomes
