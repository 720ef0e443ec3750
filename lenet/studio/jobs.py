"""What runs in the background for minutes: one job at a time, that can be stopped."""

import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np

from lenet import backends
from lenet.data import Dataset
from lenet.errors import LenetError
from lenet.executors import Executor, choose
from lenet.executors.check import self_check
from lenet.lenet5 import lenet5
from lenet.settings import Settings
from lenet.storage import is_network
from lenet.studio.wire import Refusal

LAST_SECONDS = 5.0  # that a job has to put its things away when the studio ends
A_MOMENT = 0.2  # seconds from when a job has told its end to when it is over


class Stopped(Exception):
    """Raised within a job that is to end."""


class Workshop:
    """Where training is done, one job at a time: all of them want all processors."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self, begin: Callable[[], None], job: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Call ``begin``, then run a job in the background; what it raises is told to ``failed``, in one line.

        Raises
        ------
        Refusal
            409, when another one is running.
        """
        if self._thread is not None:
            self._thread.join(A_MOMENT)
        with self._lock:
            if self.busy:
                raise Refusal(409, "a training is running; stop it, or wait for its end")
            self._stopping.clear()
            begin()
            thread = threading.Thread(target=self._run, args=(job, failed), daemon=True)
            thread.start()
            self._thread = thread  # started already: others may be about to join it

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self, job: Callable[[], None], failed: Callable[[str], None]) -> None:
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges is told by its cost
                job()
        except LenetError as error:
            failed(str(error))
        except Exception as error:
            failed(f"unexpected {type(error).__name__}: {error}")

    def stop(self) -> None:
        """Have the running job end soon."""
        self._stopping.set()

    def check(self) -> None:
        """Raise `Stopped` if the job that calls is to end."""
        if self._stopping.is_set():
            raise Stopped

    def close(self) -> None:
        """End the running job, and wait for it a little."""
        self.stop()
        if self._thread is not None:
            self._thread.join(LAST_SECONDS)

    def executor(self, settings: Settings, dataset: Dataset, classes: int) -> Executor:
        """Return the fastest executor that there is to train such a network, checked and compiled."""
        network = lenet5(settings.network, dataset.height, dataset.width, classes)
        backend = backends.select(threads=self._threads)
        executor = choose(network, backend, settings.training.rule(), averaging=settings.training.average > 0)
        self_check(executor, distorted=settings.distortion.active)
        return executor


def new_folder(name: str) -> Path:
    """Make a folder that was not there, where lenet was started: ``name``, ``name-2``, and so on.

    Raises
    ------
    LenetError
        When none can be made.
    """
    for number in count(1):
        folder = Path.cwd() / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise LenetError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        return folder
    raise AssertionError("numbers do not end")


def remove_unless_saved(folder: Path, *others: str) -> None:
    """Remove a new folder that no network was saved in, with the ``others`` of its files."""
    with suppress(OSError, LenetError):
        if not is_network(folder):
            for name in others:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
