"""The saved network: a folder of plain arrays with their history, written so that no crash can spoil it.

Writing is a redo log within the folder. All new files go to ``.next/``, flushed to disk; renaming it to ``.commit/`` is
the moment of truth; then each file moves into place. A reader looks into ``.commit/`` first, so whenever a process
dies, the folder holds the old network or the new one, never a mixture. A reader that meets a writer sees checksums that
do not match, and reads again.
"""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import lock
from lenet.errors import LenetError, UsageError, shortened, shown
from lenet.executors import State
from lenet.files import open_plain
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.settings import MAX_EPOCHS, Settings

FORMAT = 1
DESCRIPTION = "network.json"
HISTORY = "history.csv"
CURVES = "curves.png"
CHECKPOINT = "checkpoint"
TEACHERS = "teachers"  # a folder of networks, each as this module writes them: see `lenet.distillation`

PRETRAINED = Path(__file__).parent / "pretrained"
"""The network that ships in the package."""

_NEXT, _COMMIT = ".next", ".commit"
_MAX_DESCRIPTION = 1 << 18  # bytes of a network.json that is believed: a hundred times what is written
_MAX_HISTORY = 160 * MAX_EPOCHS  # bytes of a history.csv that is believed: no line is longer
_MAX_HEADER = 4096  # bytes of an .npy file before its numbers
_ATTEMPTS = 5  # readings, in case a writer is at work


@dataclass(frozen=True)
class EpochRecord:
    """One line of the history: accuracies are shares, 0..1; ``seconds`` are those of training, without evaluation."""

    epoch: int
    learning_rate: float
    cost: float
    train_accuracy: float
    test_accuracy: float
    seconds: float
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Description:
    """What ``network.json`` tells of a run: what was trained, on what, with what."""

    settings: Settings
    height: int
    width: int
    classes: int
    dataset: str
    dataset_source: str | None
    dataset_sha256: dict[str, str]
    train_images: int
    validation_images: int
    backend: str
    device: str
    executor: str
    versions: dict[str, str]

    def network(self) -> Network:
        """Build the network."""
        return lenet5(self.settings.network, self.height, self.width, self.classes)


@dataclass(frozen=True)
class Saved:
    """A network read from its folder; ``state`` is what ``--resume`` needs, if it was asked for."""

    description: Description
    network: Network
    weights: NDArray[np.float32]
    history: tuple[EpochRecord, ...]
    state: State | None


_COLUMNS = [field.name for field in fields(EpochRecord)]  # of a history; the last one only where there is validation


class _Damaged(Exception):
    """What is wrong with a folder, before it is known whether reading it again helps."""


# writing ---------------------------------------------------------------------------------------------------------


def save(
    path: Path,
    description: Description,
    history: Sequence[EpochRecord],
    state: State,
    *,
    weights: NDArray[np.float32] | None = None,
    curves: bytes | None = None,
) -> None:
    """Write a network into the folder ``path``, which is created if need be; other files in it are left alone.

    ``weights`` (T,) are those that answer, where they are not the state's. A picture of the curves that an earlier save
    left is dropped: without ``curves`` it would not be true any more.

    Raises
    ------
    LenetError
        When the folder cannot be written; it then still holds the old network, or already the new one, whole.
    """
    network = description.network()
    answering = state.weights if weights is None else weights
    files = {f"{p.key}.npy": _npy(p.view(answering)) for p in network.parameters}
    files[HISTORY] = _history_csv(history)
    if curves is not None:
        files[CURVES] = curves
    for name, array in vars(state).items():
        if array is not None:
            files[f"{CHECKPOINT}/{name}.npy"] = _npy(array)
    files[DESCRIPTION] = _description_json(description, network, history, files)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _finish(path)
        _write(path, files)
        _finish(path)
        for name in {CURVES, f"{CHECKPOINT}/average.npy"} - files.keys():  # what only the old network had
            (path / name).unlink(missing_ok=True)
    except OSError as error:
        _discard(path)
        raise LenetError(f"cannot save in {path}: {error.strerror or error}") from error


