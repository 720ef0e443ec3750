"""The process that measures: contenders side by side, each in a process of its own.

So start-up and memory of each are its own, and none meets the threads of another. They work in turn, A B C, A B C: a
machine that slows down slows all of them. Before anything is timed, the losses of the same first steps are compared
with NumPy's.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import backends
from lenet.bench.work import BATCH_SIZE, KINDS, SCANNED, STEP, WORKS, Effort, Result, Work
from lenet.bench.worker import Failed, Worker
from lenet.errors import LenetError
from lenet.executors import kinds
from lenet.info import processor, versions
from lenet.kernels.cpu.cpus import usable

Tell = Callable[[str], None]
"""Is told what goes on."""


@dataclass(frozen=True)
class Report:
    """All contenders, and how many cores other programs used while they were timed, where that is known."""

    results: list[Result]
    others: float | None


def contenders(threads: int | None = None) -> list[Result]:
    """Return each executor of each backend that works here, and why the other backends do not."""
    found = []
    for name in backends.NAMES:
        try:
            made = backends.get(name)
        except LenetError as error:
            found.append(Result(name, problem=str(error)))
            continue
        chosen = threads if name == "numba" else None
        found += [Result(name, kind.name, chosen) for kind in reversed(kinds(made))]
    return found


def measure(effort: Effort, threads: int | None, tell: Tell) -> Report:
    """Compare and time all contenders at the works of `WORKS`."""
    return _measured(contenders(threads), lambda _: WORKS, effort, tell)


def scan(effort: Effort, threads: int | None, tell: Tell) -> Report:
    """Compare and time all contenders at batches of `SCANNED`, those that use threads with 1, 2, 4, ... and all."""
    most = threads or usable()
    counts = sorted({most, *(2**power for power in range(most.bit_length()) if 2**power < most)})
    found = {result.key: result for count in counts for result in contenders(count)}
    works = [Work(kind, batch) for batch in SCANNED for kind in KINDS]
    return _measured(list(found.values()), lambda _: works, effort, tell)


def measure_primitives(effort: Effort, threads: int | None, tell: Tell) -> Report:
    """Time every primitive by itself on each backend, the ceilings of the machine, and whole steps to compare."""
    results = contenders(threads)
    layer_by_layer = {result.backend: result for result in reversed(results)}

    def works(worker: Worker) -> list[Work]:
        result = worker.result
        if result is layer_by_layer[result.backend]:
            result.amounts = worker.attempt(worker.ask, "primitives", BATCH_SIZE) or {}
        return [STEP, *(Work(name, BATCH_SIZE) for name in result.amounts)]

    return _measured(results, works, effort, tell)


def _measured(results: list[Result], works: Callable[[Worker], Sequence[Work]], effort: Effort, tell: Tell) -> Report:
    """Compare all contenders, and time each at its works; those that have the same work take turns."""
    others = []
    for sitting in range(effort.sittings):
        with _opened(results, tell) as workers:
            if sitting == 0:
                tell("comparing losses")
                _compare(workers)
            others.append(_sitting(workers, works, effort, tell))
    known = [cores for cores in others if cores is not None]
    return Report(results, mean(known) if known else None)


def _sitting(
    workers: Sequence[Worker], works: Callable[[Worker], Sequence[Work]], effort: Effort, tell: Tell
) -> float | None:
    """Time each contender at its works, and return how many cores others used meanwhile."""
    tell("preparing")
    shared: dict[Work, list[Worker]] = {}
    for worker in workers:
        for work in works(worker):
            shared.setdefault(work, []).append(worker)
    others = _Others(workers)
    for work, workers_at_it in shared.items():
        tell(work.title)
        calls = {worker: worker.attempt(worker.calls, work, effort.seconds) for worker in workers_at_it}
        for _ in range(effort.turns):
            for worker, count in calls.items():
                seconds = worker.attempt(worker.seconds, work, count)
                if seconds is not None:
                    worker.result.samples.setdefault(work.title, []).append(seconds)
    for worker in workers:
        worker.result.memory = max(worker.attempt(worker.ask, "memory") or 0, worker.result.memory or 0) or None
    return others.cores()


@contextmanager
def _opened(results: Sequence[Result], tell: Tell) -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    try:
        for result in results:
            if not result.problem:
                tell(f"starting {result.name}")
                try:
                    workers.append(Worker(result))
                except Failed:
                    continue
        yield workers
    finally:
        for worker in workers:
            worker.close()


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
            asdict(result)
            | {"name": result.name, "start": result.start, "agrees": result.agrees, "epoch_seconds": result.epoch}
            for result in report.results
        ],
    }
