"""Files that are damaged, forged or no files at all: one line and exit code 1, in little time and memory.

What a flipped bit leaves readable is either refused or gives the very numbers that were saved.
"""

import gzip
import io
import itertools
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_datasets import make
from test_storage import DESCRIPTION, forge_checksum, history, state

from lenet import cli, drawing, settings, storage
from lenet.commands import bench
from lenet.data import FILES, Dataset, load_dataset
from lenet.drawing import read_image
from lenet.errors import LenetError
from lenet.storage import Description, EpochRecord
from lenet.studio.drawings import Collection

LIMIT = 300  # seconds that a test may wait for a file, on a busy machine
LONGEST = 1500  # characters of a message, paths of temporary folders included
BITS = (0x01, 0x20)

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


@dataclass
class Tally:
    """What one test has tried: how many files, how many of them were refused, and the longest time that one took."""

    files: int = 0
    refused: int = 0
    slowest: float = 0.0


tallies: dict[str, Tally] = defaultdict(Tally)


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[None]:
    """With ``pytest -s``, print what docs/reliability.md repeats."""
    yield
    for name, tally in tallies.items():
        sys.stdout.write(f"\n{name}: {tally.files:,} files, {tally.refused:,} refused, {tally.slowest:.3f} s at most")


def refusal(read: Callable[[], object]) -> str:
    """Return the one line with which a file was refused; empty when it was read."""
    tally = tallies[os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].partition("[")[0].partition(" ")[0]]
    tally.files += 1
    began = time.process_time()
    try:
        read()
    except LenetError as error:
        text = str(error)
        assert 0 < len(text) < LONGEST
        assert text.isprintable(), text
        tally.refused += 1
        return text
    finally:
        tally.slowest = max(tally.slowest, time.process_time() - began)
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


