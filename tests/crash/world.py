"""A small data set, the command that trains on it, and what every epoch of it must give, bit by bit."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from lenet import cli, storage
from lenet.data import FILES, write_idx

SIZE = 16
LIMIT = 120  # seconds that any process may take


def make_data(folder: Path, images: int) -> Path:
    """Write ``images`` training images and as many to test, of three classes: noise, and a bright corner for each."""
    source = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for image_file, label_file in (FILES[:2], FILES[2:]):
        labels = (np.arange(images) % 3).astype(np.uint8)
        pixels = source.integers(0, 60, (images, SIZE, SIZE), dtype=np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[2 + 7 * row : 7 + 7 * row, 2 + 7 * column : 7 + 7 * column] += 180
        write_idx(folder / image_file, pixels)
        write_idx(folder / label_file, labels)
    return folder


def digest(saved: storage.Saved) -> str:
    """Return a checksum of all that a run has reached: weights, checkpoint, history; not of the time that it took."""
    assert saved.state is not None
    content = hashlib.sha256(saved.weights.tobytes())
    for array in (saved.state.parameters, saved.state.moments, saved.state.weights):
        content.update(array.tobytes())
    content.update(repr([replace(record, seconds=0.0) for record in saved.history]).encode())
    return content.hexdigest()


def hidden(path: Path) -> list[str]:
    """Return what a training has left in a folder besides the network."""
    return sorted(entry.name for entry in path.glob(".*"))


class World:
    """A training of some epochs on a small data set, undisturbed and disturbed.

    Attributes
    ----------
    epochs : how many
    wanted : the `digest` after each of them, in a run that nothing disturbs
    """

    def __init__(self, folder: Path, backend: str, images: int, epochs: int) -> None:
        self.epochs = epochs
        self.data = make_data(folder / "data", images)
        self._options = ("--backend", backend, "--batch-size", "16", "--epochs", str(epochs))
        path = folder / "undisturbed"
        command = [sys.executable, __file__, *self.arguments(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
        self.wanted: list[str] = json.loads(done.stdout.splitlines()[-1])
        assert len(set(self.wanted)) == epochs, "every epoch changes the network"

    def arguments(self, path: Path, *, resume: bool = False) -> list[str]:
        """Return the arguments of ``lenet`` for the training in ``path``, or for what is left of it."""
        start = ["train", "--path", str(path)]
        return [*start, "--resume"] if resume else [*start, "--data", str(self.data), *self._options]

    def begin(self, path: Path, errors: Path, **environment: str) -> "subprocess.Popen[str]":
        """Start the training as a user does, and return once it has said what it is about to train."""
        command = [sys.executable, "-u", "-m", "lenet", *self.arguments(path)]
        with errors.open("w") as file:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=file, text=True, env={**os.environ, **environment}
            )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("data"), errors.read_text()
        return process

    def reached(self, path: Path) -> int:
        """Return the number of epochs that a folder holds, after a check that it holds them whole and none by half."""
        if not storage.is_network(path):
            return 0
        saved = storage.load(path, with_state=True)
        assert digest(saved) == self.wanted[len(saved.history) - 1]
        return len(saved.history)

    def complete(self, path: Path) -> None:
        """Train what is left, and check that it ends with the bits of the undisturbed run and leaves nothing behind."""
        before = self.reached(path)
        command = [sys.executable, "-m", "lenet", *self.arguments(path, resume=before > 0)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr
        assert self.reached(path) == self.epochs
        if before < self.epochs:
            assert (path / "curves.png").exists()
            assert not hidden(path)


def printed_epochs(errors: str) -> int:
    """Return the number of the last epoch that a training has said is done."""
    return max(map(int, re.findall(r"^ *(\d+)/\d+ ", errors, re.MULTILINE)), default=0)


def signal_code(number: int) -> int:
    """Return the exit code of a process that a signal ends without its consent, as `subprocess` counts."""
    return -number if number == signal.SIGKILL else 128 + number


def main() -> None:
    """Train as ``lenet`` does, and print the digest of the folder after each epoch."""
    seen: dict[int, str] = {}
    save = storage.save

    def watched(path: Path, *arguments: object, **options: object) -> None:
        save(path, *arguments, **options)  # type: ignore[arg-type]
        saved = storage.load(path, with_state=True)
        seen[len(saved.history)] = digest(saved)

    storage.save = watched
    try:
        cli.main(sys.argv[1:])
    finally:
        print(json.dumps([seen[epoch] for epoch in sorted(seen)]))  # noqa: T201


if __name__ == "__main__":
    # NumPy is loaded here before the command line can see to it, see `lenet.cli.main`.
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main()
