"""Fine-tuning: a network learns somebody's hand in seconds, without forgetting the others'.

It goes on training gently, at a low rate that falls to zero, on the collected drawings, distorted anew each time, mixed
with eight times as many of the images that it was first trained on: whatever it is not shown any more, it forgets.
"""

import json
import math
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lenet import storage
from lenet.data import Dataset
from lenet.errors import LenetError
from lenet.evaluation import evaluate
from lenet.executors import EpochPlan, Executor, Samples, State
from lenet.info import versions
from lenet.lock import locked
from lenet.settings import DistillationSettings, DistortionSettings, Settings
from lenet.storage import Description, EpochRecord, Saved
from lenet.streams import Purpose, permutation, stream
from lenet.studio.drawings import Collection
from lenet.studio.jobs import Stopped, Workshop, new_folder, remove_unless_saved
from lenet.studio.model import Model
from lenet.studio.wire import Refusal
from lenet.training import plan_epoch

TeachingState = Literal["none", "running", "done", "failed"]

MIN_DRAWINGS = 5
ROUNDS = 8
SHOWN = 512  # drawings a round, each of them many times over if there are fewer
REPLAY = 8  # images of the first training for each of them
LEARNING_RATE = 0.0005
ORIGIN = "finetuned.json"


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers: on the test images, and on the drawings held out (None if there are none)."""

    test: float
    drawings: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Return both."""
        return {"test": self.test, "drawings": self.drawings}


@dataclass(frozen=True)
class Lesson:
    """What fine-tuning has made, and what it takes to keep it."""

    description: Description
    history: tuple[EpochRecord, ...]
    state: State
    origin: dict[str, Any]


def lesson_settings(saved: Saved) -> Settings:
    """Return the settings that a network is fine-tuned with: its own architecture, and a gentle training.

    The rule and the averaging are those of the default recipe, whose kernels are compiled already where it was used.
    """
    settings = saved.description.settings.override(
        "training",
        epochs=ROUNDS,
        optimizer="adam",
        learning_rate=LEARNING_RATE,
        schedule="cosine",
        batch_size=64,
        average=Settings().training.average,
    )
    return replace(settings, distortion=DistortionSettings(), distillation=DistillationSettings())


def plan_round(settings: Settings, number: int, drawings: int, images: int, height: int, width: int) -> EpochPlan:
    """Draw up round ``number``, counted from 1, of samples of which the first ``drawings`` are drawings."""
    replayed = min(REPLAY * SHOWN, images)
    replay = drawings + permutation(stream(settings.training.seed, Purpose.REPLAY, number), images)[:replayed]
    shown = np.resize(np.arange(drawings, dtype=np.int32), math.ceil(replayed / REPLAY))
    mixed = np.concatenate([shown, replay.astype(np.int32)])
    plan = plan_epoch(settings, number, len(mixed), height, width)
    return replace(plan, order=mixed[plan.order])


