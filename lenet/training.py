"""A training run: epoch after epoch, evaluated and saved, so that it can stop and go on anywhere."""

import math
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np

from lenet import curves, storage
from lenet.data import Dataset, draw_transforms
from lenet.distillation import Teachers
from lenet.errors import LenetError
from lenet.evaluation import evaluate
from lenet.executors import EpochPlan, Executor, State, Watch
from lenet.info import versions
from lenet.initialize import initialize
from lenet.network import Network
from lenet.optimizers import hyper_table
from lenet.settings import Settings
from lenet.stopping import held_back
from lenet.storage import Description, EpochRecord, Saved
from lenet.streams import Purpose, permutation, stream


def first_state(network: Network, settings: Settings) -> State:
    """Return the state in which training starts: random weights, which are their own average, and no moments."""
    training = settings.training
    parameters = initialize(network, training.initialization, training.seed).astype(np.float32)
    moments = np.zeros((training.rule().moments, network.size), np.float32)
    return State(parameters, moments, parameters.copy() if training.average else None)


def describe(settings: Settings, dataset: Dataset, executor: Executor) -> Description:
    """Describe a run that is about to begin."""
    return Description(
        settings=settings,
        height=dataset.height,
        width=dataset.width,
        classes=dataset.classes,
        dataset=dataset.name,
        dataset_source=str(dataset.source.resolve()) if dataset.source else None,
        dataset_sha256=dataset.sha256,
        train_images=len(dataset.train_labels),
        validation_images=len(dataset.validation_labels),
        backend=executor.backend.name,
        device=executor.backend.device,
        executor=executor.name,
        versions=versions(),
    )


def plan_epoch(settings: Settings, epoch: int, count: int, height: int, width: int) -> EpochPlan:
    """Draw up ``epoch``, counted from 1: order and distortion of ``count`` images, and the step sizes."""
    training = settings.training
    steps = math.ceil(count / training.batch_size)
    return EpochPlan(
        order=permutation(stream(training.seed, Purpose.ORDER, epoch), count),
        transforms=draw_transforms(settings.distortion, training.seed, epoch, count, height, width),
        hyper=hyper_table(
            training.rule(),
            training.schedule,
            peak=training.learning_rate,
            warmup=training.warmup,
            average=training.average,
            first=(epoch - 1) * steps,
            count=steps,
            total=training.epochs * steps,
        ),
        batch_size=training.batch_size,
    )


def train(
    executor: Executor,
    dataset: Dataset,
    path: Path,
    description: Description,
    *,
    resume: Saved | None = None,
    teachers: Teachers | None = None,
    watch: Watch | None = None,
) -> Generator[EpochRecord, None, None]:
    """Train, and yield each epoch once it is saved in ``path``.

    Whatever ends the run, Ctrl-C included, ``path`` holds the last whole epoch; before the first one ends, nothing is
    written. ``resume`` continues a saved run, to the same bits as if it had never stopped. With ``teachers`` the
    network learns their answers instead of the labels.

    Raises
    ------
    LenetError
        When the cost is no longer finite, or the folder cannot be written.
    """
    settings = description.settings
    train_samples = executor.upload(dataset.train_images, dataset.train_labels)
    test_samples = executor.upload(dataset.test_images, dataset.test_labels)
    validation_samples = executor.upload(dataset.validation_images, dataset.validation_labels)

    history = resume.history if resume else ()
    state = resume.state if resume and resume.state else first_state(executor.network, settings)
    executor.write(state)
    reached, before = (history, state), len(history)  # one assignment: Ctrl-C never parts a history from its state

    def save(picture: bytes | None) -> None:
        history, state = reached
        weights = teachers.sharpened(state.weights) if teachers else None
        storage.save(path, description, history, state, weights=weights, curves=picture)

    try:
        for epoch in range(before + 1, settings.training.epochs + 1):
            started = time.perf_counter()
            plan = plan_epoch(settings, epoch, len(train_samples), dataset.height, dataset.width)
            if teachers:
                plan = replace(plan, targets=teachers.targets(train_samples, plan))
            cost = executor.train_epoch(train_samples, plan, watch)
            seconds = time.perf_counter() - started
            state = executor.read()
            if not (math.isfinite(cost) and np.isfinite(state.parameters).all()):
                raise LenetError(_diverged(epoch, settings, path))
            held_out = len(validation_samples) > 0
            record = EpochRecord(
                epoch=epoch,
                learning_rate=float(plan.hyper[-1, 0]),
                cost=cost,
                train_accuracy=evaluate(executor, train_samples, dataset.train_labels).accuracy,
                test_accuracy=evaluate(executor, test_samples, dataset.test_labels).accuracy,
                seconds=seconds,
                validation_accuracy=(
                    evaluate(executor, validation_samples, dataset.validation_labels).accuracy if held_out else None
                ),
            )
            reached = ((*reached[0], record), state)
            save(None)
            yield record
    finally:
        if len(reached[0]) > before:
            with held_back():  # a library whose import is broken off cannot be imported again
                save(curves.draw(reached[0]))


def _diverged(epoch: int, settings: Settings, path: Path) -> str:
    kept = f"{path} keeps the network of epoch {epoch - 1}" if epoch > 1 else "nothing was written"
    return (
        f"the cost is no longer finite in epoch {epoch}; {kept}. "
        f"Try a learning rate below {settings.training.learning_rate:g} (--lr)"
    )


def on_plateau(record: EpochRecord, classes: int) -> bool:
    """Whether the network still answers hardly better than by chance: a start that may never leave the plateau."""
    return record.train_accuracy < 1.5 / classes