@pytest.mark.parametrize("name", [*ARRAYS, *CHECKPOINT])
def test_every_byte_of_an_array_header_flipped(net: Path, name: str) -> None:
    whole = (net / name).read_bytes()
    outcomes = []
    for content in flips(whole, 128):
        outcomes.append(forge(net, name, content))
    (net / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert refusal(lambda: read_network(net)).startswith(f"{net / name} is damaged")  # its checksum tells
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
            for part in ("train_images", "train_labels", "test_images", "test_labels"):  # bytes with or without a sign
                np.testing.assert_array_equal(getattr(found[0], part), getattr(expected, part))


@pytest.mark.parametrize("name", NETWORK)
def test_a_network_file_cut_to_any_length(net: Path, name: str) -> None:
    whole = (net / name).read_bytes()
    for length in lengths(whole):
        (net / name).write_bytes(whole[:length])
        assert name in refusal(lambda: read_network(net)) or whole[length:].isspace()
    for length in lengths(whole) if name.endswith(".npy") else ():
        assert name in forge(net, name, whole[:length])


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
    wrong += [
        right[..., np.newaxis],
        right[np.newaxis],
        right[:0],
        right[..., :-1],
        right.ravel()[0],
        right.repeat(2, 0),
    ]
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
storage._ATTEMPTS = 1
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


# not to be looked into -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "checkpoint"])
def test_a_folder_that_cannot_be_looked_into_is_not_an_empty_one(
    folder: str, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", os.path.lexists)  # False without a word, as from Python 3.14 on
    (net / folder).rename(net.with_name("kept"))
    (net / folder).symlink_to("x" * 300)  # a name that no file can have, for who is root may look into everything
    assert "too long" in refusal(lambda: read_network(net))


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
            assert name.split("/")[0] in text or "no network" in text
            (folder / name).rmdir() if kind == "folder" else (folder / name).unlink()
            (tmp_path / "kept").rename(folder / name)


@pytest.mark.parametrize("kind", IMPOSTORS)
@pytest.mark.parametrize("command", ["settings", "image", "network", "data", "comparison", "drawings"])
def test_what_is_no_file_in_a_command(kind: str, command: str, tmp_path: Path) -> None:
    thing = tmp_path / "thing"
    if command == "drawings":
        (tmp_path / "drawings").mkdir()
        thing = tmp_path / "drawings" / "drawings.jsonl"
    IMPOSTORS[kind](thing)
    if kind == "empty file" and command in ("settings", "drawings"):
        return  # all settings have defaults; no drawing yet
    if kind == "link to nothing" and command == "drawings":
        return  # as if there were none yet
    if kind == "sparse file of a terabyte" and command in ("comparison", "drawings"):
        return  # files of one's own, which are read whole
    reads: dict[str, Callable[[], object]] = {
        "settings": lambda: settings.load(str(thing)),
        "image": lambda: read_image(thing),
        "network": lambda: storage.load(thing),
        "data": lambda: load_dataset(thing),
        "comparison": lambda: bench._earlier_run(thing),
        "drawings": Collection(tmp_path / "drawings", 28, 28, 10).open,
    }
    assert str(thing) in refusal(reads[command])


def test_what_stands_in_the_way_of_a_save(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for kind, (number, name) in itertools.product(IMPOSTORS, enumerate([*NETWORK, "checkpoint", ".next", ".commit"])):
        path = shutil.copytree(network, tmp_path / f"{kind} {number}")
        shutil.rmtree(path / name, ignore_errors=True)
        (path / name).unlink(missing_ok=True)
        IMPOSTORS[kind](path / name)
        refused = refusal(lambda: storage.save(path, DESCRIPTION, history(3), state(2.0)))  # noqa: B023
        found: list[storage.Saved] = []
        unreadable = refusal(lambda: found.append(storage.load(path, with_state=True)))  # noqa: B023
        if unreadable:  # it was not to be read before, and could not be written
            assert refused, (kind, name)
        else:
            fill, epochs = (1.0, 2) if refused and len(found[0].history) == 2 else (2.0, 3)
            assert found[0].history == history(epochs)
            assert found[0].weights.tobytes() == state(fill).weights.tobytes()


# names and texts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"n\xff\xfe", "n\u00e9 \u6570 \u5b57".encode(), b"n\nm\x1b[31m\x07", b"x" * 255])
def test_odd_names(raw: bytes, tmp_path: Path, network: Path) -> None:
    name = os.fsdecode(raw)
    try:
        data = load_dataset(make(tmp_path / name, count=8))
    except OSError:
        pytest.skip("this file system has no such names")
    assert data.name == name
    told = Description(**{**vars(DESCRIPTION), "dataset": name, "dataset_source": str(data.source)})
    storage.save(tmp_path / name / "net", told, history(2), state(1.0))
    assert storage.load(tmp_path / name / "net").description == told


@pytest.mark.parametrize("raw", [b"n\xff\xfe", b"n\nm\x1b[31m\x07\x9b", b"x" * 300, b"y/" * 3000])
def test_odd_names_are_told_in_one_line(raw: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / os.fsdecode(raw)
    for arguments in (
        ["train", "--settings", path],
        ["test", "--path", path],
        ["test", "--data", path],
        ["predict", path],
        ["bench", "--compare", path],
        ["train", "--data", path, "--path", tmp_path / "net"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        assert ended.value.code == (2 if "--settings" in arguments else 1)
        told = capfd.readouterr()
        assert told.out == ""
        assert told.err.startswith("Error: ")
        assert told.err.count("\n") == 1
        assert told.err[:-1].isprintable()


BAD_TEXTS = [
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b"\0" * 40,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"1" * 10_000,
    b"NaN",
    b'{"format": 1, "sha256": {}}',
    b'{"format": ' + b"[" * 900 + b"]" * 900 + b', "sha256": {}}',
    b'{"format": "' + b"x" * 100_000 + b'", "sha256": {}}',
    b'{"format": 1e999, "sha256": {}}',
]


@pytest.mark.parametrize("content", BAD_TEXTS, ids=range(len(BAD_TEXTS)))
def test_texts_that_are_none(content: bytes, net: Path) -> None:
    assert "history.csv" in forge(net, "history.csv", content)
    assert "network.json" in forge(net, "network.json", content)


@pytest.mark.parametrize(
    "value", [None, True, -1, 1 << 40, 1e999, "x" * 9999, [], {}, [[]] * 999, "\ud800", float("nan")]
)
def test_any_value_of_a_description_may_be_of_any_type(value: Any, net: Path) -> None:
    whole = json.loads((net / "network.json").read_text())
    for key in whole:
        text = forge(net, "network.json", json.dumps({**whole, key: value}).encode())
        free = (
            key in ("preprocessing", "result")
            or isinstance(value, str | dict)
            or (key, value) == ("dataset_source", None)
        )
        assert text or free or (value is True and key == "format"), key


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000,
        "x = " + "{a = " * 2000,
        ".".join("a" * 8000) + " = 1",
        "[" + ".".join("a" * 8000) + "]",
        "[[" + ".".join("a" * 4000) + "]]\n" * 2,
        "[training]\nseed = 0x" + "f" * 6000,
        "[training]\nseed = " + "9" * 6000,
        "[training]\nlearning_rate = 1e" + "9" * 6000,
        "[training]\n" + "".join(f"k{i} = 1\n" for i in range(1500)),
        "[training]\noptimizer = '" + "x" * 9000 + "'",
        "[training]\noptimizer = " + "[" * 300 + "]" * 300,
        "[network]\nmaps = [" + "1," * 5000 + "]",
        "[network]\nmaps = [6, 1979-05-27]",
        "[training]\nseed = 07:32:00",
        "['" + "x" * 9000 + "']",
        "\0",
        "# " + "x" * 100_000,
    ],
    ids=range(17),
)
def test_settings_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    before = time.process_time()
    assert "mine.toml" in refusal(lambda: settings.load(str(tmp_path / "mine.toml")))
    assert time.process_time() - before < 8


def test_settings_cut_and_flipped(tmp_path: Path) -> None:
    whole = settings.Settings().to_toml().encode()
    file = tmp_path / "mine.toml"
    for content in itertools.chain(flips(whole), (whole[:length] for length in lengths(whole))):
        file.write_bytes(content)
        refusal(lambda: settings.load(str(file)))


PACKED = [("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")]
PICTURES = [(kind, {}) for kind in ("PNG", "GIF", "BMP", "JPEG", "TIFF", "PPM", "WEBP")] + PACKED


@pytest.mark.parametrize(("kind", "options"), PICTURES, ids=["-".join([k, *o.values()]) for k, o in PICTURES])
def test_images_cut_and_flipped(kind: str, options: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "digit"
    Image.fromarray(load_dataset().test_images[0]).save(file, kind, **options)
    whole = file.read_bytes()
    for content in itertools.chain(flips(whole, min(len(whole), 40)), (whole[:n] for n in lengths(whole))):
        file.write_bytes(content)
        refusal(lambda: read_image(file))


def test_the_library_that_unpacks_tiff_files_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "digit.tif"
    Image.fromarray(load_dataset().test_images[0]).save(file, compression="tiff_lzw")
    whole = bytearray(file.read_bytes())
    whole[8:40] = bytes(32)  # of the pixels
    file.write_bytes(whole)
    with pytest.raises(SystemExit, match="1"):
        cli.main(["predict", "--backend", "numpy", str(file)])
    out, errors = capfd.readouterr()
    assert out == ""
    assert errors.startswith(f"Error: {file} is a broken image")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("spoiled", [np.nan, np.inf, -np.inf])
def test_a_picture_of_numbers_that_are_not_finite_is_refused(spoiled: float, tmp_path: Path) -> None:
    pixels = load_dataset().test_images[0].astype(np.float32)
    pixels[14, 14] = spoiled
    Image.fromarray(pixels).save(tmp_path / "digit.tif")
    assert "not finite" in refusal(lambda: read_image(tmp_path / "digit.tif"))


@pytest.mark.parametrize("paper", [0.0, -1.0, -3e38])
@pytest.mark.parametrize("ink", [1e-44, 1e-5, 1.0, 3e38])
def test_a_picture_of_any_finite_numbers_is_read(paper: float, ink: float, tmp_path: Path) -> None:
    """Black is 0, and what is below it; white is the largest number. Nothing overflows, and nothing is warned of."""
    digit = load_dataset().test_images[0] > 127
    Image.fromarray(np.where(digit, np.float32(ink), np.float32(paper))).save(tmp_path / "digit.tif")
    found, _ = read_image(tmp_path / "digit.tif")
    np.testing.assert_array_equal(found > 0.5, digit)


def test_two_shades_of_ink_that_hardly_differ() -> None:
    """As in a picture that the fuzzer found."""
    shades = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(1))], np.float32)
    assert shades[0] <= drawing._otsu(shades) <= shades[1]


# bounded memory ------------------------------------------------------------------------------------------------------


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes that were in use at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "shape", ["(200000000,)", "(1 << 40,)", "(4294967295, 4294967295)", "(0, 99999999999999999999)"]
)
def test_a_huge_array_is_not_made_room_for(net: Path, shape: str) -> None:
    content = npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}")
    assert peak(lambda: forge(net, "C3.bias.npy", content)) < 1 << 20