def _write(path: Path, files: dict[str, bytes]) -> None:
    """Put all files into ``.next/``, flushed, and rename it to ``.commit/``."""
    next_folder = path / _NEXT
    (next_folder / CHECKPOINT).mkdir(parents=True)
    for name, content in files.items():
        with (next_folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _flush(next_folder / CHECKPOINT)
    _flush(next_folder)
    next_folder.rename(path / _COMMIT)
    _flush(path)


def _finish(path: Path) -> None:
    """Complete a committed save, and remove what one that never got so far has left."""
    commit = path / _COMMIT
    if commit.is_dir():
        (path / CHECKPOINT).mkdir(exist_ok=True)
        for source in [file for file in commit.rglob("*") if file.is_file()]:
            source.replace(path / source.relative_to(commit))
        _flush(path / CHECKPOINT)
        _flush(path)
        shutil.rmtree(commit)
    _discard(path)


def _discard(path: Path) -> None:
    """Remove what a save that was never committed has left, as far as that is possible."""
    with suppress(OSError):
        if (path / _NEXT).is_dir():  # else `rmtree` opens it all the same, and a pipe never answers
            shutil.rmtree(path / _NEXT, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Have the operating system write the entries of a folder to disk, where it can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _npy(array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    return content.getvalue()


def _history_csv(history: Sequence[EpochRecord]) -> bytes:
    validated = any(record.validation_accuracy is not None for record in history)
    columns = _COLUMNS if validated else _COLUMNS[:-1]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(record, column) for column in columns] for record in history)
    return text.getvalue().encode()


def _description_json(
    description: Description, network: Network, history: Sequence[EpochRecord], files: dict[str, bytes]
) -> bytes:
    document = {"format": FORMAT, **asdict(description)}
    document["settings"] = description.settings.to_dict()
    document["preprocessing"] = "pixel / 255"
    document["layers"] = _layer_table(network)
    document["result"] = asdict(history[-1]) if history else None
    document["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return json.dumps(document, indent=1).encode() + b"\n"


def _layer_table(network: Network) -> list[dict[str, Any]]:
    return [{"parameter": p.key, "shape": list(p.shape), "dtype": "float32"} for p in network.parameters]


# reading ---------------------------------------------------------------------------------------------------------


def _is_there(file: Path) -> bool:
    """Whether there is such a file, or OSError where that cannot be told: there, `Path.exists` may just be False."""
    try:
        file.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return False
    return True


def is_network(path: Path) -> bool:
    """Whether the folder holds a network, sound or not.

    Raises
    ------
    LenetError
        When the folder cannot be looked into.
    """
    try:
        return _is_there(path / _COMMIT / DESCRIPTION) or _is_there(path / DESCRIPTION)
    except OSError as error:
        raise LenetError(f"{path}: {error.strerror}") from error


def is_free(path: Path) -> bool:
    """Whether the folder is empty, but for what a training that ended before its first epoch did has left.

    Raises
    ------
    LenetError
        When the folder cannot be looked into.
    """
    try:
        return {entry.name for entry in path.iterdir()} <= {_NEXT, lock.FILE, TEACHERS}
    except OSError as error:
        raise LenetError(f"{path}: {error.strerror}") from error


def load(path: Path = PRETRAINED, *, with_state: bool = False) -> Saved:
    """Read the network in ``path``; nothing is written, and no file is believed without its checksum.

    Parameters
    ----------
    path : the folder; by default the pretrained network
    with_state : read the checkpoint too, for training on

    Raises
    ------
    LenetError
        When there is no network, or a file is missing, damaged or does not fit the others.
    """
    if not is_network(path):
        raise LenetError(f"no network in {path}; train one: lenet train --path {path}")
    for attempt in range(_ATTEMPTS):
        try:
            return _load(path, with_state)
        except _Damaged as error:
            damage = error
        except OSError as error:
            damage = _Damaged(f"{error.filename or path}: {error.strerror or error}")
        time.sleep(0.02 * attempt)
    raise LenetError(f"{damage}; the network in {path} cannot be used (lenet train --overwrite makes a new one)")


def _load(path: Path, with_state: bool) -> Saved:
    document = _document(path)
    checksums = document["sha256"]
    try:
        description = _description(document)
        network = description.network()
        if document["layers"] != _layer_table(network):
            raise ValueError("its layers are not those of its settings")
    except (UsageError, KeyError, TypeError, ValueError) as error:
        raise _Damaged(f"{path / DESCRIPTION}: {_reason(error)}") from error

    # Only what was read is put together: a description may speak of more weights than any memory holds.
    weights = np.concatenate([_array(path, f"{p.key}.npy", checksums, p.shape).ravel() for p in network.parameters])
    history = _history(path, checksums)
    state = None
    if with_state:
        if not any(_is_there(folder / CHECKPOINT / "parameters.npy") for folder in (path / _COMMIT, path)):
            raise LenetError(f"{path / CHECKPOINT} is missing: this network answers, but its training cannot go on")
        rule, averaging = description.settings.training.rule(), description.settings.training.average > 0
        shapes = {"parameters": (network.size,), "moments": (rule.moments, network.size)}
        shapes |= {"average": (network.size,)} if averaging else {}
        arrays = {n: _array(path, f"{CHECKPOINT}/{n}.npy", checksums, shape) for n, shape in shapes.items()}
        state = State(arrays["parameters"], arrays["moments"], arrays.get("average"))
    return Saved(description, network, weights, history, state)


def _reason(error: Exception) -> str:
    return f"lacks {error}" if isinstance(error, KeyError) else str(error)


def _content(path: Path, name: str, limit: int) -> bytes:
    """Return what a file holds, wherever a writer has put it, if it is a plain file of at most ``limit`` bytes."""
    for file in (path / _COMMIT / name, path / name):
        try:
            with open_plain(file) as stream:
                size = os.fstat(stream.fileno()).st_size
                if size > limit:
                    raise _Damaged(f"{file} is larger than the {limit} bytes it can have")
                return stream.read(size)
        except (FileNotFoundError, NotADirectoryError):  # not there, or moved into place meanwhile
            continue
    raise _Damaged(f"{path / name} is missing")


def _checked(path: Path, name: str, checksums: dict[str, str], limit: int) -> bytes:
    content = _content(path, name, limit)
    if name not in checksums:
        raise _Damaged(f"{path / DESCRIPTION}: has no checksum of {name}")
    if hashlib.sha256(content).hexdigest() != checksums[name]:
        raise _Damaged(f"{path / name} is damaged: its checksum is not the one in {DESCRIPTION}")
    return content


def _document(path: Path) -> dict[str, Any]:
    file = path / DESCRIPTION
    try:
        document = json.loads(_content(path, DESCRIPTION, _MAX_DESCRIPTION))
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"{file} is damaged: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("sha256"), dict):
        raise _Damaged(f"{file} describes no network")
    if document.get("format") != FORMAT:
        raise _Damaged(
            f"{file} has format {shown(document.get('format'))}; this version of lenet reads format {FORMAT}"
        )
    return document


def _description(document: dict[str, Any]) -> Description:
    """Check the types of what was read."""
    values = {field.name: document[field.name] for field in fields(Description)}
    values["settings"] = Settings.from_dict(values["settings"])
    for field in fields(Description):
        value = values[field.name]
        if field.type is int:
            valid = type(value) is int and 0 <= value < 1 << 31
        elif field.type == dict[str, str]:
            valid = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
        else:
            valid = isinstance(value, field.type)  # type: ignore[arg-type]
        if not valid:
            raise ValueError(f"{field.name} cannot be {shown(value)}")
    return Description(**values)


def _array(path: Path, name: str, checksums: dict[str, str], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read one array and check that it is what the network has there."""
    content = _checked(path, name, checksums, 4 * prod(shape) + _MAX_HEADER)
    stream = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what NumPy warns of, lenet has not written
            np.lib.format.read_magic(stream)
            held, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # the header is a Python literal: forged ones raise almost anything
        raise _Damaged(f"{path / name} is not an array") from error
    if held != shape or dtype != np.float32 or fortran:
        found = shortened(f"{dtype} {held}") + (" in Fortran order" if fortran else "")
        raise _Damaged(f"{path / name} holds {found}, the network has float32 {shape} there")
    numbers = stream.read()
    if len(numbers) != 4 * prod(shape):
        raise _Damaged(f"{path / name} has {len(numbers)} bytes of numbers, not {4 * prod(shape)}")
    array = np.frombuffer(bytearray(numbers), np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise _Damaged(f"{path / name} holds numbers that are not finite")
    return array


def _history(path: Path, checksums: dict[str, str]) -> tuple[EpochRecord, ...]:
    text = _checked(path, HISTORY, checksums, _MAX_HISTORY).decode("utf-8", errors="replace")
    rows = csv.DictReader(io.StringIO(text))
    try:
        if rows.fieldnames not in (_COLUMNS, _COLUMNS[:-1]):
            raise ValueError("its columns are not those of a history")
        return tuple(map(_record, rows))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise _Damaged(f"{path / HISTORY} is damaged: {_reason(error)}") from error


def _record(row: dict[str, str]) -> EpochRecord:
    values: dict[str, Any] = {name: float(value) for name, value in row.items() if value}
    if not all(map(isfinite, values.values())):
        raise ValueError("it has numbers that are not finite")
    values["epoch"] = int(row["epoch"])
    return EpochRecord(**values)
