"""`lenet bench`: every backend and executor on the same work, side by side on this machine.

Each contender is a process of its own, so that its start-up and its memory are its own, and none meets the threads of
another. They work in turn, A B C, A B C: a machine that slows down slows all of them. Before anything is timed, the
losses of the same first steps are compared with NumPy's.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import backends
from lenet.data import load_dataset
from lenet.errors import LenetError
from lenet.executors import EpochPlan, Executor, State, kinds
from lenet.info import processor, versions
from lenet.lenet5 import lenet5
from lenet.settings import DistortionSettings, Settings
from lenet.streams import Purpose, permutation, stream
from lenet.training import first_state, plan_epoch

CHECKED_STEPS = 20
TOLERANCE = 1e-4  # of the losses of those steps; float32 in another order is an order of magnitude below
TRAINING_IMAGES, TEST_IMAGES, EPOCHS, BATCH_SIZE = 60_000, 10_000, 20, 64  # of the default training on MNIST


@dataclass(frozen=True)
class Work:
    """One thing to time: a training step or the answer to a batch of images; ``distorted`` as in training."""

    kind: str
    batch: int
    distorted: bool = False

    @property
    def title(self) -> str:
        """What tables call it."""
        name = {"train": "training step", "answer": "answer"}[self.kind]
        return f"{name}, batch {self.batch:,}" + (", distorted" if self.distorted else "")


BATCHES = (1, 64, 1024)
EPOCH = Work("train", BATCH_SIZE, distorted=True)
EVALUATION = Work("answer", 1024)
WORKS = (EPOCH, *(Work("train", batch) for batch in BATCHES), *(Work("answer", batch) for batch in BATCHES))


@dataclass(frozen=True)
class Effort:
    """How long and how often: seconds of a turn, and turns of each contender at each work."""

    seconds: float = 0.2
    turns: int = 7


FULL, QUICK = Effort(), Effort(seconds=0.03, turns=3)


@dataclass
class Result:
    """What was found of one contender; times in seconds, memory in bytes.

    Attributes
    ----------
    start : from nothing to the first trained batch: imports, kernels compiled or found in the cache, a GPU's context
    difference : the largest relative difference of its losses from NumPy's
    samples : by the title of a work, seconds an image, a turn each
    problem : why it is not there, or what went wrong
    """

    backend: str
    executor: str = ""
    device: str = ""
    start: float | None = None
    difference: float | None = None
    memory: int | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)
    problem: str = ""

    @property
    def name(self) -> str:
        """Backend and executor."""
        return f"{self.backend} {self.executor}".strip()

    @property
    def agrees(self) -> bool:
        """Whether it computes what NumPy computes."""
        return self.difference is not None and self.difference <= TOLERANCE

    def seconds(self, work: Work) -> float | None:
        """Return the median seconds of one image."""
        samples = self.samples.get(work.title)
        return median(samples) if samples else None

    def spread(self, work: Work) -> float | None:
        """Return the median deviation from the median, as a share of it."""
        samples, middle = self.samples.get(work.title), self.seconds(work)
        if not samples or not middle:
            return None
        return median(abs(sample - middle) for sample in samples) / middle

    @property
    def epoch(self) -> float | None:
        """Seconds of an epoch of the default training with distortion and evaluation, projected from its parts."""
        step, answer = self.seconds(EPOCH), self.seconds(EVALUATION)
        if step is None or answer is None:
            return None
        return TRAINING_IMAGES * step + (TRAINING_IMAGES + TEST_IMAGES) * answer


# in the process of a contender ---------------------------------------------------------------------------------------


class Contender:
    """One executor on one backend, and what it works on."""

    def __init__(self, backend: str, executor: str, threads: int | None) -> None:
        settings, data = Settings(), load_dataset()
        network = lenet5(settings.network, data.height, data.width, data.classes)
        training = settings.training
        options = {"threads": threads} if backend == "numba" and threads else {}
        made = backends.get(backend, **options)
        (kind,) = (kind for kind in kinds(made) if kind.name == executor)
        self._settings, self._data = settings, data
        self._executor: Executor = kind(network, made, training.rule(), averaging=training.average > 0)
        self._state: State = first_state(network, settings)
        self._executor.write(self._state)
        self._samples = self._executor.upload(data.train_images, data.train_labels)
        self._order = permutation(stream(1, Purpose.ORDER, 1), len(self._samples))
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

    def job(self, work: Work, calls: int) -> Callable[[], object]:
        """Return what does a work several times."""
        if work.kind == "answer":
            images = self._data.test_images[: work.batch]

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

    def time(self, work: Work, calls: int) -> float:
        """Return how long so many calls take."""
        assert self._contender
        job = self._contender.job(work, calls)
        begun = time.perf_counter()
        job()
        return time.perf_counter() - begun

    def busy(self) -> float:
        """Return the processor's time that was used so far."""
        return time.process_time()

    def memory(self) -> int:
        """Return the most memory that was used at a time; Linux counts in kilobytes, macOS in bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _serve(pipe: Connection, *contender: Any) -> None:
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


# in the process that measures ----------------------------------------------------------------------------------------


class Failed(Exception):
    """A contender that could not do what it was asked; it is left out from then on."""


class Worker:
    """A contender's process, as the one that measures sees it."""

    def __init__(self, result: Result, threads: int | None) -> None:
        self.result = result
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, result.backend, result.executor, threads)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        begun = time.perf_counter()
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for this process alone
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        theirs.close()
        result.device = self.ask("start")
        result.start = time.perf_counter() - begun

    def ask(self, *request: Any) -> Any:
        """Send a request, and return the answer.

        Raises
        ------
        Failed
            With the reason, which its result keeps.
        """
        try:
            self._pipe.send(request)
            right, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.result.problem = "its process ended"
            raise Failed from error
        if not right:
            self.result.problem = answer
            raise Failed
        return answer

    def seconds(self, work: Work, calls: int) -> float:
        """Return the seconds of one image."""
        return float(self.ask("time", work, calls)) / (calls * work.batch)

    def calls(self, work: Work, seconds: float) -> int:
        """Return how many calls take about ``seconds``; the first ones, which may compile, do not count."""
        self.ask("time", work, 1)
        calls = 1
        while True:
            taken = float(self.ask("time", work, calls))
            if taken >= seconds / 4 or calls >= 4096:
                return max(1, min(4096, round(calls * seconds / max(taken, 1e-9))))
            calls *= 4

    def attempt(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Return what an action gives, or None once the contender has failed."""
        if self.result.problem:
            return None
        try:
            return action(*arguments)
        except Failed:
            return None

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


def contenders() -> list[Result]:
    """Return each executor of each backend that works here, and why the other backends do not."""
    found = []
    for name in backends.NAMES:
        try:
            made = backends.get(name)
        except LenetError as error:
            found.append(Result(name, problem=str(error)))
            continue
        found += [Result(name, kind.name) for kind in reversed(kinds(made))]
    return found


@contextmanager
def _opened(results: Sequence[Result], threads: int | None, tell: Callable[[str], None]) -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    try:
        for result in results:
            if not result.problem:
                tell(f"starting {result.name}")
                try:
                    workers.append(Worker(result, threads))
                except Failed:
                    continue
        yield workers
    finally:
        for worker in workers:
            worker.close()


@dataclass(frozen=True)
class Report:
    """All contenders, and how many cores other programs used while they were timed, where that is known."""

    results: list[Result]
    others: float | None


def measure(effort: Effort = FULL, threads: int | None = None, tell: Callable[[str], None] = lambda _: None) -> Report:
    """Compare and time all contenders; ``tell`` is told what goes on."""
    results = contenders()
    with _opened(results, threads, tell) as workers:
        tell("comparing losses")
        _compare(workers)
        others = _Others(workers)
        for work in WORKS:
            tell(work.title)
            calls = {worker: worker.attempt(worker.calls, work, effort.seconds) for worker in workers}
            for _ in range(effort.turns):
                for worker, count in calls.items():
                    seconds = worker.attempt(worker.seconds, work, count)
                    if seconds is not None:
                        worker.result.samples.setdefault(work.title, []).append(seconds)
        for worker in workers:
            worker.result.memory = worker.attempt(worker.ask, "memory")
        return Report(results, others.cores())


class _Others:
    """Counts the processor's time that is not ours, from now on."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._begun = time.perf_counter()
        self._before = self._seconds()

    def cores(self) -> float | None:
        """Return how many cores others have used since then; None where the system does not tell."""
        now = self._seconds()
        if now is None or self._before is None:
            return None
        return max(0.0, now - self._before) / (time.perf_counter() - self._begun)

    def _seconds(self) -> float | None:
        try:
            fields = Path("/proc/stat").read_text(encoding="utf-8").split(maxsplit=9)[1:9]
        except OSError:
            return None
        user, nice, system, _, _, irq, softirq, steal = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields)
        ours = [worker.attempt(worker.ask, "busy") or 0.0 for worker in self._workers]
        return user + nice + system + irq + softirq + steal - sum(ours) - time.process_time()


def _compare(workers: Sequence[Worker]) -> None:
    """Hold everybody's losses to those of the first contender, which is the reference."""
    reference: NDArray[np.float64] | None = None
    for worker in workers:
        losses = worker.attempt(worker.ask, "losses")
        if losses is not None:
            reference = losses if reference is None else reference
            worker.result.difference = float(np.max(abs(losses - reference) / reference))


def document(report: Report, effort: Effort, command: Sequence[str]) -> dict[str, Any]:
    """Return all that was found as one JSON object."""
    return {
        "command": list(command),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": {"processor": processor(), "cpus": multiprocessing.cpu_count()},
        "versions": versions(),
        "effort": asdict(effort),
        "cores_of_others": report.others,
        "results": [
            asdict(result) | {"name": result.name, "agrees": result.agrees, "epoch_seconds": result.epoch}
            for result in report.results
        ],
    }
