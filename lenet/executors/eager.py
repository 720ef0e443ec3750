"""Layer by layer, one primitive after the other: the definition that every faster executor is held to."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.backends.base import Array, Backend
from lenet.executors.base import WATCH_SECONDS, EpochPlan, Executor, Samples, State, Watch
from lenet.layers import Arrays
from lenet.network import Network
from lenet.optimizers import Rule

EVALUATION_BATCH = 256  # about 40 kB of activations an image: more would only leave the caches


class Workspace:
    """All that one batch of up to ``size`` images is computed in."""

    def __init__(self, network: Network, backend: Backend, size: int, *, training: bool) -> None:
        self.size = size
        self.x = backend.empty((size, *network.input_shape))
        self.dlogits = backend.empty((size, network.classes))
        self.layers: list[Arrays] = []
        for layer in network.layers:
            arrays = Arrays(y=None, dx=None, argmax=None)
            for name, shape in layer.buffer_shapes.items():
                if name == "dx" and not (training and self.layers):
                    continue  # nobody asks for the gradient of the images
                dtype = np.uint8 if name == "argmax" else None
                setattr(arrays, name, backend.empty((size, *shape), dtype))
            self.layers.append(arrays)

    def first(self, count: int) -> "Workspace":
        """Return views for a smaller batch."""
        part = object.__new__(Workspace)
        part.size, part.x, part.dlogits = count, self.x[:count], self.dlogits[:count]
        part.layers = [arrays.first(count) for arrays in self.layers]
        return part


@dataclass(frozen=True)
class Epoch:
    """What the steps of an epoch read and write, on the device; all but the images in the order of the epoch.

    Attributes
    ----------
    images : (L, H, W) uint8, the data set
    index : (M,) int32, which of them
    transforms : (M, 2, 3) or None
    targets : (M, K)
    hyper : (steps, 4)
    losses : (M,), which the steps write
    batch_size : images a step
    """

    images: Array
    index: Array
    transforms: Array | None
    targets: Array
    hyper: Array
    losses: Array
    batch_size: int


class EagerExecutor(Executor):
    """Runs every primitive of every layer in order."""

    name = "eager"

    def __init__(self, network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> None:
        super().__init__(network, backend, rule, averaging)
        total = network.size
        self._parameters = backend.empty((total,))
        self._gradients = backend.empty((total,))
        self._moments = backend.empty((rule.moments if rule else 0, total))
        self._average = backend.empty((total,)) if averaging else None
        self._p = network.views(self._parameters)
        self._g = network.views(self._gradients)
        self._weights = self._p if self._average is None else network.views(self._average)
        self._workspaces: dict[bool, Workspace] = {}

    def write(self, state: State) -> None:
        to_device = self.backend.to_device
        to_device(state.parameters, out=self._parameters)
        to_device(state.moments, out=self._moments)
        if self._average is not None:
            to_device(state.weights, out=self._average)

    def read(self) -> State:
        to_host = self.backend.to_host
        average = None if self._average is None else to_host(self._average)
        return State(to_host(self._parameters), to_host(self._moments), average)

    def train_epoch(self, samples: Samples, plan: EpochPlan, watch: Watch | None = None) -> float:
        backend = self.backend
        order = backend.to_device(plan.order)
        targets = backend.empty((len(order), self.network.classes))
        targets[...] = samples.targets[order] if plan.targets is None else backend.to_device(plan.targets)
        epoch = Epoch(
            images=samples.images,
            index=order,
            transforms=None if plan.transforms is None else backend.to_device(plan.transforms),
            targets=targets,
            hyper=backend.to_device(plan.hyper.astype(backend.dtype)),
            losses=backend.empty((len(order),)),
            batch_size=plan.batch_size,
        )
        step, told, told_at = 0, 0, time.monotonic()
        while step < plan.steps:
            step += self._advance(epoch, step)
            if watch and time.monotonic() - told_at >= WATCH_SECONDS:
                done = min(step * plan.batch_size, len(order))
                watch(done, float(backend.to_host(epoch.losses[told:done]).mean()))
                told, told_at = done, time.monotonic()
        return float(backend.to_host(epoch.losses).mean(dtype=np.float64))

    def _advance(self, epoch: Epoch, step: int) -> int:
        """Train from ``step`` on, and return how many steps it were."""
        self._step(epoch, step)
        return 1

    def _step(self, epoch: Epoch, step: int) -> None:
        """Train on one batch: distort, forward, backward, update."""
        batch = slice(step * epoch.batch_size, min((step + 1) * epoch.batch_size, len(epoch.index)))
        moved = None if epoch.transforms is None else epoch.transforms[batch]
        backend, space = self.backend, self._workspace(batch.stop - batch.start, training=True)
        backend.distort(epoch.images, epoch.index[batch], moved, out=space.x)
        activations = self._forward(self._p, space)
        backend.softmax_cross_entropy(activations[-1], epoch.targets[batch], epoch.losses[batch], space.dlogits)
        self._backward(activations, space)
        assert self.rule is not None, "an executor without a rule does not train"
        hyper = epoch.hyper[step]
        backend.optimizer_step(self.rule, self._parameters, self._gradients, self._moments, self._average, hyper)

    def _forward(self, parameters: list[Arrays], space: Workspace) -> list[Array]:
        """Return the input and the output of every layer; the last are the logits."""
        activations = [space.x]
        for layer, p, s in zip(self.network.layers, parameters, space.layers, strict=True):
            activations.append(layer.forward(self.backend, activations[-1], p, s))
        return activations

    def _backward(self, activations: list[Array], space: Workspace) -> None:
        """Fill the vector of gradients, from the logits down."""
        dy = space.dlogits
        for i, layer in reversed(list(enumerate(self.network.layers))):
            x, y = activations[i : i + 2]
            dy = layer.backward(self.backend, dy, x, y, self._p[i], self._g[i], space.layers[i])

    def evaluate(self, samples: Samples) -> tuple[NDArray[Any], NDArray[np.int32]]:
        backend = self.backend
        losses = backend.empty((len(samples),))
        answers = backend.empty((len(samples),), np.int32)
        for batch in _batches(len(samples), EVALUATION_BATCH):
            logits, space = self._answer(samples.images[batch])
            backend.argmax(logits, out=answers[batch])
            backend.softmax_cross_entropy(logits, samples.targets[batch], losses[batch], space.dlogits)
        return backend.to_host(losses), backend.to_host(answers)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        logits = np.empty((len(images), self.network.classes), self.backend.dtype)
        for batch in _batches(len(images), EVALUATION_BATCH):
            answer, _ = self._answer(self.backend.to_device(images[batch]))
            logits[batch] = self.backend.to_host(answer)
        return logits

    def predict_epoch(self, samples: Samples, plan: EpochPlan) -> NDArray[Any]:
        backend = self.backend
        order = backend.to_device(plan.order)
        transforms = None if plan.transforms is None else backend.to_device(plan.transforms)
        logits = np.empty((len(order), self.network.classes), backend.dtype)
        for batch in _batches(len(order), EVALUATION_BATCH):
            moved = None if transforms is None else transforms[batch]
            answer, _ = self._answer(samples.images, order[batch], moved)
            logits[batch] = backend.to_host(answer)
        return logits

    def _answer(
        self, images: Array, index: Array | None = None, transforms: Array | None = None
    ) -> tuple[Array, Workspace]:
        """Return the logits of a batch of images on the device, and the workspace they are in."""
        space = self._workspace(len(images) if index is None else len(index), training=False)
        self.backend.distort(images, index, transforms, out=space.x)
        return self._forward(self._weights, space)[-1], space

    def _workspace(self, count: int, *, training: bool) -> Workspace:
        """Return buffers for ``count`` images, views of larger ones where there are some."""
        space = self._workspaces.get(training)
        if space is None or space.size < count:
            space = Workspace(self.network, self.backend, count, training=training)
            self._workspaces[training] = space
        return space if space.size == count else space.first(count)


def _batches(total: int, size: int) -> Iterator[slice]:
    """Yield slices of ``size``, the last one perhaps smaller."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
