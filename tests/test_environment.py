"""Odd surroundings: no home, nothing to write caches in, other locales, no terminal or a narrow one, odd paths."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import zipfile
from pathlib import Path

import pytest
from test_cli import SMALL, make_data

import lenet

PACKAGE = Path(lenet.__file__).parent
ROOT = Path(__file__).parents[1]
LIMIT = 240
CACHES = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR")


def run(
    *arguments: str | Path, without: tuple[str, ...] = (), cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m lenet`` with no terminal, in an environment without some variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        [sys.executable, "-m", "lenet", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        env={**inherited, **environment},
        cwd=cwd,
        timeout=LIMIT,
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("environment") / "corners")


def train(path: Path, data: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return "train", "--path", path, "--data", data, "--epochs", "1", *SMALL, *more


def well(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a training ended well, with its lines of progress and nothing else on stderr; return stdout."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if "no better than chance" not in line]  # after one short epoch
    assert told[0].split()[0] == "epoch"
    assert len(told) == 2, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return done.stdout


def test_no_home(data: Path, tmp_path: Path) -> None:
    assert "saved" in well(run(*train(tmp_path / "net", data), without=CACHES))
    assert "saved" in well(run(*train(tmp_path / "net 2", data), without=CACHES, HOME="/nonexistent"))


def test_a_home_that_is_no_folder(data: Path, tmp_path: Path) -> None:
    """Nothing can be written there, whoever runs the test."""
    (tmp_path / "home").touch()
    done = run(*train(tmp_path / "net", data), without=CACHES, HOME=str(tmp_path / "home"))
    assert "saved" in well(done)
    assert (tmp_path / "net" / "curves.png").stat().st_size > 10_000
    assert run("info", without=CACHES, HOME=str(tmp_path / "home")).returncode == 0


def test_where_no_cache_can_be_written_kernels_are_compiled_in_memory(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "package" / "lenet", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in {file.parent for file in copy.rglob("*.py")}:
        (folder / "__pycache__").touch()  # a file in the folder's place: not even root can write below it
    program = (
        "import numpy as np; from lenet import backends; from lenet.specs import DenseSpec\n"
        "import lenet; print(lenet.__file__)\n"
        "backend = backends.get('numba', threads=1)\n"
        "x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)\n"
        "backend.activation_forward('relu', x, y); print(y.sum())\n"
    )
    home = tmp_path / "home"
    home.touch()
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k not in CACHES}, "HOME": str(home)},
        cwd=tmp_path / "package",
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(copy / "__init__.py"), "6.0"]
    assert done.stderr.splitlines() == [
        "warning: no cache folder can be written, so every run compiles its kernels anew; "
        "NUMBA_CACHE_DIR=FOLDER keeps them there"
    ]


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_the_locale_c(locale: dict[str, str], data: Path, tmp_path: Path) -> None:
    numpy = subprocess.run([sys.executable, "-c", "import numpy"], env={**os.environ, **locale}, capture_output=True)
    if b"UnicodeEncodeError" in numpy.stderr:  # some versions of Python 3.12 and 3.13, in a folder with such a name
        pytest.skip("this Python, where it is installed, cannot import NumPy in this locale")
    folder = shutil.copytree(data, tmp_path / "données 数 字")
    done = run(*train(tmp_path / "résau x", folder), **locale)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    assert run("test", "--path", tmp_path / "résau x", "--backend", "numpy", **locale).returncode == 0
    assert run("--help", **locale).returncode == 0


@pytest.mark.parametrize("name", ["with spaces and ünï 数", os.fsdecode(b"not \xff utf-8"), "-dash", "a'b\"c$d"])
def test_odd_paths(name: str, data: Path, tmp_path: Path) -> None:
    try:
        folder = shutil.copytree(data, tmp_path / name / "data")
    except OSError:
        pytest.skip("this file system has no such names")
    path = tmp_path / name / "net"
    well(run(*train(path, folder)))
    done = run("train", "--resume", "--path", path, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert run("test", "--path", path, "--json", "--backend", "numpy").returncode == 0
    assert (path / "curves.png").exists()


@pytest.mark.parametrize("columns", ["40", "1", "0", "x", "100000"])
def test_columns(columns: str, data: Path, tmp_path: Path) -> None:
    assert "saved" in well(run(*train(tmp_path / "net", data), COLUMNS=columns))
    done = run("viewtest", "--path", tmp_path / "net", "--text", "--count", "2", COLUMNS=columns)
    assert done.returncode == 0, done.stderr


def test_a_terminal_of_40_columns(tmp_path: Path) -> None:
    """Nothing that is drawn and drawn again is wider than the terminal: a bar that wraps would fill it."""
    data = make_data(tmp_path / "data", images=4000)  # enough to see the bar move
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 40, 0, 0))
    command = [sys.executable, "-m", "lenet", *map(str, train(tmp_path / "net", data))]
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
        assert process.wait(LIMIT) == 0, shown
    os.close(ours)
    text = shown.decode()
    assert "saved" in text
    assert "Traceback" not in text
    redrawn = [part.rpartition("\n")[2] for part in text.split("\r\x1b[2K")[:-1]]  # each in the place of the one before
    bars = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in redrawn]
    assert any(line.startswith("  1/1") and "cost" in line for line in bars)
    assert max(map(len, bars)) <= 40


def test_output_that_is_closed(data: Path, tmp_path: Path) -> None:
    shell = f'"{sys.executable}" -m lenet train --print-settings >&-'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert "Traceback" not in done.stderr


def test_the_wheel_without_the_source_tree(tmp_path: Path) -> None:
    """A wheel has all files of the package; unpacked elsewhere, it finds them."""
    hatchling = pytest.importorskip("hatchling.build", reason="no hatchling to build a wheel with")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "lenet", source / "lenet", ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run(
        [sys.executable, "-c", f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})"],
        cwd=source, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (hatchling, done.stderr)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("lenet/")}
        archive.extractall(tmp_path / "site")
    assert packed == {file.relative_to(source).as_posix() for file in (source / "lenet").rglob("*") if file.is_file()}
    shutil.rmtree(source)
    done = run("predict", "--help", cwd=tmp_path / "site")
    assert done.returncode == 0
    program = "import lenet; from lenet import cli; print(lenet.__file__); cli.main(['test', '--backend', 'numpy'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "of 10,000 right" in done.stdout
