"""Lets every system call fail that changes the folder of a training: ``python tests/crash/faults.py``.

``faults.c`` stands between Python and the C library. A training of two epochs makes some hundreds of calls: opening a
file to write, write, fsync, rename, mkdir, rmdir, unlink, flock. One run after the other, each of them fails: alone, or
with all that follow (a disk that stays full); or the process is killed there. Each time the folder must hold the old
epoch or the new one, whole; an error must be told in one line, with exit code 1; and when the fault is over, a training
must end with the bits of one that nothing has disturbed. Every run is a process of its own, forked from this one.
"""

import argparse
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from world import World, hidden, printed_epochs

from lenet import cli, curves
from lenet.errors import LenetError

KILL = 0
ERRORS = {"killed": KILL, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "EROFS": errno.EROFS}


def compiler() -> str | None:
    """Return a C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")


@dataclass(frozen=True)
class Fault:
    """Call ``nth`` (from 1) of a training fails with ``error``, or kills it; so do all later ones if it is lasting."""

    nth: int
    error: int
    lasting: bool


class Trainer:
    """Runs trainings with faults, each in a fork of this process, into which ``faults.c`` is loaded."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._library.fault_arm.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int)
        self._library.fault_calls.restype = ctypes.c_long
        self._folder = folder
        self.world = World(folder, "numpy", images=48, epochs=2)
        curves.draw = lambda history: b"a picture"  # what is tested is how it is written

    def train(self, path: Path, fault: Fault, *, resume: bool = False) -> tuple[int, str, int]:
        """Return exit code, standard error and the number of calls."""
        errors, counted = self._folder / "errors", self._folder / "calls"
        child = os.fork()
        if not child:
            try:
                with errors.open("w") as file:
                    os.dup2(file.fileno(), 2)
                    os.dup2(file.fileno(), 1)
                self._library.fault_arm(os.fsencode(path), fault.nth, fault.error, fault.lasting)
                cli.main(self.world.arguments(path, resume=resume))
            except SystemExit as end:
                counted.write_text(str(self._library.fault_calls()))
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(int(end.code or 0))
            finally:
                os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, errors.read_text(), int(counted.read_text()) if code >= 0 else 0

    def calls(self) -> int:
        """Return how many calls an undisturbed training makes."""
        path = self._folder / "counted"
        code, said, calls = self.train(path, Fault(0, 0, False))
        assert code == 0, said
        assert self.world.reached(path) == self.world.epochs
        return calls

    def check(self, fault: Fault) -> int:
        """Train with a fault, then without, check all, and return the exit code of the first."""
        path = self._folder / "network"
        shutil.rmtree(path, ignore_errors=True)
        code, said, _ = self.train(path, fault)
        epochs = self.world.reached(path)
        assert epochs >= printed_epochs(said), said
        if fault.error == KILL:
            assert code == -signal.SIGKILL, said
        else:
            assert code in (0, 1), said
            assert "Traceback" not in said, said
            assert "Exception" not in said, said
            assert ("Error: " in said) == (code == 1), said
            if code:
                assert said.count("Error: ") == 1, said
                assert said.splitlines()[-1].startswith(f"Error: cannot save in {path}: {os.strerror(fault.error)}"), (
                    said
                )
            else:
                assert epochs == self.world.epochs
        again, said, _ = self.train(path, Fault(0, 0, False), resume=epochs > 0)
        assert again == 0, said
        assert self.world.reached(path) == self.world.epochs
        if epochs < self.world.epochs:
            assert (path / "curves.png").read_bytes() == b"a picture"
            assert not hidden(path)
        return code


def main() -> None:
    """Let every call fail, or every so-manieth, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every Nth call only")
    options = parser.parse_args()
    shared = Path("/dev/shm")  # in memory, where there is such a place: fsync is called as anywhere
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as name:
        if "LD_PRELOAD" not in os.environ:
            library = Path(name) / "faults.so"
            source = Path(__file__).with_suffix(".c")
            subprocess.run([compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
            # NumPy is loaded here before the command line can see to its threads, see `lenet.cli.main`.
            environment = {**os.environ, "LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
        trainer = Trainer(Path(name))
        calls = trainer.calls()
        failures = []
        row = "{:<8} {:<7} {:>5} {:>12} {:>6} {:>8}\n".format
        sys.stdout.write(f"a training of {trainer.world.epochs} epochs makes {calls} calls\n")
        sys.stdout.write(row("fault", "lasting", "runs", "told, exit 1", "borne", "failures"))
        for error_name, error in ERRORS.items():
            for lasting in (False, True)[: 1 if error == KILL else 2]:
                codes: Counter[int] = Counter()
                bad = 0
                for nth in range(1 + (error + lasting) % options.every, calls + 1, options.every):
                    try:
                        codes[trainer.check(Fault(nth, error, lasting))] += 1
                    except (AssertionError, LenetError):
                        bad += 1
                        failures.append(f"{error_name} {nth} {lasting}: {traceback.format_exc()}")
                sys.stdout.write(row(error_name, str(lasting), codes.total() + bad, codes[1], codes[0], bad))
                sys.stdout.flush()
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
