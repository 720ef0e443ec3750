"""The training run: its plan, that it learns, stops, resumes and refuses to diverge."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lenet import storage
from lenet.backends import get
from lenet.data import Dataset
from lenet.errors import LenetError
from lenet.executors import Executor, choose
from lenet.lenet5 import lenet5
from lenet.settings import Settings
from lenet.storage import Description, EpochRecord
from lenet.streams import Purpose, permutation, stream
from lenet.training import first_state, on_plateau, plan_epoch, train

SETTINGS = (
    Settings()
    .override("network", maps=(2, 3), dense=(8, 6), activation="tanh", table="full")
    .override("training", epochs=4, batch_size=16, warmup=0, average=0.9)
)


@pytest.fixture(scope="module")
def bars() -> Dataset:
    """Three classes of 16 x 16 images, a bar each: horizontal, vertical, diagonal, somewhere, with noise."""
    rng = np.random.default_rng(7)

    def some(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count, dtype=np.int32) % 3
        images = rng.integers(0, 40, (count, 16, 16), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            at = rng.integers(5, 11)
            line = np.arange(3, 13)
            rows = line if label else np.full(10, at)
            columns = np.full(10, at) if label == 1 else line
            image[rows, columns] = 255
        return images, labels

    train_images, train_labels = some(100)
    test_images, test_labels = some(30)
    none = np.zeros((0, 16, 16), np.uint8), np.zeros(0, np.int32)
    return Dataset(
        name="bars",
        source=None,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        validation_images=none[0],
        validation_labels=none[1],
        sha256={},
    )


def executor_for(settings: Settings, dataset: Dataset) -> Executor:
    network = lenet5(settings.network, dataset.height, dataset.width, dataset.classes)
    return choose(network, get("numpy"), settings.training.rule(), averaging=settings.training.average > 0)


def describe(settings: Settings, dataset: Dataset) -> Description:
    return Description(
        settings=settings,
        height=dataset.height,
        width=dataset.width,
        classes=dataset.classes,
        dataset=dataset.name,
        dataset_source=None,
        dataset_sha256=dataset.sha256,
        train_images=len(dataset.train_labels),
        validation_images=len(dataset.validation_labels),
        backend="numpy",
        device="cpu",
        executor="eager",
        versions={},
    )


def run(settings: Settings, dataset: Dataset, path: Path, epochs: int | None = None) -> list[EpochRecord]:
    """Train; stop, as Ctrl-C would, once ``epochs`` are done."""
    records = []
    running = train(executor_for(settings, dataset), dataset, path, describe(settings, dataset))
    for record in running:
        records.append(record)
        if record.epoch == epochs:
            running.close()
    return records


def test_plan_has_its_own_order_and_distortions_every_epoch() -> None:
    first, second = (plan_epoch(SETTINGS, epoch, 100, 16, 16) for epoch in (1, 2))
    assert sorted(first.order) == list(range(100))
    np.testing.assert_array_equal(first.order, permutation(stream(1, Purpose.ORDER, 1), 100))
    assert (first.order != second.order).any()
    assert first.transforms is not None
    assert second.transforms is not None
    assert (first.transforms != second.transforms).any()
    assert first.steps == len(first.hyper) == math.ceil(100 / 16)
    assert first.hyper[-1, 1] == pytest.approx(1 - 0.9**7)
    assert second.hyper[0, 1] == pytest.approx(1 - 0.9**8)


def test_start_is_its_own_average() -> None:
    network = lenet5(SETTINGS.network, 16, 16, 3)
    state = first_state(network, SETTINGS)
    assert state.average is not None
    np.testing.assert_array_equal(state.parameters, state.average)
    assert state.moments.shape == (2, network.size)
    assert not state.moments.any()
    assert first_state(network, SETTINGS.override("training", average=0.0)).average is None


def test_it_learns(bars: Dataset, tmp_path: Path) -> None:
    settings = SETTINGS.override("training", epochs=30).override("distortion", shift=1.0, zoom=0.0, rotation=0.0)
    records = run(settings, bars, tmp_path)
    assert records[-1].cost < 0.5 * records[0].cost
    assert records[-1].test_accuracy >= 0.9
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert storage.load(tmp_path).history == tuple(records)


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "gd"])
def test_a_resumed_run_has_the_same_bits(bars: Dataset, tmp_path: Path, stop: int, optimizer: str) -> None:
    settings = SETTINGS.override("training", optimizer=optimizer, schedule="one_cycle")
    run(settings, bars, tmp_path / "whole")
    run(settings, bars, tmp_path / "parts", epochs=stop)
    half = storage.load(tmp_path / "parts", with_state=True)
    assert len(half.history) == stop
    rest = list(train(executor_for(settings, bars), bars, tmp_path / "parts", describe(settings, bars), resume=half))
    assert [record.epoch for record in rest] == list(range(stop + 1, 5))
    whole, parts = (storage.load(tmp_path / name, with_state=True) for name in ("whole", "parts"))
    assert whole.state is not None
    assert parts.state is not None
    np.testing.assert_array_equal(whole.weights, parts.weights)
    np.testing.assert_array_equal(whole.state.parameters, parts.state.parameters)
    np.testing.assert_array_equal(whole.state.moments, parts.state.moments)
    assert [replace(record, seconds=0) for record in whole.history] == [
        replace(record, seconds=0) for record in parts.history
    ]


def test_validation_images_are_evaluated_and_not_trained_on(bars: Dataset, tmp_path: Path) -> None:
    held = replace(
        bars,
        validation_images=bars.train_images[:10],
        validation_labels=bars.train_labels[:10],
        train_images=bars.train_images[10:],
        train_labels=bars.train_labels[10:],
    )
    records = run(SETTINGS, held, tmp_path, epochs=1)
    assert records[0].validation_accuracy is not None
    assert "validation_accuracy" in (tmp_path / "history.csv").read_text().splitlines()[0]


def test_an_infinite_cost_ends_the_run_and_writes_nothing(bars: Dataset, tmp_path: Path) -> None:
    settings = SETTINGS.override("network", activation="relu").override("training", optimizer="gd", learning_rate=1e30)
    with np.errstate(all="ignore"), pytest.raises(LenetError, match="no longer finite in epoch 1; nothing was written"):
        run(settings, bars, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_divergence_keeps_the_last_good_epoch(bars: Dataset, tmp_path: Path) -> None:
    run(SETTINGS, bars, tmp_path, epochs=1)
    good = storage.load(tmp_path, with_state=True)
    wild = SETTINGS.override("network", activation="relu").override("training", optimizer="gd", learning_rate=1e30)
    executor = executor_for(wild, bars)
    state = first_state(executor.network, wild)
    resumed = replace(good, state=state)
    with np.errstate(all="ignore"), pytest.raises(LenetError, match="keeps the network of epoch 1"):
        list(train(executor, bars, tmp_path, describe(wild, bars), resume=resumed))
    np.testing.assert_array_equal(storage.load(tmp_path).weights, good.weights)


def first(dataset: Dataset, images: int, classes: int = 3) -> Dataset:
    """Return a smaller data set, of fewer classes."""
    train, test = (labels < classes for labels in (dataset.train_labels, dataset.test_labels))
    return replace(
        dataset,
        train_images=dataset.train_images[train][:images],
        train_labels=dataset.train_labels[train][:images],
        test_images=dataset.test_images[test],
        test_labels=dataset.test_labels[test],
    )


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("images", "classes", "batch_size"),
    [(1, 1, 1), (1, 1, 16), (30, 1, 16), (30, 3, 1), (30, 3, 1_000_000), (17, 3, 16)],
    ids=["one image", "one image in a large batch", "one class", "batch 1", "batch larger than the data", "16 and 1"],
)
def test_extreme_data_is_learned(
    bars: Dataset, tmp_path: Path, backend: str, images: int, classes: int, batch_size: int
) -> None:
    """One network learns whatever is there: the cost falls, and everything is finite."""
    data = first(bars, images, classes)
    settings = SETTINGS.override("training", epochs=12, batch_size=batch_size, learning_rate=0.003)
    settings = settings.override("distortion", shift=0.0, zoom=0.0, rotation=0.0)
    network = lenet5(settings.network, data.height, data.width, data.classes)
    executor = choose(network, get(backend), settings.training.rule(), averaging=True)
    records = list(train(executor, data, tmp_path, describe(settings, data)))
    assert len(records) == 12
    assert 0 < records[-1].cost < records[0].cost
    assert storage.load(tmp_path, with_state=True).history == tuple(records)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "gd"])
@pytest.mark.parametrize("rate", [1e3, 1e38])
def test_an_extreme_rate_ends_well_or_is_refused_clearly(
    bars: Dataset, tmp_path: Path, backend: str, optimizer: str, rate: float
) -> None:
    settings = SETTINGS.override("training", optimizer=optimizer, learning_rate=rate)
    network = lenet5(settings.network, bars.height, bars.width, bars.classes)
    executor = choose(network, get(backend), settings.training.rule(), averaging=True)
    records, said = [], ""
    try:
        with np.errstate(all="ignore"):
            for record in train(executor, bars, tmp_path / "net", describe(settings, bars)):
                records.append(record)
    except LenetError as error:
        said = str(error)
    if len(records) < settings.training.epochs:
        assert f"the cost is no longer finite in epoch {len(records) + 1}" in said
        assert "(--lr)" in said
    assert (tmp_path / "net").exists() == bool(records)
    if records:
        assert storage.load(tmp_path / "net", with_state=True).history == tuple(records)


def test_plateau() -> None:
    stuck = EpochRecord(1, 0.01, 2.3, train_accuracy=0.112, test_accuracy=0.11, seconds=1.0)
    assert on_plateau(stuck, classes=10)
    assert not on_plateau(replace(stuck, train_accuracy=0.3), classes=10)
    assert not on_plateau(replace(stuck, train_accuracy=0.9), classes=2)
