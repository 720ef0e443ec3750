"""Time every primitive of the default network, NumPy beside Numba, and the whole training step.

Run it from a checkout with the package installed, on a machine with nothing else to do::

    python benchmarks/primitives.py [--batch 64] [--turns 5] [--threads N]

The backends take turns, so that a machine that slows down slows both; each time is the median over the turns.
The first run compiles the kernels and takes some seconds more.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from lenet import backends
from lenet.backends import Array, Backend
from lenet.executors import EagerExecutor, EpochPlan, State
from lenet.initialize import initialize
from lenet.layers import Activation, Conv2D, Dense, Pool2D
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.optimizers import Adam, hyper_table
from lenet.settings import NetworkSettings

STEPS = 10  # of the training run that is timed
TURN = 0.05  # seconds
SETTLE = 0.05  # seconds before a turn: threads of the other backend wait in a busy loop for about half as long

Job = Callable[[], object]


def layer_jobs(network: Network, backend: Backend, batch: int) -> dict[str, Job]:
    """Return, by name, a call for each primitive of each layer, on random numbers."""
    random = np.random.default_rng(0)

    def floats(*shape: int) -> Array:
        return backend.to_device(random.random(shape, dtype=np.float32))

    def job(primitive: Callable[..., None], *arguments: object) -> Job:
        return lambda: primitive(*arguments)

    jobs: dict[str, Job] = {}
    for layer in network.layers:
        spec, name = layer.spec, layer.name
        x, y = floats(batch, *spec.input_shape), floats(batch, *spec.output_shape)
        dx = None if layer is network.layers[0] else backend.empty(x.shape)
        p = [floats(*shape) for shape in layer.parameter_shapes.values()]
        g = [backend.empty(shape) for shape in layer.parameter_shapes.values()]
        match layer:
            case Conv2D():
                forward = job(backend.conv2d_forward, spec, x, *p, backend.empty(y.shape))
                backward = job(backend.conv2d_backward, spec, y, x, p[0], dx, *g)
            case Pool2D():
                forward = job(backend.pool2d_forward, spec, x, backend.empty(y.shape), None)
                backward = job(backend.pool2d_backward, spec, y, None, dx)
            case Dense():
                forward = job(backend.dense_forward, spec, x, *p, backend.empty(y.shape))
                backward = job(backend.dense_backward, spec, y, x, p[0], dx, *g)
            case Activation():
                forward = job(backend.activation_forward, layer.spec.kind, x, backend.empty(y.shape))
                backward = job(backend.activation_backward, layer.spec.kind, y, x, dx)
        jobs |= {f"{name} forward": forward, f"{name} backward": backward}
    return jobs


def other_jobs(network: Network, backend: Backend, batch: int) -> dict[str, Job]:
    """Return calls for distortion, cost and update, and for a training run and an evaluation."""
    random = np.random.default_rng(0)
    count = STEPS * batch
    _, height, width = network.input_shape
    images = random.integers(0, 256, (count, height, width), np.uint8)
    labels = random.integers(0, network.classes, count, np.int32)
    transforms = np.array([[1, 0.1, -1.2], [-0.1, 1, 0.7]]) + random.uniform(-0.1, 0.1, (count, 2, 3))
    hyper = hyper_table(Adam(), "constant", peak=0.001, warmup=0, average=0.999, first=0, count=STEPS, total=STEPS)
    order = random.permutation(count).astype(np.int32)
    plan = EpochPlan(order, transforms.astype(np.float32), hyper, batch)

    executor = EagerExecutor(network, backend, Adam(), averaging=True)
    weights = initialize(network, "glorot", 1).astype(np.float32)
    executor.write(State(weights, np.zeros((Adam.moments, network.size), np.float32), weights))
    samples = executor.upload(images, labels)

    x = backend.empty((batch, *network.input_shape))
    index, moved = backend.to_device(order[:batch]), backend.to_device(plan.transforms[:batch])
    logits = backend.to_device(random.standard_normal((batch, network.classes), np.float32))
    losses, dlogits = backend.empty((batch,)), backend.empty(logits.shape)
    parameters = [backend.to_device(weights) for _ in range(3)]
    moments = backend.to_device(np.ones((2, network.size), np.float32))
    row = backend.to_device(hyper[0].astype(np.float32))
    return {
        "distort": lambda: backend.distort(samples.images, index, moved, x),
        "scale": lambda: backend.distort(samples.images, index, None, x),
        "cross-entropy": lambda: backend.softmax_cross_entropy(logits, samples.labels[:batch], losses, dlogits),
        "adam": lambda: backend.optimizer_step(Adam(), *parameters[:2], moments, parameters[2], row),
        f"train, {STEPS} steps": lambda: executor.train_epoch(samples, plan),
        f"evaluate, {count} images": lambda: executor.evaluate(samples),
    }


def seconds_a_call(job: Job) -> float:
    """Repeat a job for one turn, at least once."""
    start = time.perf_counter()
    calls = 0
    while (passed := time.perf_counter() - start) < TURN or not calls:
        job()
        calls += 1
    return passed / calls


def measure(jobs: list[Job], turns: int) -> list[float]:
    """Return the median seconds of a call of each job; they take turns."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(turns):
        for job, seconds in zip(jobs, times, strict=True):
            time.sleep(SETTLE)
            seconds_a_call(job)  # wakes threads, fills caches and, the first time, compiles
            seconds.append(seconds_a_call(job))
    return [median(seconds) for seconds in times]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time every primitive, NumPy beside Numba.")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--turns", type=int, default=5, help="of each backend at each job")
    parser.add_argument("--threads", type=int, help="of the Numba backend")
    options = parser.parse_args()

    network = lenet5(NetworkSettings(), 28, 28, 10)
    contenders = [backends.get("numpy"), backends.get("numba", threads=options.threads)]
    print(*(f"{backend.name}: {backend.device}" for backend in contenders), sep="\n")
    print(f"\n{'us per image, batch ' + str(options.batch):30}{'numpy':>10}{'numba':>10}{'ratio':>8}")
    for listed in (layer_jobs, other_jobs):
        numpy_jobs, numba_jobs = (listed(network, backend, options.batch) for backend in contenders)
        for name, numpy_job in numpy_jobs.items():
            images = STEPS * options.batch if name.startswith(("train", "evaluate")) else options.batch
            slow, fast = measure([numpy_job, numba_jobs[name]], options.turns)
            print(f"{name:30}{1e6 * slow / images:10.2f}{1e6 * fast / images:10.2f}{slow / fast:8.1f}")


if __name__ == "__main__":
    main()
