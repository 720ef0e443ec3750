"""Files that are damaged, forged or no files at all: one line and exit code 1, in little time and memory.

What a flipped bit leaves readable is either refused or gives the very numbers that were saved.
"""

import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_datasets import make
from test_storage import DESCRIPTION, forge_checksum, history, state

from lenet import cli, settings, storage
from lenet.data import FILES, Dataset, load_dataset
from lenet.drawing import read_image
from lenet.errors import LenetError

LIMIT = 20  # seconds that a test may wait for a file
LONGEST = 1500  # characters of a message, paths of temporary folders included
BITS = (0x01, 0x10, 0x80)

ARRAYS = [f"{parameter.key}.npy" for parameter in DESCRIPTION.network().parameters]
CHECKPOINT = [f"checkpoint/{name}.npy" for name in ("parameters", "moments", "average")]
TEXTS = ["network.json", "history.csv"]
NETWORK = [*TEXTS, *ARRAYS, *CHECKPOINT]


@pytest.fixture(autouse=True)
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that waits for a file, and read a damaged folder once: no writer is going to mend it."""

    def late(number: int, frame: object) -> None:
        pytest.fail(f"still waiting after {LIMIT} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    monkeypatch.setattr(storage, "_ATTEMPTS", 1)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad") / "net"
    storage.save(path, DESCRIPTION, history(2), state(1.0))
    return path


@pytest.fixture
def net(network: Path, tmp_path: Path) -> Path:
    return shutil.copytree(network, tmp_path / "net")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data", count=8)


def refusal(read: Callable[[], object]) -> str:
    """Return the one line with which a file was refused; empty when it was read."""
    try:
        read()
    except LenetError as error:
        text = str(error)
        assert 0 < len(text) < LONGEST
        assert text.isprintable(), text
        return text
    return ""


def read_network(path: Path) -> None:
    """Read a network with its checkpoint; what is not refused must be what `network` has."""
    found = storage.load(path, with_state=True)
    expected = state(1.0)
    assert found.state is not None
    assert found.state.average is not None
    assert found.weights.tobytes() == expected.weights.tobytes()
    assert found.state.parameters.tobytes() == expected.parameters.tobytes()
    assert found.state.moments.tobytes() == expected.moments.tobytes()
    assert found.history == history(2)


def forge(path: Path, name: str, content: bytes) -> str:
    """Put ``content`` in the place of a file of a network, checksum included, and return how it is refused."""
    (path / name).write_bytes(content)
    if name != "network.json":
        forge_checksum(path, name)
    return refusal(lambda: read_network(path))


def flips(content: bytes, count: int | None = None) -> Iterator[bytes]:
    """Yield a content with one bit flipped, several in every byte of the first ``count``."""
    for place in range(len(content) if count is None else count):
        for bit in BITS:
            yield content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def lengths(content: bytes) -> list[int]:
    """Return the lengths to cut a content to: each of a short one, sixty of a long one, and those near its ends."""
    size = len(content)
    return sorted({*range(min(size, 24)), *range(0, size, max(1, size // 60)), *range(max(0, size - 4), size)})


# flipped, cut, missing, swapped --------------------------------------------------------------------------------------


def test_every_byte_of_the_description_flipped(net: Path) -> None:
    file = net / "network.json"
    whole = json.dumps(json.loads(file.read_text()), separators=(",", ":")).encode()
    outcomes = []
    for content in flips(whole):
        file.write_bytes(content)
        outcomes.append(refusal(lambda: read_network(net)) != "")
    assert len(outcomes) == len(BITS) * len(whole)
    assert outcomes.count(True) > 0.8 * len(outcomes)  # the rest: names, versions and the like


@pytest.mark.parametrize("name", ["C1.weight.npy", "output.bias.npy", *CHECKPOINT])
def test_every_byte_of_an_array_header_flipped(net: Path, name: str) -> None:
    whole = (net / name).read_bytes()
    outcomes = []
    for content in flips(whole, 128):
        (net / name).write_bytes(content)
        assert refusal(lambda: read_network(net)).startswith(f"{net / name} is damaged")
        outcomes.append(forge(net, name, content))
        forge(net, name, whole)
    assert outcomes.count("") < 0.5 * len(outcomes)  # white space may be another
    assert all(not text or text.startswith(str(net / name)) for text in outcomes)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_byte_of_an_idx_header_flipped(data: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    whole = pack((data / name).read_bytes())
    expected = load_dataset(data)
    header = 16 if "images" in name else 8
    for content in flips(whole, header if pack is bytes else min(len(whole), 300)):
        (data / name).write_bytes(content)
        found: list[Dataset] = []
        if not refusal(lambda: found.append(load_dataset(data))):  # noqa: B023
            assert found[0].sha256 == expected.sha256


@pytest.mark.parametrize("name", NETWORK)
def test_a_network_file_cut_to_any_length(net: Path, name: str) -> None:
    whole = (net / name).read_bytes()
    for length in lengths(whole):
        (net / name).write_bytes(whole[:length])
        assert name in refusal(lambda: read_network(net)) or whole[length:].isspace()
        if name in ARRAYS + CHECKPOINT:
            assert name in forge(net, name, whole[:length])
            forge(net, name, whole)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", FILES)
def test_a_data_file_cut_to_any_length(data: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    whole = pack((data / name).read_bytes())
    for length in lengths(whole):
        (data / name).write_bytes(whole[:length])
        assert name in refusal(lambda: load_dataset(data))


def test_files_that_are_missing_or_longer_or_another(net: Path, data: Path) -> None:
    for folder, names, read in ((net, NETWORK, read_network), (data, FILES, load_dataset)):
        contents = {name: (folder / name).read_bytes() for name in names}
        for name, content in contents.items():
            (folder / name).unlink()
            assert refusal(lambda: read(folder))  # noqa: B023
            (folder / name).write_bytes(content + b"\0")
            assert name in refusal(lambda: read(folder))  # noqa: B023
            (folder / name).write_bytes(content)
        for one, other in itertools.combinations(names, 2):
            if contents[one] != contents[other]:
                (folder / one).write_bytes(contents[other])
                (folder / other).write_bytes(contents[one])
                same_data = folder == data and {"images" in one, "images" in other} != {True, False}
                assert refusal(lambda: read(folder)) or same_data  # noqa: B023
                (folder / one).write_bytes(contents[one])
                (folder / other).write_bytes(contents[other])
        assert refusal(lambda: read(folder)) == ""  # noqa: B023


# forged arrays -------------------------------------------------------------------------------------------------------

DTYPES = ("<f2", "<f8", ">f4", "<i4", "<u1", "?", "<c8", "S4", "<U4", "<M8[s]", "V4", [("a", "<f4")], object)


@pytest.mark.parametrize("name", [*ARRAYS, *CHECKPOINT])
def test_arrays_of_another_type_shape_or_with_no_numbers(net: Path, name: str) -> None:
    right = np.load(net / name, allow_pickle=False)
    wrong = [np.zeros(right.shape, dtype) for dtype in DTYPES]
    wrong += [right[..., np.newaxis], right[np.newaxis], right[:0], right[..., :-1], right.ravel()[0], right.repeat(2, 0)]
    if right.ndim > 1:
        wrong += [right.ravel(), np.asfortranarray(right)]
    for number in (np.nan, np.inf, -np.inf):
        spoiled = right.copy()
        spoiled.flat[-1] = number
        wrong.append(spoiled)
    for array in wrong:
        content = io.BytesIO()
        np.save(content, array, allow_pickle=True)
        assert forge(net, name, content.getvalue()).startswith(f"{net / name} ")


def npy(header: str, version: tuple[int, int] = (1, 0), body: bytes = bytes(12)) -> bytes:
    """Return an array file with any header."""
    size = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + header.encode("latin1") + body


HEADERS = [
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3L,)}"),  # as Python 2 wrote it: NumPy would warn
    npy(r"{'descr': '<f4\d', 'fortran_order': False, 'shape': (3,)}"),  # Python would warn
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", (2, 0)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", (9, 9)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}"),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': __import__('os').mkdir('owned')}"),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", body=pickle.dumps([1, 2, 3])),
    npy("-" * 3900 + "1"),
    npy("[" * 199 + "]" * 199),
    npy("1" + "+1" * 1900),
    npy("{" * 3000),
    npy("\0" * 3000),
    npy("'" + "\\N{DIGIT ONE}" * 200 + "'"),
    npy("9" * 4000),
    npy("1e" + "9" * 3000),
    pickle.dumps({"weights": [1.0]}),
    b"PK\x03\x04" + bytes(60),  # as of an .npz file
]


@pytest.mark.parametrize("content", HEADERS, ids=[repr(content[8:40]) for content in HEADERS])
def test_forged_headers(net: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert "C3.bias.npy" in forge(net, "C3.bias.npy", content)
    assert capsys.readouterr() == ("", "")


NO_CODE = """
import sys
from pathlib import Path
from lenet import cli, storage
import lenet.data, lenet.settings
FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.mkdir", "open")
def watch(event, arguments):
    if event == "open" and not any(flag in str(arguments[1]) for flag in "wax+"):
        return
    if event in FORBIDDEN:
        print("FORBIDDEN", event, arguments)
