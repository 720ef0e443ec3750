"""The fused executor of the Numba backend: whole stretches of batches in one compiled function a thread."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from lenet.backends.base import Backend
from lenet.backends.numba_backend import NumbaBackend
from lenet.executors.base import WATCH_SECONDS, EpochPlan, Executor, Samples, State, Watch
from lenet.executors.numba_plan import Planner, connections, vector_registers
from lenet.kernels.cpu import fused
from lenet.kernels.cpu.fused import BORDER
from lenet.kernels.cpu.simd import LANES
from lenet.kernels.cpu.threads import ABANDON, CONTROL, CREW, DONE, STOP
from lenet.network import Network
from lenet.optimizers import Rule

SINGLES = 6  # images that are answered one by one before a tile, of sixteen, would be
FEW = 128  # images that are answered before other threads would have been started

NO_TRANSFORMS: NDArray[np.float32] = np.zeros(0, np.float32)


def _aligned(count: int, dtype: type = np.float32) -> NDArray[Any]:
    """Return zeros that begin a cache line."""
    size = np.dtype(dtype).itemsize
    room: NDArray[Any] = np.zeros(count + 64 // size, dtype)
    start = -room.ctypes.data % 64 // size
    return room[start : start + count]


class FusedExecutor(Executor):
    """Runs whole steps tile by tile; see `lenet.kernels.cpu.fused`."""

    name = "fused"

    def __init__(self, network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> None:
        super().__init__(network, backend, rule, averaging)
        assert isinstance(backend, NumbaBackend), "this executor is a part of the Numba backend"
        self._threads = backend.threads
        registers = vector_registers()
        self._answering, self._training = (
            {distorted: Planner(network, registers).plan(*training, distorted) for distorted in (False, True)}
            for training in ((None, False), (rule, averaging))
        )
        plan = self._answering[False]
        self._tables = c1, c3 = connections(network.layers[0]), connections(network.layers[3])
        self._one = plan, c1.first, c1.inputs, c3.first, c3.inputs
        total = network.size
        self._parameters = _aligned(total)
        self._gradients = _aligned(total)
        self._moments = _aligned((rule.moments if rule else 0) * total)
        self._average = _aligned(total if averaging else 0)
        border = (plan.height + 2 * BORDER) * (plan.width + 2 * BORDER)
        self._own = [
            (
                _aligned(plan.scratch),
                _aligned(6 * LANES),
                _aligned(LANES, np.int64),
                _aligned(LANES * border + 1, np.uint16),
            )
            for _ in range(self._threads)
        ]
        self._records = _aligned(0)
        self._answer_one: Callable[..., None] | None = None

    def write(self, state: State) -> None:
        self._parameters[:] = state.parameters
        self._moments[:] = state.moments.ravel()
        if self.averaging:
            self._average[:] = state.weights

    def read(self) -> State:
        moments = self._moments.reshape(-1, len(self._parameters)).copy()
        return State(self._parameters.copy(), moments, self._average.copy() if self.averaging else None)

    def train_epoch(self, samples: Samples, plan: EpochPlan, watch: Watch | None = None) -> float:
        tiles = -(-min(plan.batch_size, len(plan.order)) // LANES)
        frozen = self._training[plan.transforms is not None]
        if len(self._records) < tiles * frozen.record:
            self._records = _aligned(tiles * frozen.record)
        hyper = plan.hyper.astype(np.float32).reshape(-1)
        targets = samples.targets[plan.order] if plan.targets is None else plan.targets
        losses = np.zeros(len(plan.order), np.float32)
        control = _aligned(CONTROL, np.int64)
        control[CREW] = self._threads
        transforms = NO_TRANSFORMS if plan.transforms is None else plan.transforms.reshape(-1)

        def work(own: tuple[Any, ...], order: NDArray[np.int32] = plan.order) -> None:
            fused.train(
                frozen, control, *self._tables, samples.images.reshape(-1), order, targets.reshape(-1),
                transforms, hyper, plan.batch_size, losses, self._parameters, self._gradients,
                self._moments, self._average, self._records, *own,
            )  # fmt: skip

        told = 0

        def look() -> None:
            nonlocal told
            done = int(control[DONE])
            if watch and done > told:
                watch(done, float(losses[told:done].mean()))
                told = done

        work(self._own[0], plan.order[:0])  # compiles
        self._run(work, control, look)
        return float(losses.mean(dtype=np.float64))

    def _run(self, work: Callable[[Any], None], control: NDArray[np.int64], look: Callable[[], None]) -> None:
        """Run ``work`` in all threads; whatever ``look`` or a thread raises, or Ctrl-C, first stops them."""
        ended: SimpleQueue[BaseException | None] = SimpleQueue()

        def guarded(own: Any) -> None:
            failure: BaseException | None = None
            try:
                work(own)
            except BaseException as error:
                control[STOP], failure = ABANDON, error
            ended.put(failure)

        threads = [threading.Thread(target=guarded, args=(own,), daemon=True) for own in self._own]
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            running = len(started)
            # Not Thread.join: before Python 3.13, one that Ctrl-C interrupts takes the thread for ended while it runs.
            while running:
                with suppress(Empty):
                    failure = ended.get(timeout=WATCH_SECONDS)
                    running -= 1
                    if failure is not None:
                        raise failure
                look()
        finally:
            control[STOP] = max(control[STOP], 1 if len(started) == len(threads) else ABANDON)
            for thread in started:
                thread.join()

    def evaluate(self, samples: Samples) -> tuple[NDArray[Any], NDArray[np.int32]]:
        logits = self.predict(samples.images)
        largest = logits.max(axis=1, keepdims=True)
        shifted = logits - largest
        losses = (samples.targets * (np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)).sum(axis=1)
        return losses, logits.argmax(axis=1).astype(np.int32)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        count = len(images)
        if 0 < count <= SINGLES:
            return np.concatenate([self._predict_one(images[n]) for n in range(count)])
        return self._predict(images, np.arange(count, dtype=np.int32), None)

    def predict_epoch(self, samples: Samples, plan: EpochPlan) -> NDArray[Any]:
        return self._predict(samples.images, plan.order, plan.transforms)

    def _predict(
        self, images: NDArray[np.uint8], order: NDArray[np.int32], transforms: NDArray[np.float32] | None
    ) -> NDArray[Any]:
        """Return the logits (M, K) of the images in an order (M,), distorted or not."""
        frozen, count = self._answering[transforms is not None], len(order)
        moved = NO_TRANSFORMS if transforms is None else transforms.reshape(-1)
        logits = np.empty(count * self.network.classes, np.float32)
        control = _aligned(CONTROL, np.int64)
        weights = self._average if self.averaging else self._parameters

        def work(own: tuple[Any, ...], order: NDArray[np.int32] = order) -> None:
            fused.answer(frozen, control, *self._tables, images.reshape(-1), order, moved, weights, logits, *own)

        work(self._own[0], order[:0])  # compiles
        if count <= FEW:
            work(self._own[0])
        else:
            self._run(work, control, lambda: None)
        return logits.reshape(count, self.network.classes)

    def _predict_one(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer a single image, in this thread and without a detour: what a live drawing waits for."""
        logits = np.empty((1, self.network.classes), np.float32)
        weights = self._average if self.averaging else self._parameters
        arguments = (*self._one, image.reshape(-1), weights, logits.reshape(-1), self._own[0][0])
        if self._answer_one is None:
            fused.answer_one(*arguments)
            # Numba takes longer to look at the arguments than the kernel takes for its work; they never change in type.
            self._answer_one = fused.answer_one.get_overload(tuple(map(numba.typeof, arguments)))
        self._answer_one(*arguments)
        return logits
