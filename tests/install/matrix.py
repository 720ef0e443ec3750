"""Install the wheel in fresh environments, and use it: every Python x the lowest and the newest dependencies.

``python tests/install/matrix.py`` takes the interpreters python3.11 to python3.15 that it finds, or those named with
``--python``. The wheel is built once and installed in a folder with a space and letters that are not ASCII; everything
then runs elsewhere, with no source tree in sight. "Lowest" is the lower bound in pyproject.toml, or the oldest version
above it that has a wheel for that Python, marked with a star. Needs a package registry, and some minutes for each row.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = ("lowest", "newest")
PYTHONS = [f"python3.{minor}" for minor in range(11, 16)]
LIMIT = 1800  # seconds for one command, on a busy machine

TESTS = ("test_idx", "test_datasets", "test_storage", "test_settings", "test_parity", "test_studio_api")
"""What meets every dependency in little time."""

PAINT_A_SEVEN = """
from pathlib import Path
import lenet
from PIL import Image
from lenet.data import load_dataset
assert Path(lenet.__file__).is_relative_to(__import__("sys").prefix), lenet.__file__
Image.fromarray(load_dataset().test_images[0]).save("sieben.png")
"""

USES: dict[tuple[str, ...], str] = {
    ("lenet", "info"): "numba ",
    ("python", "-c", PAINT_A_SEVEN): "",
    ("lenet", "predict", "sieben.png"): "7",
    ("lenet", "test", "--min-accuracy", "0.99"): "of 10,000 right",
    ("lenet", "train", "--epochs", "1", "--path", "net"): "saved  net",
    ("lenet", "test", "--path", "net", "--min-accuracy", "0.9"): "of 10,000 right",
}
"""Commands, and what stdout must have."""


class Failed(Exception):
    """A command that failed: its first line that says so."""


def bounds() -> dict[str, str]:
    """Return the lower bound of each dependency, from pyproject.toml."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return dict(dependency.split(">=") for dependency in dependencies)


def run(*command: str | Path, cwd: Path, expected: str = "") -> str:
    """Run a command as a user does, far from the source tree; return stdout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    if done.returncode or expected not in done.stdout or "Warning" in done.stderr:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["nothing was printed"]
        telling = [line for line in lines if re.match(r"FAILED|ERROR|Error|error|\w+Error|.*Warning", line)]
        name = " ".join(Path(command[0]).name if part == command[0] else str(part) for part in command)
        raise Failed(f"{name[:40]}: {(telling or lines[-1:])[0].strip()[:300]}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the wheel, and keep beside it the tests as they are now."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def numbers(version: str) -> tuple[int, ...]:
    """Return what versions are compared by, 3.0 and 3.0.0 being the same; no pre-release comes here."""
    return tuple(map(int, re.findall(r"\d+", re.sub(r"(\.0)+$", "", version))))


def lowest(python: Path, folder: Path) -> dict[str, str]:
    """Return the lowest version of each dependency that is allowed and has a wheel for this Python."""
    found = {}
    for name, bound in bounds().items():
        listed = run(python, "-m", "pip", "index", "versions", "--only-binary=:all:", name, cwd=folder)
        (line,) = [line for line in listed.splitlines() if line.startswith("Available versions:")]
        versions = re.findall(r"[\w.]+", line.partition(":")[2])  # the newest first
        found[name] = list(takewhile(lambda version: numbers(version) >= numbers(bound), versions))[-1]  # noqa: B023
    return found


def try_one(python: str, kind: str, tests: Sequence[str], wheel: Path, folder: Path) -> list[str]:
    """Install the wheel for one Python with the lowest or newest dependencies, and use it; return a row of the table.

    The row has the versions of the dependencies, how many tests passed, the seconds, and the result.
    """
    environment, elsewhere = folder / "Umgebung für alle", folder / "woanders 数"
    elsewhere.mkdir(parents=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    inside = scripts / "python"
    versions, passed, began = dict.fromkeys(bounds(), ""), "", time.monotonic()
    try:
        run(python, "-m", "venv", environment, cwd=elsewhere)
        install = [inside, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
        run(*install, "--upgrade", "pip", cwd=elsewhere)  # for an `index` that knows which versions have wheels
        wanted = lowest(inside, elsewhere) if kind == "lowest" else {}
        run(*install, wheel, *(f"{name}=={version}" for name, version in wanted.items()), cwd=elsewhere)
        freeze = run(inside, "-m", "pip", "list", "--format=freeze", cwd=elsewhere)
        installed = {name.lower(): version for name, version in (line.split("==") for line in freeze.splitlines())}
        versions = {name: installed[name] for name in versions}
        run(*install, "pytest", "hypothesis", cwd=elsewhere)
        shutil.copy(wheel.with_name("pyproject.toml"), elsewhere)  # how pytest is set up
        shutil.copytree(wheel.with_name("tests"), elsewhere / "tests")
        for command, expected in USES.items():
            run(scripts / command[0], *command[1:], cwd=elsewhere, expected=expected)
        files = [f"tests/{name}.py" for name in tests]
        printed = run(inside, "-m", "pytest", "-q", "-k", "not cupy", *files, cwd=elsewhere, expected=" passed")
        passed = printed.splitlines()[-1].partition(" passed")[0].split()[-1]
        result = "OK"
    except (Failed, subprocess.TimeoutExpired) as error:
        result = str(error)
    if kind == "lowest":
        versions = {
            name: version + "*" * (numbers(version) > numbers(bounds()[name])) for name, version in versions.items()
        }
    return [*versions.values(), passed, f"{time.monotonic() - began:.0f}", result]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=[name for name in PYTHONS if shutil.which(name)])
    parser.add_argument("--dependencies", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="test_NAME", help=", ".join(TESTS))
    given = parser.parse_args(arguments)

    def show(*row: str) -> None:
        sys.stdout.write(f"| {' | '.join(row)} |\n")
        sys.stdout.flush()

    show("Python", "dependencies", *bounds(), "tests", "seconds", "result")
    show(*["---"] * (5 + len(bounds())))
    every_one_well = True
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        for python in given.python:
            try:
                version = run(python, "-c", "import platform; print(platform.python_version())", cwd=Path(folder))
            except Failed as error:
                show(python, *[""] * (3 + len(bounds())), str(error))
                continue
            for kind in given.dependencies:
                where = Path(folder, f"{version.strip()} {kind}")
                row = try_one(python, kind, given.tests, wheel, where)
                show(version.strip(), kind, *row)
                every_one_well &= row[-1] == "OK"
                shutil.rmtree(where, ignore_errors=True)
    return 0 if every_one_well else 1


if __name__ == "__main__":
    sys.exit(main())
