"""The saved network: what is written is read, no crash spoils it, no damage is believed."""

import builtins
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet import storage
from lenet.errors import LenetError
from lenet.executors import State
from lenet.settings import Settings
from lenet.storage import Description, EpochRecord, Saved

DESCRIPTION = Description(
    settings=Settings().override("network", maps=(2, 3), table="full", dense=(5, 4)),
    height=16,
    width=20,
    classes=3,
    dataset="mine",
    dataset_source="/somewhere/mine",
    dataset_sha256={"train-images-idx3-ubyte": "0" * 64},
    train_images=100,
    validation_images=0,
    backend="numpy",
    device="cpu",
    executor="eager",
    versions={"lenet": "0.0.0"},
)


def state(fill: float, average: bool = True) -> State:
    size = DESCRIPTION.network().size
    parameters = np.full(size, fill, np.float32) + np.arange(size, dtype=np.float32) / size
    return State(parameters, np.full((2, size), fill / 2, np.float32), parameters + 1 if average else None)


def record(epoch: int) -> EpochRecord:
    return EpochRecord(epoch, 0.01, 1 / (epoch + 2), 0.1 * epoch, 1 / 3, 1.25)


def history(epochs: int) -> tuple[EpochRecord, ...]:
    return tuple(record(epoch) for epoch in range(1, epochs + 1))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    storage.save(tmp_path / "net", DESCRIPTION, history(2), state(1.0), curves=b"a picture")
    return tmp_path / "net"


def same(found: Saved, epochs: int, fill: float) -> bool:
    return found.history == history(epochs) and np.array_equal(found.weights, state(fill).weights)


def test_round_trip(saved: Path) -> None:
    found = storage.load(saved, with_state=True)
    assert found.description == DESCRIPTION
    assert same(found, 2, 1.0)
    assert found.state is not None
    expected = state(1.0)
    np.testing.assert_array_equal(found.state.parameters, expected.parameters)
    np.testing.assert_array_equal(found.state.moments, expected.moments)
    np.testing.assert_array_equal(found.state.average, expected.average)
    assert storage.load(saved).state is None


def test_the_files_are_what_the_documents_say(saved: Path) -> None:
    assert (saved / "history.csv").read_text().splitlines() == [
        "epoch,learning_rate,cost,train_accuracy,test_accuracy,seconds",
        "1,0.01,0.3333333333333333,0.1,0.3333333333333333,1.25",
        "2,0.01,0.25,0.2,0.3333333333333333,1.25",
    ]
    weight = np.load(saved / "C3.weight.npy", allow_pickle=False)
    assert weight.shape == (6, 5, 5)
    assert weight.dtype == np.float32
    document = json.loads((saved / "network.json").read_text())
    assert document["format"] == 1
    assert {"parameter": "C3.weight", "shape": [6, 5, 5], "dtype": "float32"} in document["layers"]
    assert not list(saved.glob(".*"))


def test_validation_is_a_column_where_there_is_one(tmp_path: Path) -> None:
    records = [replace(record(1), validation_accuracy=0.5)]
    storage.save(tmp_path, DESCRIPTION, records, state(1.0))
    assert (tmp_path / "history.csv").read_text().splitlines()[0].endswith(",validation_accuracy")
    assert storage.load(tmp_path).history == tuple(records)


