"""Distillation: what teachers answer, that a student learns it, and that their runs are kept, found and refused."""

import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_cli import digest, lenet, make_data, one_line
from test_training import SETTINGS, bars, describe, executor_for

from lenet import backends, storage
from lenet.backends import Backend
from lenet.distillation import Teachers, find_teacher, teacher_description, teacher_folder
from lenet.errors import LenetError
from lenet.executors import EagerExecutor, EpochPlan, State, choose
from lenet.initialize import initialize
from lenet.lenet5 import lenet5
from lenet.settings import DistillationSettings, NetworkSettings, Settings, load, recipes
from lenet.sweep.definition import parse
from lenet.training import train

__all__ = ["bars"]  # the fixture

CLASSES, COUNT = 3, 40
NETWORK = lenet5(NetworkSettings((2, 3), (8, 6), "relu", "max", "full"), 16, 16, CLASSES)
HYPER = np.array([[0.05, 0.1, 0.001, 0.0]])


def weights(seed: int) -> NDArray[np.float32]:
    return (2 * initialize(NETWORK, "glorot", seed)).astype(np.float32)


def pictures() -> NDArray[np.uint8]:
    """Draw noise with a margin, which a shift by three pixels moves and does not cut."""
    images = np.zeros((COUNT, 16, 16), np.uint8)
    images[:, 3:13, 3:13] = np.random.Generator(np.random.Philox(8)).integers(0, 256, (COUNT, 10, 10))
    return images


def shares(logits: NDArray[Any], temperature: float) -> list[list[float]]:
    """Return the softmax of each row of logits / temperature, number by number."""
    rows = []
    for row in logits.tolist():
        powers = [math.exp((value - max(row)) / temperature) for value in row]
        rows.append([power / math.fsum(powers) for power in powers])
    return rows


# what teachers answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_target_is_the_mean_softmax_of_the_images_as_they_are_distorted(
    backend: Backend, temperature: float
) -> None:
    """Shifts by whole pixels distort exactly: the same answers must come from images that were moved by hand."""
    random = np.random.Generator(np.random.Philox(9))
    order = random.permutation(COUNT).astype(np.int32)
    right, down = random.integers(-3, 4, (2, COUNT))
    transforms = np.tile(np.eye(2, 3, dtype=np.float32), (COUNT, 1, 1))
    transforms[:, 0, 2], transforms[:, 1, 2] = -right, -down
    moved = np.stack([np.roll(pictures()[i], (y, x), (0, 1)) for i, x, y in zip(order, right, down, strict=True)])
    wanted = []
    for seed in (1, 2, 3):
        alone = EagerExecutor(NETWORK, backends.get("numpy", dtype=np.float64))
        alone.write(State.of(weights(seed)))
        wanted.append(shares(alone.predict(moved), temperature))

    teachers = Teachers(NETWORK, backend, [weights(seed) for seed in (1, 2, 3)], temperature)
    executor = choose(NETWORK, backend)
    samples = executor.upload(pictures(), np.zeros(COUNT, np.int32))
    targets = teachers.targets(samples, EpochPlan(order, transforms, HYPER, COUNT))
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, np.mean(wanted, axis=0), atol=1e-5)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(targets, axis=0).min() > 0.05  # they do not answer everything the same


def test_a_sharpened_network_multiplies_its_logits_by_the_temperature() -> None:
    backend = backends.get("numpy")
    teachers = Teachers(NETWORK, backend, [weights(1)], 4.0)
    executor = choose(NETWORK, backend)
    before = weights(5)
    logits = []
    for each in (before, teachers.sharpened(before)):
        executor.write(State.of(each))
        logits.append(executor.predict(pictures()))
    np.testing.assert_allclose(logits[1], 4 * logits[0], rtol=1e-5)
    np.testing.assert_array_equal(before, weights(5))  # it is a copy


# what a student learns -----------------------------------------------------------------------------------------------


