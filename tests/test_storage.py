"""The saved network: what is written is read, no crash spoils it, no damage is believed."""

import builtins
import hashlib
import json
import os
import shutil
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain, repeat
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


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read damaged folders again at once: no writer is going to mend them."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


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
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # counted, but not waited for
    storage.save(tmp_path / "old", DESCRIPTION, history(2), state(1.0), curves=b"old")
    outcomes = set()
    for step in range(1, 200):
        path = shutil.copytree(tmp_path / "old", tmp_path / str(step))
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


def test_a_full_disk_is_not_filled_further(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls = sorted(saved.rglob("*")), []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(LenetError, match="No space left"):
        storage.save(saved, DESCRIPTION, history(3), state(2.0))
    assert sorted(saved.rglob("*")) == before


def test_everything_is_on_disk_before_it_counts(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[int | str] = []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(descriptor: int) -> None:
        events.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def recorded_rename(source: Path, target: Path) -> None:
        written = [source, *source.rglob("*")]
        assert len(written) > 15
        assert {path.stat().st_ino for path in written} <= set(events)
        events.append("renamed")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    storage.save(saved, DESCRIPTION, history(3), state(2.0))
    after = events[events.index("renamed") + 1 :]
    assert after[0] == saved.stat().st_ino
    assert {saved.stat().st_ino, (saved / "checkpoint").stat().st_ino} <= set(after[1:])


def test_a_reader_that_meets_a_writer_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    storage.save(tmp_path / "old", DESCRIPTION, history(2), state(1.0))
    really_open = Path.open
    for moment in range(1, 16):  # before each of the 15 files is opened
        path = shutil.copytree(tmp_path / "old", tmp_path / str(moment))
        saves = chain(repeat(False, moment - 1), [True], repeat(False))

        def interrupted(file: Path, mode: str, folder: Path = path, saves: Iterator[bool] = saves) -> Any:
            if mode == "rb" and next(saves):
                storage.save(folder, DESCRIPTION, history(3), state(2.0))
            return really_open(file, mode)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", interrupted)
            found = storage.load(path, with_state=True)
        assert same(found, 3, 2.0)
        assert found.state is not None
        np.testing.assert_array_equal(found.state.weights, found.weights)


def test_a_damaged_leftover_does_not_stop_the_next_save(saved: Path) -> None:
    (saved / ".commit").mkdir()
    (saved / ".commit" / "network.json").write_text("{")
    assert "network.json" in fault(saved)
    storage.save(saved, DESCRIPTION, history(3), state(2.0))
    assert same(storage.load(saved), 3, 2.0)


def test_doubles_are_saved_as_floats(tmp_path: Path) -> None:
    exact = state(1.0)
    doubles = State(exact.parameters.astype(float), exact.moments.astype(float), exact.weights.astype(float))
    storage.save(tmp_path, DESCRIPTION, history(2), doubles)
    assert same(storage.load(tmp_path, with_state=True), 2, 1.0)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(LenetError, match="cannot save in"):
            storage.save(path, DESCRIPTION, history(1), state(1.0))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_may_not_be_looked_into(saved: Path) -> None:
    saved.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # who may look into everything
            os.seteuid(65534)
        with pytest.raises(LenetError, match=f"{saved}: Permission denied"):
            storage.is_network(saved)
        assert "Permission denied" in fault(saved)
    finally:
        os.seteuid(user)
        saved.chmod(0o700)


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
    text = fault(saved)
    assert name in text
    if damage == "huge" and name.endswith(".npy"):
        assert "is larger than" in text  # and was not read


def test_a_missing_file_is_named(saved: Path) -> None:
    (saved / "F6.weight.npy").unlink()
    assert "F6.weight.npy is missing" in fault(saved)


def test_a_missing_checkpoint_stops_only_resuming(saved: Path) -> None:
    shutil.rmtree(saved / "checkpoint")
    assert same(storage.load(saved), 2, 1.0)
    assert "checkpoint is missing: this network answers, but its training cannot go on" in fault(saved, with_state=True)


def forge(path: Path, name: str, array: np.ndarray, allow_pickle: bool = False) -> None:
    """Replace an array, checksum included, as one who means it would."""
    np.save(path / name, array, allow_pickle=allow_pickle)
    forge_checksum(path, name)


def forge_checksum(path: Path, name: str) -> None:
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


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': (), 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1" + 30 * "0" + ",)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}",
        "{[]: 1}",
        "(" * 300,
        " " * 3000,
    ],
)
def test_a_forged_header_is_an_error_like_any_other(saved: Path, header: str) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(12)
    (saved / "C3.bias.npy").write_bytes(content)
    forge_checksum(saved, "C3.bias.npy")
    text = fault(saved)
    assert "C3.bias.npy is not an array" in text or "C3.bias.npy holds float32 (10" in text


@pytest.mark.parametrize("rows", ["1.5,1,1,1,1,1", "1,1,1", "1,1,1,1,1,1,1", "1,nan,1,1,1,1", "one,1,1,1,1,1", "\0"])
def test_a_forged_history_is_an_error_like_any_other(saved: Path, rows: str) -> None:
    head = (saved / "history.csv").read_text().splitlines()[0]
    (saved / "history.csv").write_text(f"{head}\n{rows}\n")
    forge_checksum(saved, "history.csv")
    assert "history.csv is damaged" in fault(saved)


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
        ({"height": True}, "height cannot be True"),
        ({"height": 1 << 20}, "its layers are not those of its settings"),
        ({"settings": {"network": {"maps": [0, 3]}}}, "maps must be a whole number"),
        ({"settings": [1]}, "network.json"),
        ({"versions": 3}, "versions cannot be 3"),
        ({"versions": {"lenet": 1}}, "versions cannot be {'lenet': 1}"),
        ({"dataset": None}, "dataset cannot be None"),
    ],
)
def test_a_description_that_makes_no_sense(saved: Path, change: dict[str, Any], message: str) -> None:
    file = saved / "network.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert message in fault(saved)


def test_sizes_are_believed_only_of_what_is_there(saved: Path) -> None:
    huge = DESCRIPTION.settings.override("network", dense=(65536, 65536))  # 17 GB of weights
    file = saved / "network.json"
    document = json.loads(file.read_text())
    document["settings"] = huge.to_dict()
    shapes = {parameter.key: parameter.shape for parameter in replace(DESCRIPTION, settings=huge).network().parameters}
    document["layers"] = [{**layer, "shape": shapes[layer["parameter"]]} for layer in document["layers"]]
    file.write_text(json.dumps(document))
    tracemalloc.start()
    try:
        assert "F5.weight.npy holds float32" in fault(saved)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_description_that_lacks_something(saved: Path) -> None:
    file = saved / "network.json"
    whole = json.loads(file.read_text())
    for key in set(whole) - {"result", "preprocessing"}:
        file.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        assert "network.json" in fault(saved)


def test_loading_writes_nothing(saved: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in [saved, *saved.rglob("*")]}
    storage.load(saved, with_state=True)
    assert before == {file: file.stat().st_mtime_ns for file in [saved, *saved.rglob("*")]}
