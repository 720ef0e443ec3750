"""CUDA graphs: the launches of many steps, recorded once and replayed, so that the host has almost nothing to do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cupy as cp
import numpy as np

from lenet.backends.base import Array, Backend
from lenet.executors.base import EpochPlan, Samples, Watch
from lenet.executors.eager import EagerExecutor, Epoch, Workspace
from lenet.network import Network
from lenet.optimizers import Rule

STEPS = 32  # in a graph: about a thousand launches


class Recording:
    """What ``launch`` asks of the GPU, recorded on ``stream``; everything it uses must exist before, and stay."""

    def __init__(self, stream: Any, launch: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = stream.record()
        stream.begin_capture()
        try:
            launch()
        finally:
            self._graph = stream.end_capture()

    def replay(self) -> None:
        """Queue one replay, and wait until the one before has ended: the host is never further ahead than that."""
        self._graph.launch(self._stream)
        before, self._ended = self._ended, self._stream.record()
        before.synchronize()


@dataclass(frozen=True)
class _Stretch:
    """`STEPS` recorded steps, the arrays they work in, and the workspace that they were recorded with."""

    epoch: Epoch
    space: Workspace
    recording: Recording


class GraphExecutor(EagerExecutor):
    """Replays the eager executor's launches, `STEPS` steps at a time, to the same bits.

    What is left of an epoch, and the first step with arrays of new shapes, runs eagerly.
    """

    name = "graph"

    def __init__(self, network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> None:
        super().__init__(network, backend, rule, averaging)
        # Not CuPy's default stream, which cannot be recorded; and one that waits for it, as that stream waits for this.
        self._stream = cp.cuda.Stream()
        self._stretch: _Stretch | None = None

    def train_epoch(self, samples: Samples, plan: EpochPlan, watch: Watch | None = None) -> float:
        with self._stream:
            return super().train_epoch(samples, plan, watch)

    def _advance(self, epoch: Epoch, step: int) -> int:
        if (step + STEPS) * epoch.batch_size > len(epoch.index):
            return super()._advance(epoch, step)
        stretch = self._stretch
        if stretch is None or not self._serves(stretch, epoch):
            if step == 0:  # compiles, and allocates: neither can be recorded
                return super()._advance(epoch, step)
            self._stretch = stretch = self._record(epoch)
        images = slice(step * epoch.batch_size, (step + STEPS) * epoch.batch_size)
        stretch.epoch.index[...] = epoch.index[images]
        stretch.epoch.targets[...] = epoch.targets[images]
        stretch.epoch.hyper[...] = epoch.hyper[step : step + STEPS]
        if stretch.epoch.transforms is not None and epoch.transforms is not None:
            stretch.epoch.transforms[...] = epoch.transforms[images]
        stretch.recording.replay()
        epoch.losses[images] = stretch.epoch.losses
        return STEPS

    def _serves(self, stretch: _Stretch, epoch: Epoch) -> bool:
        recorded = stretch.epoch
        return (
            recorded.images is epoch.images
            and recorded.batch_size == epoch.batch_size
            and (recorded.transforms is None) == (epoch.transforms is None)
            and stretch.space is self._workspaces[True]
        )

    def _record(self, epoch: Epoch) -> _Stretch:
        empty, count = self.backend.empty, STEPS * epoch.batch_size
        transforms: Array | None = None if epoch.transforms is None else empty((count, 2, 3))
        recorded = Epoch(
            images=epoch.images,
            index=empty((count,), np.int32),
            transforms=transforms,
            targets=empty((count, self.network.classes)),
            hyper=empty((STEPS, epoch.hyper.shape[1])),
            losses=empty((count,)),
            batch_size=epoch.batch_size,
        )

        def launch() -> None:
            for step in range(STEPS):
                self._step(recorded, step)

        return _Stretch(recorded, self._workspaces[True], Recording(self._stream, launch))