def test_a_description_of_lists_takes_little_memory(net: Path) -> None:
    lists = b"[" + b"[]," * (15 << 20) + b"[]]"
    assert peak(lambda: forge(net, "network.json", lists)) < 3 * len(lists)  # `lists` itself is there, and written
    assert peak(lambda: refusal(lambda: read_network(net))) < 1 << 20
    most = b"[" + b"[]," * ((storage._MAX_DESCRIPTION - 3) // 3) + b"[]]"
    (net / "network.json").write_bytes(most[: storage._MAX_DESCRIPTION])
    assert peak(lambda: refusal(lambda: read_network(net))) < 16 << 20


GROWTH = """
import resource, sys
from pathlib import Path
from lenet.drawing import read_image
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for path in map(Path, sys.argv[1:]):
    before = most()
    read_image(path)
print(most() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere, ru_maxrss has other units")
@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "I;16"])
def test_a_picture_takes_some_bytes_a_pixel(mode: str, tmp_path: Path) -> None:
    """And as more than 89 million pixels are refused, no picture takes more than some two gigabytes."""
    Image.new(mode, (100, 100)).save(tmp_path / "small.png")
    Image.new(mode, (3000, 3000)).save(tmp_path / "large.png")
    program = [sys.executable, "-c", GROWTH, tmp_path / "small.png", tmp_path / "large.png"]
    found = subprocess.run(program, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert int(found.stdout) < 25 * 3000**2


def test_a_history_takes_a_line_for_every_epoch_there_may_be() -> None:
    worst = EpochRecord(settings.MAX_EPOCHS, *[1.2345678901234567e-300] * 5, validation_accuracy=1 / 3)
    header, line = storage._history_csv([worst]).splitlines(keepends=True)
    assert len(line) < 160
    assert len(header) + len(line) * settings.MAX_EPOCHS <= storage._MAX_HISTORY


LIMITED = """
import resource, sys
from lenet import cli
import lenet.data, lenet.storage, lenet.evaluation, lenet.executors, lenet.backends.numpy_backend
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
cli.main(sys.argv[1:])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_huge_is_even_asked_for(net: Path, data: Path) -> None:
    forge(net, "C3.bias.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (200000000,)}"))
    (data / FILES[0]).write_bytes(bytes.fromhex("00000803 00100000 00000010 00000014"))
    for arguments, name in (["test", "--path", net], "C3.bias.npy"), (["test", "--data", data], FILES[0]):
        found = lenet(*arguments, program=["-c", LIMITED])
        assert name in one_line(found)