def test_a_student_learns_what_its_teachers_answer_and_not_the_labels(bars: Any, tmp_path: Path) -> None:
    """The teacher was taught wrong labels. As sure as the teacher is the student that is saved."""
    settings = SETTINGS.override("training", epochs=30, seed=3)
    wrong = replace(bars, train_labels=(bars.train_labels + 1) % 3, test_labels=(bars.test_labels + 1) % 3)
    for _ in train(executor_for(settings, wrong), wrong, tmp_path / "teacher", describe(settings, wrong)):
        pass
    taught = storage.load(tmp_path / "teacher")
    executor = executor_for(settings, bars)
    teachers = Teachers(taught.network, executor.backend, [taught.weights], 3.0)
    last = list(train(executor, bars, tmp_path / "student", describe(settings, bars), teachers=teachers))[-1]
    assert last.test_accuracy < 0.1  # by the labels that it never saw
    student = storage.load(tmp_path / "student")
    confidence = []
    for saved in (taught, student):
        answering = choose(saved.network, backends.get("numpy"))
        answering.write(State.of(saved.weights))
        logits = answering.predict(bars.test_images)
        assert (logits.argmax(axis=1) == wrong.test_labels).mean() > 0.9
        confidence.append(np.max(shares(logits, 1.0), axis=1).mean())
    assert confidence[1] == pytest.approx(confidence[0], abs=0.05)


def test_a_resumed_student_has_the_same_bits(bars: Any, tmp_path: Path) -> None:
    executor = executor_for(SETTINGS, bars)
    teachers = Teachers(executor.network, executor.backend, [initialize(executor.network, "glorot", 4)], 4.0)
    description = describe(SETTINGS, bars)
    for _ in train(executor, bars, tmp_path / "whole", description, teachers=teachers):
        pass
    running = train(executor, bars, tmp_path / "parts", description, teachers=teachers)
    for record in running:
        if record.epoch == 2:
            running.close()
    saved = storage.load(tmp_path / "parts", with_state=True)
    for _ in train(executor, bars, tmp_path / "parts", description, teachers=teachers, resume=saved):
        pass
    whole, parts = digest(tmp_path / "whole"), digest(tmp_path / "parts")
    arrays = [name for name in whole if name.endswith(".npy")]
    assert {name: whole[name] for name in arrays} == {name: parts[name] for name in arrays}


# whose teachers they are ---------------------------------------------------------------------------------------------

TAUGHT = replace(SETTINGS, distillation=DistillationSettings(teachers=2))


def test_teachers_have_seeds_of_their_own_and_learn_from_labels(bars: Any) -> None:
    seeds = set()
    for seed in (0, 1, 2, 2**63 - 1):
        student = describe(TAUGHT.override("training", seed=seed), bars)
        for number in range(1, 101):
            settings = teacher_description(student, number).settings
            assert settings.distillation.teachers == 0
            assert settings.override("training", seed=1) == SETTINGS
            seeds.add(settings.training.seed)
    assert len(seeds) == 400


def test_a_teacher_is_found_by_its_settings_and_data(bars: Any, tmp_path: Path) -> None:
    student = describe(TAUGHT, bars)
    assert find_teacher(tmp_path, 2, student, resumed=False) is None
    own = teacher_description(student, 2)
    for _ in train(executor_for(own.settings, bars), bars, teacher_folder(tmp_path, 2), own):
        pass
    found = find_teacher(tmp_path, 2, student, resumed=False)
    assert found is not None
    assert len(found.history) == SETTINGS.training.epochs

    longer = replace(student, settings=TAUGHT.override("training", epochs=9))
    assert find_teacher(tmp_path, 2, longer, resumed=True) is not None  # more epochs for the student alone
    strangers = [
        (2, longer),
        (1, student),
        (2, replace(student, settings=TAUGHT.override("training", seed=2))),
        (2, replace(student, settings=TAUGHT.override("distortion", shift=1.0))),
        (2, replace(student, dataset_sha256={"images": "other"})),
        (2, replace(student, validation_images=7)),
    ]
    teacher_folder(tmp_path, 2).rename(tmp_path / "kept")
    for number, stranger in strangers:
        shutil.copytree(tmp_path / "kept", teacher_folder(tmp_path, number), dirs_exist_ok=True)
        with pytest.raises(LenetError, match="holds no teacher of this network"):
            find_teacher(tmp_path, number, stranger, resumed=False)


# as a user runs it ---------------------------------------------------------------------------------------------------

