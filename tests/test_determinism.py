"""The same command gives the same bits: again, on any number of threads, under load, in parts, from another place."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_cli import make_data

import lenet

EPOCHS = 3
NUMBA = importlib.util.find_spec("numba") is not None


def train(path: Path, *options: str | Path, place: Path | None = None) -> str:
    """Train, and return a checksum of all arrays that were saved."""
    environment = {**os.environ, "PYTHONPATH": str(place)} if place else None
    command = [sys.executable, "-m", "lenet", "train", "--path", path, *options]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, cwd=path.parent, timeout=300
    )
    assert done.returncode == 0, done.stderr
    content = hashlib.sha256()
    files = sorted(path.rglob("*.npy"))
    assert len(files) == 13  # ten parameters; raw parameters, moments and average of the checkpoint
    for file in files:
        content.update(file.read_bytes())
    return content.hexdigest()


def command(data: Path, backend: str, epochs: int = EPOCHS) -> tuple[str | Path, ...]:
    return "--data", data, "--backend", backend, "--epochs", str(epochs)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "corners", images=600)


@pytest.fixture(scope="module")
def wanted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the checksum of an undisturbed run on each backend."""
    folder = tmp_path_factory.mktemp("wanted")
    return {name: train(folder / name, *command(data, name)) for name in (("numpy", "numba") if NUMBA else ("numpy",))}


BACKENDS = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(not NUMBA, reason="Numba is not installed"))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_again(data: Path, tmp_path: Path, wanted: dict[str, str], backend: str) -> None:
    assert train(tmp_path / "net", *command(data, backend)) == wanted[backend]


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_seed_gives_other_bits(data: Path, tmp_path: Path, wanted: dict[str, str], backend: str) -> None:
    assert train(tmp_path / "net", *command(data, backend), "--seed", "2") != wanted[backend]


@pytest.mark.skipif(not NUMBA, reason="Numba is not installed")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_under_load(data: Path, tmp_path: Path, wanted: dict[str, str], threads: int) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert train(tmp_path / "net", *command(data, "numba"), "--threads", str(threads)) == wanted["numba"]
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize("parts", [(1, 3), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_in_parts(data: Path, tmp_path: Path, wanted: dict[str, str], backend: str, parts: Sequence[int]) -> None:
    path = tmp_path / "net"
    train(path, *command(data, backend, parts[0]))
    for epochs in parts[1:]:
        found = train(path, "--resume", "--epochs", str(epochs))
    assert found == wanted[backend]


def test_from_another_place(data: Path, tmp_path: Path, wanted: dict[str, str]) -> None:
    place = tmp_path / "another plače"
    shutil.copytree(Path(lenet.__file__).parent, place / "lenet", ignore=shutil.ignore_patterns("__pycache__"))
    assert train(tmp_path / "net", *command(data, "numpy"), place=place) == wanted["numpy"]
