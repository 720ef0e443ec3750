"""One training at a time in a folder: a lock that ends with its process, however that ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lenet.errors import LenetError

FILE = ".lock"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other trainings out of the folder ``path`` while a block runs; create it if need be.

    The operating system holds the lock, on the file ``.lock``, and releases it when the process ends: a file that a
    killed process has left locks nobody out. The file goes with the block, and so do the folders that were created for
    it, if they are empty still. Readers do not ask for the lock. On a file system without locks nobody is kept out.

    Raises
    ------
    LenetError
        When another process holds the lock, or the folder cannot be written.
    """
    created: list[Path] = []
    try:
        try:
            created += [folder for folder in (path, *path.parents) if not folder.exists()]
            descriptor = _open(path)
        except FileExistsError as error:
            raise LenetError(f"{path} is not a folder; choose another --path") from error
        except OSError as error:
            raise LenetError(f"cannot save in {path}: {error.strerror}; choose another --path") from error
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps open files; an empty one is left there, and does no harm
                (path / FILE).unlink()
            os.close(descriptor)  # after the file is gone: else another process could hold a lock on what is unlinked
    finally:
        for folder in created:
            with suppress(OSError):  # not empty: something was saved
                folder.rmdir()


def _open(path: Path) -> int:
    """Return the descriptor of the lock file, locked."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # whoever held the lock has just removed the folder
            descriptor = os.open(path / FILE, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            with ExitStack() as stack:
                stack.callback(os.close, descriptor)
                if not _lock(descriptor):
                    raise LenetError(
                        f"another training is at work in {path}; wait for its end, or choose another --path"
                    )
                if os.path.samestat(os.fstat(descriptor), (path / FILE).stat()):  # else it was removed meanwhile
                    stack.pop_all()
                    return descriptor


def _lock(descriptor: int) -> bool:
    """Lock an open file without waiting, and return whether nobody else holds it."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # this file system has no locks
    return True