class Teacher:
    """Fine-tunes the network in use, and holds the result until somebody decides."""

    def __init__(self, workshop: Workshop, collection: Collection) -> None:
        self._workshop, self._collection = workshop, collection
        self._lock = threading.Lock()
        self._lesson: Lesson | None = None
        self._reset("none", "")

    def _reset(self, state: TeachingState, message: str) -> None:
        with self._lock:
            self._state, self._message, self._progress = state, message, 0.0
            self._before: Accuracy | None = None
            self._after: Accuracy | None = None
            self._saved: str | None = None
            self._lesson = None

    def to_dict(self) -> dict[str, Any]:
        """Return what the page shows."""
        with self._lock:
            return {
                "state": self._state,
                "progress": self._progress,
                "message": self._message,
                "before": self._before and self._before.to_dict(),
                "after": self._after and self._after.to_dict(),
                "saved": self._saved,
            }

    def start(self, model: Model) -> None:
        """Begin.

        Raises
        ------
        Refusal
            409, when something is running, or there are too few drawings to learn from.
        """
        images, labels = self._collection.pair(held_out=False)
        if len(labels) < MIN_DRAWINGS:
            raise Refusal(409, f"fine-tuning needs {MIN_DRAWINGS} drawings to learn from; there are {len(labels)}")
        self._workshop.start(
            lambda: self._reset("running", "preparing the kernels (compiled once, then cached)"),
            lambda: self._run(model, images, labels),
            lambda reason: self._reset("failed", reason),
        )

    def _run(self, model: Model, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        try:
            self._teach(model, images, labels)
        except Stopped:
            self._reset("none", "stopped")

    def _teach(self, model: Model, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        saved, dataset, settings = model.saved, model.dataset, lesson_settings(model.saved)
        executor = self._workshop.executor(settings, dataset, saved.description.classes)
        mixture = executor.upload(
            np.concatenate([images, dataset.train_images]), np.concatenate([labels, dataset.train_labels])
        )
        held_out = self._collection.pair(held_out=True)
        executor.write(_start(saved, settings))
        before = _measure(executor, dataset, held_out)
        with self._lock:
            self._before, self._message = before, "learning"
        started = time.perf_counter()
        cost = self._train(executor, settings, mixture, len(labels))
        seconds = time.perf_counter() - started
        state = executor.read()
        if not (math.isfinite(cost) and np.isfinite(state.parameters).all()):
            raise LenetError("the cost is no longer finite; the network in use is unchanged")
        after = _measure(executor, dataset, held_out)
        record = EpochRecord(
            epoch=len(saved.history) + 1,
            learning_rate=settings.training.learning_rate,
            cost=cost,
            train_accuracy=evaluate(
                executor, executor.upload(dataset.train_images, dataset.train_labels), dataset.train_labels
            ).accuracy,
            test_accuracy=after.test,
            seconds=seconds,
        )
        description = replace(
            saved.description,
            settings=settings.override("training", epochs=record.epoch),
            backend=executor.backend.name,
            device=executor.backend.device,
            executor=executor.name,
            versions=versions(),
        )
        origin = {
            "network": str(model.path.resolve()),
            "drawings": {"learned": len(labels), "held_out": len(held_out[1])},
            "before": before.to_dict(),
            "after": after.to_dict(),
        }
        with self._lock:
            self._lesson = Lesson(description, (*saved.history, record), state, origin)
            self._state, self._message, self._progress, self._after = "done", "keep it?", 1.0, after

    def _train(self, executor: Executor, settings: Settings, mixture: Samples, drawings: int) -> float:
        """Train all rounds and return the mean cost of the last one."""
        _, height, width = executor.network.input_shape
        cost = math.nan
        for number in range(1, ROUNDS + 1):
            plan = plan_round(settings, number, drawings, len(mixture) - drawings, height, width)

            def watch(done: int, _cost: float, before: int = number - 1, images: int = len(plan.order)) -> None:
                self._workshop.check()
                self._advance((before + done / images) / ROUNDS)

            cost = executor.train_epoch(mixture, plan, watch)
            self._workshop.check()
            self._advance(number / ROUNDS)
        return cost

    def _advance(self, progress: float) -> None:
        with self._lock:
            self._progress = progress

    def stop(self) -> None:
        """End the fine-tuning that runs, if one does."""
        if self._state == "running":
            self._workshop.stop()

    def keep(self, model: Model) -> Path:
        """Save the result in a new folder and return it.

        Raises
        ------
        Refusal
            409, when there is no result.
        LenetError
            When it cannot be saved; the result is still there.
        """
        with self._lock:
            lesson = self._lesson
            if lesson is None:
                raise Refusal(409, "there is nothing to keep")
            folder = new_folder(f"{model.name.removesuffix('-finetuned')}-finetuned")
            try:
                with locked(folder):  # the origin comes first: no crash leaves a network without it
                    (folder / ORIGIN).write_text(json.dumps(lesson.origin, indent=1) + "\n", encoding="utf-8")
                    storage.save(folder, lesson.description, lesson.history, lesson.state)
            except OSError as error:
                raise LenetError(f"cannot save in {folder}: {error.strerror or error}") from error
            finally:
                remove_unless_saved(folder, ORIGIN)
            self._lesson, self._saved, self._message = None, folder.name, f"saved in {folder.name}"
            return folder

    def discard(self) -> None:
        """Drop the result.

        Raises
        ------
        Refusal
            409, when there is none.
        """
        with self._lock:
            if self._lesson is None:
                raise Refusal(409, "there is nothing to discard")
        self._reset("none", "discarded")


def _start(saved: Saved, settings: Settings) -> State:
    """Return the saved weights, with an optimizer that remembers nothing."""
    moments = np.zeros((settings.training.rule().moments, len(saved.weights)), np.float32)
    return State(saved.weights, moments, saved.weights.copy())


def _measure(executor: Executor, dataset: Dataset, held_out: tuple[NDArray[np.uint8], NDArray[np.int32]]) -> Accuracy:
    """Measure the executor's weights on the test images and on the drawings held out."""

    def share(images: NDArray[np.uint8], labels: NDArray[np.int32]) -> float:
        return evaluate(executor, executor.upload(images, labels), labels).accuracy

    return Accuracy(
        test=share(dataset.test_images, dataset.test_labels), drawings=share(*held_out) if len(held_out[1]) else None
    )
