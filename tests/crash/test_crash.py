"""Short versions of what is in this folder; docs/reliability.md has the figures of the long ones."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import faults
import harness
import pytest
from world import LIMIT, World, hidden


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return World(folder, *harness.WORLDS["saving"])


@pytest.fixture(scope="module")
def seconds(world: World, folder: Path) -> float:
    return harness.duration(world, folder)


@pytest.fixture(autouse=True)
def _heard() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            pytest.skip("this shell has its children ignore the signals that are to be tested")


@pytest.mark.parametrize(("kind", "count"), [(kind, 8 if kind == "SIGKILL" else 2) for kind in harness.KINDS])
def test_kills_lose_nothing(world: World, folder: Path, seconds: float, kind: str, count: int) -> None:
    outcomes = harness.kills(world, folder, kind, count, seconds, seed=7)
    assert len(outcomes) == count
    assert [outcome.failure for outcome in outcomes if outcome.failure] == []


def test_calls_that_fail_lose_nothing() -> None:
    if faults.compiler() is None:
        pytest.skip("no C compiler, with which to let system calls fail")
    done = subprocess.run(
        [sys.executable, faults.__file__, "--every", "83"], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["killed"] + [name for name in faults.ERRORS if name != "killed" for _ in "12"]
    assert all(int(row[2]) >= 2 for row in rows)


def test_a_second_training_is_refused_and_disturbs_nothing(world: World, tmp_path: Path) -> None:
    path = tmp_path / "network"
    with world.begin(path, tmp_path / "errors") as process:
        for extra in ([], ["--overwrite"], ["--resume"]):
            resume = "--resume" in extra
            command = [sys.executable, "-m", "lenet", *world.arguments(path, resume=resume), *extra[: not resume]]
            process.send_signal(signal.SIGSTOP)  # it stays as it is, and keeps its lock
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
            process.send_signal(signal.SIGCONT)
            assert done.returncode == 1
            assert done.stderr.startswith(f"Error: another training is at work in {path}; ")
            assert len(done.stderr.splitlines()) == 1
        assert process.wait(LIMIT) == 0
    assert world.reached(path) == world.epochs
    assert not hidden(path)


def test_a_terminal_that_is_closed_ends_a_training_in_order(world: World, tmp_path: Path) -> None:
    path = tmp_path / "network"
    child, terminal = pty.fork()
    if not child:
        arguments = ["--epochs", "100000"]
        os.execv(sys.executable, [sys.executable, "-m", "lenet", *world.arguments(path), *arguments])
    shown = b""
    while b" 3/100000" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    deadline = time.monotonic() + LIMIT
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "it trains on although nobody can see it"
        time.sleep(0.05)
    assert (path / "curves.png").exists()
    assert not hidden(path)
