"""A process that trains: the settings of one trial after the other, with each seed.

It never has the test images: accuracies are those of the images held out.
"""

import math
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from lenet.backends import Backend, select
from lenet.data import Dataset, hold_out, load_dataset
from lenet.errors import LenetError, UsageError
from lenet.evaluation import evaluate
from lenet.executors import Executor, choose
from lenet.executors.check import self_check
from lenet.lenet5 import lenet5
from lenet.settings import Settings
from lenet.training import first_state, plan_epoch


@dataclass(frozen=True)
class Place:
    """What every trial of a sweep is trained on: a data set (None for MNIST), images held out of it, a backend."""

    data: Path | None
    validation: int
    backend: str | None


@dataclass(frozen=True)
class Epoch:
    """An epoch is done; the worker waits to hear whether it shall go on. ``seed`` and ``epoch`` count from 1."""

    seed: int
    epoch: int
    accuracy: float


@dataclass(frozen=True)
class Done:
    """A trial is done: the accuracy that each seed ended with."""

    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Hopeless:
    """Settings that make no network, or none that can be trained, and why."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """What went wrong that is not the fault of the settings; ``expected`` if every trial would meet it."""

    reason: str
    expected: bool


Message = Epoch | Done | Hopeless | Broken


class Worker:
    """A worker's process, as the search sees it."""

    def __init__(self, place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, place), daemon=True)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for the search alone
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        theirs.close()

    def start(self, settings: Settings, seeds: int) -> None:
        """Have a trial trained."""
        self._send((settings, seeds))

    def go_on(self, wanted: bool) -> None:
        """Answer an `Epoch`: whether the trial is still wanted."""
        self._send(wanted)

    def hear(self) -> Message | None:
        """Return what the worker says next; None once its process has ended."""
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return message

    def kill(self) -> None:
        """End the process there and then: it has nothing to save."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _send(self, message: object) -> None:
        with suppress(OSError):  # it has ended, which `hear` tells
            self.pipe.send(message)


def serve(pipe: Connection, place: Place) -> None:
    """Train whatever is asked for, until the search has gone."""
    np.seterr(over="ignore", invalid="ignore")  # a run that diverges is told by its cost
    with suppress(EOFError, OSError):  # the search has gone
        try:
            dataset = load(place)
            backend = select("cpu" if place.backend is None else "auto", place.backend, threads=1)
            while True:
                settings, seeds = pipe.recv()
                if outcome := _train(pipe, settings, seeds, dataset, backend):
                    pipe.send(outcome)
        except LenetError as error:
            pipe.send(Broken(str(error), expected=True))
        except (EOFError, OSError):
            raise
        except Exception as error:
            pipe.send(Broken(f"{type(error).__name__}: {error}", expected=False))


def load(place: Place) -> Dataset:
    """Load the data set and hold images out; test images are left behind."""
    dataset = hold_out(load_dataset(place.data), place.validation)
    return replace(dataset, test_images=dataset.test_images[:0], test_labels=dataset.test_labels[:0])


def _train(pipe: Connection, settings: Settings, seeds: int, dataset: Dataset, backend: Backend) -> Message | None:
    """Train with each seed and tell of each epoch; None once the search does not want to know more."""
    try:
        network = lenet5(settings.network, dataset.height, dataset.width, dataset.classes)
    except UsageError as error:
        return Hopeless(str(error))
    executor = choose(network, backend, settings.training.rule(), averaging=settings.training.average > 0)
    self_check(executor, distorted=settings.distortion.active)
    accuracies = []
    for seed in range(1, seeds + 1):
        accuracy = math.nan
        for epoch, accuracy in enumerate(course(executor, dataset, settings.override("training", seed=seed)), 1):
            if math.isnan(accuracy):
                return Hopeless(f"diverged in epoch {epoch}")
            pipe.send(Epoch(seed, epoch, accuracy))
            if not pipe.recv():
                return None
        accuracies.append(accuracy)
    return Done(tuple(accuracies))


def course(executor: Executor, dataset: Dataset, settings: Settings) -> Iterator[float]:
    """Train as `lenet.training.train` does, and yield the accuracy on the images held out after each epoch.

    NaN once the cost or a weight is no longer finite.
    """
    train_samples = executor.upload(dataset.train_images, dataset.train_labels)
    validation_samples = executor.upload(dataset.validation_images, dataset.validation_labels)
    executor.write(first_state(executor.network, settings))
    for epoch in range(1, settings.training.epochs + 1):
        plan = plan_epoch(settings, epoch, len(train_samples), dataset.height, dataset.width)
        cost = executor.train_epoch(train_samples, plan)
        if not (math.isfinite(cost) and np.isfinite(executor.read().parameters).all()):
            yield math.nan
            return
        yield evaluate(executor, validation_samples, dataset.validation_labels).accuracy