# as a user meets it --------------------------------------------------------------------------------------------------


def lenet(*arguments: str | Path, program: Sequence[str] = ("-m", "lenet")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def one_line(found: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert found.returncode == code, found.stderr
    assert found.stdout == ""
    assert found.stderr.startswith("Error: ")
    assert found.stderr.count("\n") == 1
    return found.stderr


def test_a_sample_through_the_command_line(net: Path, data: Path, tmp_path: Path) -> None:
    array = (net / "C1.weight.npy").read_bytes()
    (net / "C1.weight.npy").write_bytes(array[:-1])
    assert "C1.weight.npy is damaged" in one_line(lenet("test", "--path", net))
    (net / "C1.weight.npy").unlink()
    os.mkfifo(net / "C1.weight.npy")
    assert "not a regular file" in one_line(lenet("train", "--resume", "--path", net))
    (data / FILES[2]).unlink()
    (data / FILES[2]).symlink_to("/dev/zero")
    assert "not a regular file" in one_line(lenet("train", "--path", tmp_path / "new", "--data", data))
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in one_line(lenet("test", "--data", tmp_path / "loop"))
    assert "no network in" in one_line(lenet("test", "--path", tmp_path / "loop"))
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in one_line(lenet("predict", tmp_path / "pipe"))
    assert "not a regular file" in one_line(lenet("train", "--settings", tmp_path / "pipe"), code=2)
    assert "not a regular file" in one_line(lenet("bench", "--compare", tmp_path / "pipe"))
    Image.fromarray(load_dataset().test_images[0]).save(tmp_path / "digit.tif", compression="tiff_lzw")
    packed = (tmp_path / "digit.tif").read_bytes()
    (tmp_path / "digit.tif").write_bytes(packed[:8] + bytes(8) + packed[16:])
    assert "broken image" in one_line(lenet("predict", tmp_path / "digit.tif"))
    assert not (tmp_path / "new").exists()
