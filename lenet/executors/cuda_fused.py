"""The fused executor of the CuPy backend: a training step in two launches; see ``docs/cuda.md``."""

import time
from dataclasses import dataclass
from typing import Any

import cupy as cp
import numpy as np
from numpy.typing import NDArray

from lenet.backends.base import Array, Backend
from lenet.backends.cupy_backend import rule_macros
from lenet.errors import Unsupported
from lenet.executors.base import WATCH_SECONDS, EpochPlan, Executor, Samples, State, Watch
from lenet.executors.cuda_graph import Recording
from lenet.executors.cuda_plan import THREADS, UPDATE_THREADS, make_plan
from lenet.kernels.cuda.loader import load
from lenet.network import Network
from lenet.optimizers import Rule

STEPS = 64  # in a graph


@dataclass(frozen=True)
class _Epoch:
    """A recorded stretch of steps of an epoch of M images, and the arrays that it was recorded with.

    Attributes
    ----------
    samples : the data set
    order : (M,) int32
    targets : (M, K)
    transforms : (M, 2, 3) or None
    hyper : (steps, 4)
    losses : (M,)
    progress : (2,) int32, how many steps are done, and M
    records : (batch_size, ...), what `train` leaves for `update`
    recording : the first `STEPS` steps that are not done
    """

    samples: Samples
    order: Array
    targets: Array
    transforms: Array | None
    hyper: Array
    losses: Array
    progress: Array
    records: Array
    recording: Recording

    def serves(self, samples: Samples, plan: EpochPlan) -> bool:
        """Tell whether another epoch is of the same shape and on the same data set."""
        return (
            self.samples is samples
            and len(self.order) == len(plan.order)
            and len(self.records) == min(plan.batch_size, len(plan.order))
            and (self.transforms is None) == (plan.transforms is None)
        )


class CudaFusedExecutor(Executor):
    """Works each image of a batch in one block of threads, then updates all parameters, and replays both as a graph."""

    name = "fused"

    def __init__(self, network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> None:
        super().__init__(network, backend, rule, averaging)
        self._plan = plan = make_plan(network)
        most = cp.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
        if plan.shared > most:
            raise Unsupported(
                f"the fused executor needs {plan.shared / 1024:.0f} KB of shared memory for an image of this network; "
                f"{backend.device} has {most / 1024:.0f}"
            )
        total = network.size
        self._parameters = backend.empty((total,))
        self._moments = backend.empty((rule.moments if rule else 0, total))
        self._average = backend.empty((total,)) if averaging else None
        # Not CuPy's default stream, which cannot be recorded; and one that waits for it, as that stream waits for this.
        self._stream = cp.cuda.Stream()
        self._epoch: _Epoch | None = None

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
        with self._stream:
            if self._epoch is None or not self._epoch.serves(samples, plan):
                self._epoch = self._record(samples, plan)
            epoch, to_device, to_host = self._epoch, self.backend.to_device, self.backend.to_host
            to_device(plan.order, out=epoch.order)
            if plan.targets is None:
                epoch.targets[...] = samples.targets[epoch.order]
            else:
                to_device(plan.targets, out=epoch.targets)
            to_device(plan.hyper, out=epoch.hyper)
            to_device(np.array([0, len(plan.order)], np.int32), out=epoch.progress)
            if epoch.transforms is not None and plan.transforms is not None:
                to_device(plan.transforms, out=epoch.transforms)
            told, told_at = 0, time.monotonic()
            for step in range(0, plan.steps, STEPS):
                epoch.recording.replay()
                if watch and time.monotonic() - told_at >= WATCH_SECONDS:
                    done = min((step + STEPS) * plan.batch_size, len(plan.order))
                    watch(done, float(to_host(epoch.losses[told:done]).mean()))
                    told, told_at = done, time.monotonic()
            return float(to_host(epoch.losses).mean(dtype=np.float64))

    def _record(self, samples: Samples, plan: EpochPlan) -> _Epoch:
        """Record `STEPS` steps of epochs like this one."""
        assert self.rule is not None, "an executor without a rule does not train"
        empty, count = self.backend.empty, len(plan.order)
        batch_size = min(plan.batch_size, count)
        macros = self._plan.macros
        train = load("fused_train", parts=("fused",), **macros)
        update = load("fused_update", parts=("fused",), **macros, **rule_macros(self.rule))
        order, targets, losses = empty((count,), np.int32), empty((count, self.network.classes)), empty((count,))
        transforms: Array | None = None if plan.transforms is None else empty((count, 2, 3))
        hyper = empty(plan.hyper.shape)
        progress = empty((2,), np.int32)
        records = empty((batch_size, self._plan.record))

        def launch() -> None:
            for step in range(min(STEPS, plan.steps)):
                place = (progress, np.int32(step), np.int32(batch_size))
                train.launch(
                    "train", batch_size, THREADS, samples.images, order, targets, transforms, *place,
                    self._parameters, losses, records, shared=self._plan.shared,
                )  # fmt: skip
                update.launch(
                    "update", self._plan.update_blocks, UPDATE_THREADS, records, *place, hyper, self._parameters,
                    self._moments, self._average,
                )  # fmt: skip
            train.launch("advance", 1, 1, progress, np.int32(STEPS))

        progress.fill(0)
        launch()  # on no images: compiles the kernels, which cannot be recorded
        recording = Recording(self._stream, launch)
        return _Epoch(samples, order, targets, transforms, hyper, losses, progress, records, recording)

    def evaluate(self, samples: Samples) -> tuple[NDArray[Any], NDArray[np.int32]]:
        losses = self.backend.empty((len(samples),))
        answers = self.backend.empty((len(samples),), np.int32)
        self._answer(len(samples), samples.images, None, None, samples.targets, None, losses, answers)
        return self.backend.to_host(losses), self.backend.to_host(answers)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        return self._logits(len(images), self.backend.to_device(images), None, None)

    def predict_epoch(self, samples: Samples, plan: EpochPlan) -> NDArray[Any]:
        to_device = self.backend.to_device
        transforms = None if plan.transforms is None else to_device(plan.transforms)
        return self._logits(len(plan.order), samples.images, to_device(plan.order), transforms)

    def _logits(self, count: int, images: Array, order: Array | None, transforms: Array | None) -> NDArray[Any]:
        logits = self.backend.empty((count, self.network.classes))
        self._answer(count, images, order, transforms, None, logits, None, None)
        return self.backend.to_host(logits)

    def _answer(self, count: int, images: Array, *arrays: Array | None) -> None:
        """Launch ``answer`` for so many images; None for what is not given, or not wanted."""
        order, transforms, targets, *wanted = arrays
        weights = self._parameters if self._average is None else self._average
        load("fused_answer", parts=("fused",), **self._plan.macros).launch(
            "answer", count, THREADS, images, order, transforms, targets, weights, *wanted, shared=self._plan.shared
        )
