"""Watching a training: what the training tells, what the page asks."""

import math
import threading
import time
from contextlib import closing
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lenet import training
from lenet.data import Dataset
from lenet.executors import Executor
from lenet.lock import locked
from lenet.settings import Settings
from lenet.storage import EpochRecord
from lenet.studio import wire
from lenet.studio.jobs import Stopped, Workshop, new_folder, remove_unless_saved

TrainingState = Literal["none", "running", "done", "stopped", "failed"]

ATTENTION = 2.0  # seconds after a question in which the page counts as looking
MAX_EPOCHS = 1000


class View:
    """How a training is doing. Its thread calls `begin`, `watch`, `finish` and `end`; any other may call `to_dict`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = -ATTENTION
        self.seen = threading.Event()
        """Set by the server once a page has been told the end."""
        self._executor: Executor | None = None
        self._state: TrainingState = "none"
        self._message = ""
        self._epoch, self._epochs, self._images, self._done = 0, 0, 1, 0
        self._cost: float | None = None
        self._history: list[EpochRecord] = []
        self._kernels: NDArray[np.float32] | None = None

    def prepare(self, message: str, epochs: int) -> None:
        """Say that a training is coming."""
        with self._lock:
            self._state, self._message, self._epochs = "running", message, epochs
            self._epoch, self._done, self._cost, self._history, self._kernels = 1, 0, None, [], None

    def begin(self, executor: Executor, images: int, epochs: int, history: tuple[EpochRecord, ...] = ()) -> None:
        """Say that the first epoch of a run begins, or the one after ``history``."""
        self.prepare("", epochs)
        with self._lock:
            self._executor, self._images = executor, images
            self._history, self._epoch = list(history), len(history) + 1

    def watch(self, done: int, cost: float) -> None:
        """Be told how far an epoch is, in the thread that trains."""
        with self._lock:
            self._done, self._cost = done, cost if math.isfinite(cost) else None  # JSON has no NaN
            looked_at = time.monotonic() - self._asked < ATTENTION
        if looked_at:
            self._look()

    def finish(self, record: EpochRecord) -> None:
        """Be told of the end of an epoch, in the thread that trains."""
        self._look()
        with self._lock:
            self._history.append(record)
            self._epoch, self._done = min(record.epoch + 1, self._epochs), 0
            if record.epoch == self._epochs:
                self._done = self._images

    def _look(self) -> None:
        """Take a picture of the kernels of C1."""
        assert self._executor is not None, "training has begun"
        network = self._executor.network
        first = network.parameters[0]
        kernels = first.view(self._executor.read().weights).astype(np.float32)
        maps, height, width = first.shape
        with self._lock:
            self._kernels = kernels.reshape(maps, 1, height, width)

    def end(self, state: TrainingState, message: str) -> None:
        """Say how it ended."""
        with self._lock:
            self._state, self._message, self._executor = state, message, None
            self.seen.clear()

    def wait_until_seen(self) -> None:
        """Wait a moment for a page that is looking to ask how it ended."""
        if time.monotonic() - self._asked < ATTENTION:
            self.seen.wait(ATTENTION)

    @property
    def running(self) -> bool:
        """Whether the training has not ended."""
        return self._state == "running"

    def to_dict(self) -> dict[str, Any]:
        """Return what the page shows."""
        with self._lock:
            self._asked = time.monotonic()
            return {
                "state": self._state,
                "message": self._message,
                "epoch": self._epoch,
                "epochs": self._epochs,
                "done": self._done / self._images,
                "cost": self._cost,
                "history": [
                    {
                        "epoch": record.epoch,
                        "cost": record.cost,
                        "train_accuracy": record.train_accuracy,
                        "test_accuracy": record.test_accuracy,
                        "seconds": record.seconds,
                    }
                    for record in self._history
                ],
                "kernels": None
                if self._kernels is None
                else {"shape": list(self._kernels.shape), "values": wire.floats(self._kernels)},
            }


class Trainer:
    """Trains a new network from the page, with the default recipe."""

    def __init__(self, workshop: Workshop, dataset: Dataset) -> None:
        self._workshop, self._dataset = workshop, dataset
        self.view = View()

    def start(self, epochs: int) -> None:
        """Begin in a new folder.

        Raises
        ------
        Refusal
            409, when something is running.
        """
        settings = Settings().override("training", epochs=epochs)
        self._workshop.start(
            lambda: self.view.prepare("preparing the kernels (compiled once, then cached)", epochs),
            lambda: self._run(settings),
            lambda reason: self.view.end("failed", reason),
        )

    def _run(self, settings: Settings) -> None:
        dataset, view, epochs = self._dataset, self.view, settings.training.epochs
        executor = self._workshop.executor(settings, dataset, dataset.classes)
        folder = new_folder("network")
        view.begin(executor, len(dataset.train_labels), epochs)

        def watch(done: int, cost: float) -> None:
            self._workshop.check()
            view.watch(done, cost)

        description = training.describe(settings, dataset, executor)
        kept = 0
        try:
            self._workshop.check()
            with locked(folder), closing(training.train(executor, dataset, folder, description, watch=watch)) as run:
                for record in run:
                    view.finish(record)
                    kept = record.epoch
                    self._workshop.check()
            view.end("done", f"saved in {folder.name}: lenet selftest --path {folder.name}")
        except Stopped:
            view.end("stopped", f"{folder.name} holds epoch {kept}" if kept else "stopped before an epoch was done")
        finally:
            remove_unless_saved(folder)

    def stop(self) -> None:
        """End the training that runs, if one does."""
        if self.view.running:
            self._workshop.stop()