def test_a_later_save_drops_what_is_no_longer_true(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    storage.save(saved, DESCRIPTION, history(3), state(2.0, average=False))
    assert not (saved / "curves.png").exists()
    assert not (saved / "checkpoint" / "average.npy").exists()
    assert (saved / "notes.txt").read_text() == "mine"
    np.testing.assert_array_equal(storage.load(saved).weights, state(2.0).parameters)


class Crash(Exception):
    """Stands for the process dying: nothing of the code under test catches it."""


@contextmanager
def crash_at(step: int, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> Iterator[list[int]]:
    """Raise at the given call, and at every later one, of anything that changes the disk."""
    calls = [0]

    def counted(function: Any, mutates: Any = lambda *a, **k: True) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if mutates(*args, **kwargs):
                calls[0] += 1
                if calls[0] >= step:
                    raise error(28, "No space left on device")
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        writes = lambda file, mode="r", *a, **k: "w" in mode  # noqa: E731
        patch.setattr("io.open", counted(builtins.open, writes))
        yield calls


@pytest.mark.parametrize("error", [Crash, OSError])
def test_a_crash_at_any_moment_leaves_the_old_network_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what is tested is the order of things, not the disk
    outcomes = set()
    for step in range(1, 200):
        path = tmp_path / str(step)
        storage.save(path, DESCRIPTION, history(2), state(1.0), curves=b"old")
        with crash_at(step, monkeypatch, error) as calls:
            with suppress(Crash, LenetError):
                storage.save(path, DESCRIPTION, history(3), state(2.0))
            finished = calls[0] < step
        found = storage.load(path, with_state=True)
        is_old, is_new = same(found, 2, 1.0), same(found, 3, 2.0)
        assert is_old or is_new, step
        outcomes.add(is_new)
        storage.save(path, DESCRIPTION, history(4), state(3.0), curves=b"newest")
        assert same(storage.load(path), 4, 3.0)
        assert (path / "curves.png").read_bytes() == b"newest"
        assert not list(path.glob(".*")), step
        if finished:
            break
    else:
        pytest.fail("the save never finished")
    assert step > 30
    assert outcomes == {False, True}


def test_a_crash_in_the_first_save_leaves_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with crash_at(5, monkeypatch, OSError), pytest.raises(LenetError, match=r"cannot save in .*: No space left"):
        storage.save(tmp_path / "net", DESCRIPTION, history(1), state(1.0))
    assert not storage.is_network(tmp_path / "net")
    with pytest.raises(LenetError, match="no network in"):
        storage.load(tmp_path / "net")


def fault(path: Path, **options: bool) -> str:
    with pytest.raises(LenetError) as caught:
        storage.load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_network(tmp_path: Path) -> None:
    assert "lenet train --path" in fault(tmp_path)


@pytest.mark.parametrize("name", ["C1.weight.npy", "output.bias.npy", "history.csv", "network.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "folder", "huge"])
def test_damage_is_found_and_named(saved: Path, name: str, damage: str) -> None:
    file = saved / name
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage == "flip":
        content[-3] ^= 0x40
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes({"flip": content, "cut": content[:-5], "empty": b"", "huge": content + bytes(1 << 20)}[damage])
    assert name in fault(saved)


def test_a_missing_file_is_named(saved: Path) -> None:
    (saved / "F6.weight.npy").unlink()
    assert "F6.weight.npy is missing" in fault(saved)


def test_a_missing_checkpoint_stops_only_resuming(saved: Path) -> None:
    shutil.rmtree(saved / "checkpoint")
    assert same(storage.load(saved), 2, 1.0)
    assert "checkpoint" in fault(saved, with_state=True)


def forge(path: Path, name: str, array: np.ndarray, allow_pickle: bool = False) -> None:
    """Replace an array, checksum included, as one who means it would."""
    import hashlib

    np.save(path / name, array, allow_pickle=allow_pickle)
    file = path / "network.json"
    document = json.loads(file.read_text())
    document["sha256"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((6, 5, 4), np.float32), r"float32 \(6, 5, 4\), the network has float32 \(6, 5, 5\)"),
        (np.zeros((6, 5, 5), np.float64), "holds float64"),
        (np.full((6, 5, 5), np.nan, np.float32), "not finite"),
        (np.full((6, 5, 5), np.inf, np.float32), "not finite"),
    ],
)
def test_arrays_that_do_not_fit(saved: Path, array: np.ndarray, message: str) -> None:
    forge(saved, "C3.weight.npy", array)
    with pytest.raises(LenetError, match=message):
        storage.load(saved)


def test_a_pickle_is_never_loaded(saved: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(saved / "owned"),)

    forge(saved, "C3.bias.npy", np.array([Evil(), 0, 0], dtype=object), allow_pickle=True)
    assert "C3.bias.npy" in fault(saved)
    assert not (saved / "owned").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "reads format 1"),
        ({"sha256": None}, "describes no network"),
        ({"height": "tall"}, "height cannot be 'tall'"),
        ({"width": 18}, "multiples of 4"),
        ({"classes": 1 << 40}, "classes cannot be"),
        ({"height": 1 << 20}, "1048576 x 20 pixels"),
        ({"settings": {"network": {"maps": [0, 3]}}}, "maps must be a whole number"),
        ({"settings": [1]}, "network.json"),
        ({"versions": 3}, "versions cannot be 3"),
        ({"dataset": None}, "dataset cannot be None"),
    ],
)
def test_a_description_that_makes_no_sense(saved: Path, change: dict[str, Any], message: str) -> None:
    file = saved / "network.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert message in fault(saved)


def test_a_description_that_lacks_something(saved: Path) -> None:
    file = saved / "network.json"
    whole = json.loads(file.read_text())
    for key in set(whole) - {"layers", "result", "preprocessing"}:
        file.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        assert "network.json" in fault(saved)


def test_loading_writes_nothing(saved: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in [saved, *saved.rglob("*")]}
    storage.load(saved, with_state=True)
    assert before == {file: file.stat().st_mtime_ns for file in [saved, *saved.rglob("*")]}
