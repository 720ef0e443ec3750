"""Kills ``lenet train`` at random moments and checks that nothing is lost.

``python tests/crash/harness.py --kills 200`` takes some ten minutes on two cores.

Every training is a process as a user starts it. Each time: the folder holds a whole epoch, at least the last one that
was printed, with the bits of a run that nothing disturbed; and what is left to train ends with that run's bits too. One
that was asked to end (SIGTERM, SIGINT, SIGHUP) has also said how to continue, and left nothing unfinished behind.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from world import LIMIT, World, hidden, printed_epochs, signal_code

from lenet.errors import LenetError

KILL, TERM, INT, HUP = signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP
KINDS = {
    "SIGKILL": (KILL,),
    "SIGTERM": (TERM,),
    "SIGINT": (INT,),
    "SIGINT twice": (INT, INT),
    "SIGHUP": (HUP,),
    "SIGHUP, SIGTERM": (HUP, TERM),
}

WORLDS = {
    "saving": ("numpy", 48, 12),
    "training": ("numpy", 1500, 8),
    "fused": ("numba", 600, 80),
}
"""Backend, images and epochs: one that mostly saves, and two that mostly train."""


@dataclass(frozen=True)
class Outcome:
    """How a kill went: epochs that were saved before it, whether it met a save, and what was wrong then."""

    epochs: int
    in_save: bool
    failure: str = ""


def duration(world: World, folder: Path) -> float:
    """Return the seconds that a training takes after its first line."""
    with world.begin(folder / "timed", folder / "timed.err") as process:
        began = time.monotonic()
        process.wait(LIMIT)
    return time.monotonic() - began


def kill(world: World, folder: Path, numbers: Sequence[int], moment: float, pause: float) -> Outcome | None:
    """Start a training, send it signals after ``moment`` seconds, check all; None if it had ended before."""
    path, errors = folder / "network", folder / "errors"
    with world.begin(path, errors) as process:
        time.sleep(moment)
        for nth, number in enumerate(numbers):
            time.sleep(pause if nth else 0.0)
            process.send_signal(number)
        code = process.wait(LIMIT)
    said = errors.read_text()
    if code == 0:
        return None
    if code != signal_code(numbers[0]):
        if code == -numbers[0] and printed_epochs(said) == world.epochs:  # all was done; it came while Python ended
            return None
        return Outcome(0, False, f"exit code {code}: {said}")
    in_save, epochs = any((path / name).exists() for name in (".next", ".commit")), 0
    try:
        epochs = world.reached(path)
        assert epochs >= printed_epochs(said), said
        if numbers[0] != KILL:
            check_farewell(world, path, said, epochs)
        world.complete(path)
    except (AssertionError, LenetError):
        return Outcome(epochs, in_save, traceback.format_exc())
    return Outcome(epochs, in_save)


def check_farewell(world: World, path: Path, said: str, epochs: int) -> None:
    """Check what a training that was asked to end says, and leaves."""
    assert "Traceback" not in said, said
    assert "Exception" not in said, said
    last = said.splitlines()[-1]
    if epochs:
        how = f"Stopped. {path} holds epoch {epochs}. Continue: lenet train --resume --path {path}"
        assert last == how or (epochs == world.epochs and last == "Stopped."), said
        assert (path / "curves.png").exists()
        assert not hidden(path)
    else:
        assert last in ("Stopped.", "Stopped. No epoch was finished; nothing was written."), said
        assert not path.exists()


def kills(world: World, folder: Path, kind: str, count: int, seconds: float, seed: int) -> list[Outcome]:
    """Kill ``count`` trainings, two at a time."""

    def one(number: int) -> Outcome:
        source = random.Random(f"{seed} {kind} {number}")
        for attempt in range(20):
            own = folder / f"{kind} {number} {attempt}".replace(" ", "-")
            own.mkdir()
            outcome = kill(world, own, KINDS[kind], source.uniform(0, seconds), source.expovariate(1 / 0.02))
            if outcome:
                shutil.rmtree(own)
                return outcome
        raise AssertionError("no training lasted until it was to be killed")

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(count)))


def main() -> None:
    """Kill as often as asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs; an eighth as many of every other")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for number in (INT, HUP):  # which a shell's background, or nohup, would have every child ignore
        signal.signal(number, signal.SIG_DFL)
    row = "{:<17} {:<10} {:>5} {:>9} {:>14} {:>8}\n".format
    sys.stdout.write(row("signal", "world", "kills", "in a save", "before epoch 1", "failures"))
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        worlds = {}
        for world_name, (backend, images, epochs) in WORLDS.items():
            folder = Path(name) / world_name
            world = World(folder, backend, images, epochs)
            worlds[world_name] = world, folder, duration(world, folder)
        for kind in KINDS:
            total = options.kills if kind == "SIGKILL" else options.kills // 8
            for world_name, share in (("saving", 2), ("training", 4), ("fused", 4)):
                world, folder, seconds = worlds[world_name]
                outcomes = kills(world, folder, kind, total // share, seconds, options.seed)
                saves, early = sum(o.in_save for o in outcomes), sum(not o.epochs for o in outcomes)
                bad = [o.failure for o in outcomes if o.failure]
                failures += bad
                sys.stdout.write(row(kind, world_name, len(outcomes), saves, early, len(bad)))
                sys.stdout.flush()
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
