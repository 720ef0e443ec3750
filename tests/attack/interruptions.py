"""Fine-tuning and training in the studio, interrupted at random moments, and what must be there then."""

import hashlib
import json
import random
import shutil
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from attacks import teach
from studio_process import Studio, make_data

from lenet import storage
from lenet.data import load_dataset
from lenet.errors import LenetError
from lenet.studio.drawings import RECORD
from lenet.studio.teach import ORIGIN

KINDS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "closed page": None}
EPOCHS = 20  # of a training from the page


@dataclass(frozen=True)
class Outcome:
    """How an interruption went: whether a new network was there, whether it met a save, and what was wrong then."""

    new: bool
    in_save: bool
    failure: str = ""


def digest(path: Path) -> dict[str, str]:
    """Return the checksums of all files below a folder."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file()
    }


class World:
    """A network, a small data set and some drawings, and how long the studio takes for what is to be interrupted."""

    def __init__(self, folder: Path, images: int = 600) -> None:
        self.folder = folder
        self.data = make_data(folder / "data", images)
        self.old = folder / "old"
        shutil.copytree(storage.PRETRAINED, self.old)
        self.kept = digest(self.old)
        with self.start(self.fresh("timed")) as studio:
            draw(studio)
            (folder / "drawings").mkdir()
            self.drawings = studio.record()
            (folder / "drawings" / RECORD).write_bytes(self.drawings)
            self.seconds = {}
            for name, act in ACTIONS.items():
                began = time.monotonic()
                act(studio)
                self.seconds[name] = time.monotonic() - began
            studio.end()

    def fresh(self, name: str) -> Path:
        """Return a new folder to start a studio in, with the drawings in it."""
        folder = self.folder / name
        folder.mkdir()
        if (self.folder / "drawings").exists():
            shutil.copytree(self.folder / "drawings", folder / "drawings")
        return folder

    def start(self, folder: Path, path: Path | None = None) -> Studio:
        """Start the studio on the old network, or on another one."""
        return Studio(folder, "--path", path or self.old, "--data", self.data, "--threads", "1")

    def check(self, folder: Path, told: list[str]) -> bool:
        """Check a folder after an interruption, and the networks ``told`` to be there; return whether one is new."""
        assert digest(self.old) == self.kept
        assert (folder / "drawings" / RECORD).read_bytes() == self.drawings
        load_dataset(folder / "drawings")
        found = [path for path in folder.iterdir() if path.is_dir() and path.name != "drawings"]
        new = [path for path in found if storage.is_network(path)]
        for path in new:
            saved = storage.load(path, with_state=True)
            assert saved.state is not None
            assert len(saved.history) == saved.description.settings.training.epochs or path.name == "network"
            if path.name != "network":
                assert json.loads((path / ORIGIN).read_text())["network"] == str(self.old)
        for path in set(found) - set(new):
            left = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} - {ORIGIN}
            assert not left, f"{path.name} is no network, but holds {left}"
        for line in told:
            assert any(path.name == line for path in new), f"{line} was said to be saved; there are {new}"
        for path in new or [self.old]:
            with self.start(folder, path) as studio:
                assert studio.ask("/api/think", {"test": 0}).status == 200
                assert studio.end() == 0, studio.said()
                assert not studio.said()
        return bool(new)


def draw(studio: Studio) -> None:
    """Keep ten drawings of a 1 with a long upstroke."""
    rng = np.random.default_rng(7)
    for _ in range(10):
        points = np.array([[0.3, 0.5], [0.6, 0.15], [0.6, 0.85]]) + rng.normal(0, 0.025, (3, 2))
        strokes = [{"tool": "pen", "points": points.tolist()}]
        assert studio.ask("/api/drawings", {"strokes": strokes, "label": 1}).status == 201


def keep(studio: Studio) -> str:
    """Keep what fine-tuning has brought, and return the name of its folder."""
    answer = studio.ask("/api/finetune/keep", {})
    assert answer.status == 200, answer.body
    return str(answer.json["saved"])


def train(studio: Studio) -> str:
    """Train a new network, to the end, and return the name of its folder."""
    assert studio.ask("/api/training", {"epochs": EPOCHS}).status == 202
    assert studio.wait("/api/training")["state"] == "done"
    return "network"


ACTIONS: dict[str, Callable[[Studio], Any]] = {"teach": teach, "keep": keep, "train": train}
"""What is interrupted, in this order; keeping begins when teaching is done."""


def interrupt(world: World, folder: Path, action: str, kind: str, moment: float) -> Outcome:
    """Start a studio, begin an action, interrupt it after ``moment`` seconds, and check all."""
    told: list[str] = []
    ready = threading.Event()

    def act(studio: Studio) -> None:
        with suppress(OSError, AssertionError, ValueError, KeyError):  # the studio may end at any moment
            if action == "keep":
                teach(studio)
            ready.set()
            if name := ACTIONS[action](studio):
                told.append(name)
        ready.set()

    number = KINDS[kind]
    with world.start(folder) as studio:
        if number is None:
            number, code = signal.SIGINT, close_page(studio, action, moment)
        else:
            thread = threading.Thread(target=act, args=(studio,))
            thread.start()
            ready.wait()
            time.sleep(moment)
            code = studio.end(number)
            thread.join()
        in_save = any(folder.glob("*/.next")) or any(folder.glob("*/.commit"))
        try:
            assert not studio.said(), studio.said()
            assert code == (-number if number == signal.SIGKILL else 0)
            return Outcome(world.check(folder, told), in_save)
        except (AssertionError, LenetError):
            return Outcome(False, in_save, traceback.format_exc())


def close_page(studio: Studio, action: str, moment: float) -> int:
    """Ask for an action and leave before the answer; end the studio when it is done, and return its exit code."""
    path = {"teach": "/api/finetune", "keep": "/api/finetune/keep", "train": "/api/training"}[action]
    if action == "keep":
        teach(studio)
    with socket.create_connection(("127.0.0.1", studio.port)) as page:
        page.sendall(studio.request(path, {"epochs": EPOCHS} if action == "train" else {}))
        time.sleep(moment)
    for job in ("finetune", "training"):
        studio.wait(f"/api/{job}")
    return studio.end()


def interruptions(world: World, action: str, kind: str, count: int, seed: int) -> list[Outcome]:
    """Interrupt an action ``count`` times, two at a time."""

    def one(number: int) -> Outcome:
        moment = random.Random(f"{seed} {action} {kind} {number}").uniform(0, 1.5 * world.seconds[action])
        folder = world.fresh(f"{action} {kind} {number}".replace(" ", "-"))
        outcome = interrupt(world, folder, action, kind, moment)
        if not outcome.failure:
            shutil.rmtree(folder)
        return outcome

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(count)))