FILE = """
[network]
maps = [2, 3]
dense = [8, 6]
table = "full"
[training]
epochs = 20
batch_size = 16
warmup = 0
average = 0.9
[distillation]
teachers = 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distillation")
    make_data(folder / "data")
    (folder / "taught.toml").write_text(FILE)
    return folder


@pytest.fixture(scope="module")
def options(place: Path) -> tuple[str, ...]:
    return "--data", str(place / "data"), "--backend", "numpy", "--settings", str(place / "taught.toml")


@pytest.fixture(scope="module")
def whole(place: Path, options: tuple[str, ...]) -> Path:
    result = lenet("train", "--path", place / "whole", *options)
    assert result.returncode == 0, result.stderr
    assert "2 teachers" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("teacher")]
    assert [line.split("·")[0].strip() for line in lines] == ["teacher   1 of 2", "teacher   2 of 2"]
    return place / "whole"


def arrays(folder: Path) -> dict[str, str]:
    return {name: content for name, content in digest(folder).items() if name.endswith(".npy")}


def test_teachers_are_networks_like_any_other(whole: Path, place: Path) -> None:
    for number in (1, 2):
        result = lenet("test", "--path", teacher_folder(whole, number), "--data", place / "data", "--json")
        assert result.returncode == 0, result.stderr
        settings = json.loads((teacher_folder(whole, number) / "network.json").read_text())["settings"]
        assert settings["training"]["seed"] == 1000 + number
        assert settings["distillation"]["teachers"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_among_the_teachers_the_same_command_goes_on(
    whole: Path, tmp_path: Path, options: tuple[str, ...], number: int
) -> None:
    path = tmp_path / "parts"
    command = [sys.executable, "-u", "-m", "lenet", "train", "--path", str(path), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(number)
        rest = process.stderr.read()
        code = process.wait(60)
    assert first.startswith("teacher   1 of 2 · 20 epochs · ")
    if number == signal.SIGINT:
        assert code == 130
        assert "Traceback" not in rest
        assert "Stopped." in rest
    shutil.rmtree(teacher_folder(path, 2), ignore_errors=True)  # it may have gone further than that meanwhile
    shutil.rmtree(path / "checkpoint", ignore_errors=True)
    for file in path.glob("*.*"):
        file.unlink()
    result = lenet("train", "--path", path, *options)
    assert result.returncode == 0, result.stderr
    assert "teacher   1 of 2 · 20 epochs" in result.stderr
    assert "· found" in result.stderr
    assert arrays(path) == arrays(whole)


def test_a_resumed_run_finds_its_teachers(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "more")
    result = lenet("train", "--resume", "--path", tmp_path / "more", "--epochs", "22")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("· found") == 2
    assert len((tmp_path / "more" / "history.csv").read_text().splitlines()) == 23
    assert arrays(tmp_path / "more" / "teachers") == arrays(whole / "teachers")


def test_teachers_of_another_run_are_not_used(whole: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "other"
    shutil.copytree(whole / "teachers", path / "teachers")
    before = digest(path)
    result = lenet("train", "--path", path, "--seed", "2", *options)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"Error: {path}/teachers/1 holds no teacher of this network; --overwrite replaces it"
    ]
    assert digest(path) == before
    result = lenet("train", "--path", path, "--seed", "2", "--overwrite", *options)
    assert result.returncode == 0, result.stderr
    assert "found" not in result.stderr
    settings = json.loads((path / "teachers" / "1" / "network.json").read_text())["settings"]
    assert settings["training"]["seed"] == 2001


def test_a_sweep_trains_no_teachers(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    sweep = f'recipe = "{place / "taught.toml"}"\ntrials = 2\n[space.training]\nbatch_size = [16, 32]\n'
    assert parse(sweep, "mine").start == replace(load(str(place / "taught.toml")), distillation=DistillationSettings())
    file.write_text("trials = 2\n[space.distillation]\nteachers = [1, 2]\n")
    assert "distillation" in one_line(lenet("sweep", file, "--path", tmp_path / "out"), 2)


def test_best_has_teachers_and_the_other_recipes_none() -> None:
    assert {name for name in recipes() if load(name).distillation.teachers} == {"best"}
    assert Settings().distillation.teachers == 0
