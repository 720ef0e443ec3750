"""What a contender does, in a process of its own."""

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import backends
from lenet.bench.ceilings import ceilings
from lenet.bench.primitives import Primitive, primitives
from lenet.bench.work import BATCH_SIZE, CHECKED_STEPS, KINDS, Work
from lenet.data import load_dataset
from lenet.errors import LenetError
from lenet.executors import EpochPlan, Executor, State, kinds
from lenet.lenet5 import lenet5
from lenet.settings import DistortionSettings, Settings
from lenet.streams import Purpose, permutation, stream
from lenet.training import first_state, plan_epoch


class Contender:
    """One executor on one backend, and what it works on."""

    def __init__(self, backend: str, executor: str, threads: int | None) -> None:
        settings, data = Settings(), load_dataset()
        network = lenet5(settings.network, data.height, data.width, data.classes)
        training = settings.training
        options = {"threads": threads} if backend == "numba" and threads else {}
        made = backends.get(backend, **options)
        (kind,) = (kind for kind in kinds(made) if kind.name == executor)
        self._settings, self._data, self._backend = settings, data, made
        self._executor: Executor = kind(network, made, training.rule(), averaging=training.average > 0)
        self._state: State = first_state(network, settings)
        self._executor.write(self._state)
        self._samples = self._executor.upload(data.train_images, data.train_labels)
        self._order = permutation(stream(1, Purpose.ORDER, 1), len(self._samples))
        self._primitives: dict[str, Primitive] = {}
        self.device = made.device

    def first_step(self) -> None:
        """Train on one batch."""
        self._executor.train_epoch(self._samples, self._plan(BATCH_SIZE, 1, distorted=True))

    def losses(self) -> NDArray[np.float64]:
        """Return the cost of some first steps, one by one, and the losses of some test images behind them."""
        self._executor.write(self._state)
        plan = self._plan(BATCH_SIZE, CHECKED_STEPS, distorted=True)
        costs = []
        for step in range(CHECKED_STEPS):
            images = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
            transforms = None if plan.transforms is None else plan.transforms[images]
            batch = EpochPlan(plan.order[images], transforms, plan.hyper[step : step + 1], BATCH_SIZE)
            costs.append(self._executor.train_epoch(self._samples, batch))
        test = self._executor.upload(self._data.test_images[:256], self._data.test_labels[:256])
        losses, _ = self._executor.evaluate(test)
        return np.array([*costs, losses.mean(dtype=np.float64)])

    def primitives(self, batch: int) -> dict[str, tuple[int, int]]:
        """Make everything that is timed by itself ready: the primitives of a step, and the ceilings of the machine.

        Returns
        -------
        By their names, floating-point operations and bytes of a call.
        """
        rule = self._settings.training.rule()
        steps = primitives(self._executor.network, self._backend, batch, rule)
        self._primitives = {made.name: made for made in (*steps, *ceilings(self._backend))}
        return {name: (made.operations, made.traffic) for name, made in self._primitives.items()}

    def job(self, work: Work, calls: int) -> Callable[[], object]:
        """Return what does a work several times."""
        if work.kind not in KINDS:
            primitive = self._primitives[work.kind]

            def repeat() -> None:
                for _ in range(calls):
                    primitive.run()
                self._backend.synchronize()

            return repeat
        if work.kind == "answer":
            images = self._data.train_images[: work.batch]

            def answer() -> None:
                for _ in range(calls):
                    self._executor.predict(images)

            return answer
        plan = self._plan(work.batch, calls, work.distorted)
        return lambda: self._executor.train_epoch(self._samples, plan)

    def _plan(self, batch: int, steps: int, distorted: bool) -> EpochPlan:
        count = batch * steps
        settings = (
            self._settings if distorted else replace(self._settings, distortion=DistortionSettings(0.0, 0.0, 0.0))
        )
        drawn = plan_epoch(settings, 1, count, self._data.height, self._data.width)
        return EpochPlan(
            order=np.resize(self._order, count),
            transforms=drawn.transforms,
            hyper=np.resize(drawn.hyper, (steps, drawn.hyper.shape[1])),
            batch_size=batch,
        )


class _Service:
    """What a contender's process does on request."""

    def __init__(self, backend: str, executor: str, threads: int | None) -> None:
        self._backend, self._executor, self._threads = backend, executor, threads
        self._contender: Contender | None = None

    def start(self) -> str:
        """Make the contender, train on one batch, and return its device."""
        self._contender = Contender(self._backend, self._executor, self._threads)
        self._contender.first_step()
        return self._contender.device

    def losses(self) -> NDArray[np.float64]:
        """Return the losses to be compared."""
        assert self._contender
        return self._contender.losses()

    def primitives(self, batch: int) -> dict[str, tuple[int, int]]:
        """Make the primitives, and return operations and bytes of each."""
        assert self._contender
        return self._contender.primitives(batch)

    def time(self, work: Work, calls: int) -> float:
        """Return how long so many calls take."""
        assert self._contender
        job = self._contender.job(work, calls)
        # Two threads that wake up after a turn of others may begin on one core, for some milliseconds.
        self._contender.job(work, max(1, calls // 3))()
        begun = time.perf_counter()
        job()
        return time.perf_counter() - begun

    def busy(self) -> float:
        """Return the processor's time that was used so far."""
        return time.process_time()

    def memory(self) -> int:
        """Return the most memory that was used at a time; Linux counts in kilobytes, macOS in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(pipe: Connection, *contender: Any) -> None:
    """Answer requests, a method and arguments each, with True and the result, or False and what went wrong."""
    service = _Service(*contender)
    with suppress(EOFError, OSError):  # the process that measures has left
        while True:
            name, *arguments = pipe.recv()
            try:
                answer = True, getattr(service, name)(*arguments)
            except LenetError as error:
                answer = False, str(error)
            except Exception as error:
                answer = False, f"{type(error).__name__}: {error}"
            pipe.send(answer)