sys.addaudithook(watch)
for path in map(Path, sys.argv[1:]):
    try:
        storage.load(path, with_state=True)
        print("LOADED", path)
    except lenet.errors.LenetError as error:
        print("refused")
"""


class Evil:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_no_code_in_a_file_is_run(network: Path, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "owned")
    arrays = io.BytesIO()
    np.save(arrays, np.array([evil, 0, 0], object), allow_pickle=True)
    assert os.mkdir.__module__ in pickle.dumps(evil).decode("latin1")  # it would be called
    folders = []
    for name in NETWORK:
        for kind, content in (("object", arrays.getvalue()), ("pickle", pickle.dumps(evil))):
            folder = shutil.copytree(network, tmp_path / f"{kind}-{name.replace('/', '-')}")
            (folder / name).write_bytes(content)
            if name != "network.json":
                forge_checksum(folder, name)
            folders.append(folder)
    found = subprocess.run(
        [sys.executable, "-c", NO_CODE, *folders], capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout.split() == ["refused"] * len(folders)
    assert found.stderr == ""
    assert not (tmp_path / "owned").exists()


# no files at all -----------------------------------------------------------------------------------------------------


def bind(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


IMPOSTORS: dict[str, Callable[[Path], object]] = {
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a folder": lambda path: path.symlink_to("."),
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a silent device": lambda path: path.symlink_to("/dev/ptmx"),
    "socket": bind,
    "empty file": Path.touch,
    "sparse file of a terabyte": lambda path: path.touch() or os.truncate(path, 1 << 40),
}


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_what_is_no_file_in_the_place_of_each(kind: str, net: Path, data: Path, tmp_path: Path) -> None:
    for folder, names, read in ((net, NETWORK, read_network), (data, FILES, load_dataset)):
        for name in names:
            (folder / name).rename(tmp_path / "kept")
            IMPOSTORS[kind](folder / name)
            text = refusal(lambda: read(folder))  # noqa: B023
            assert name in text or "no network" in text
            (folder / name).rmdir() if kind == "folder" else (folder / name).unlink()
            (tmp_path / "kept").rename(folder / name)
    for read in (lambda path: settings.load(str(path)), read_image, storage.load, load_dataset):
        IMPOSTORS[kind](tmp_path / "thing")
        empty_settings = kind == "empty file" and read(tmp_path / "thing") if False else False
        assert str(tmp_path / "thing") in refusal(lambda: read(tmp_path / "thing")) or empty_settings  # noqa: B023
        (tmp_path / "thing").rmdir() if kind == "folder" else (tmp_path / "thing").unlink()
