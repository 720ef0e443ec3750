"""Which searches are at work in a folder: each renews a file there, and is given up when it no longer does.

Ages are differences between times that the file system gave, never between clocks of two machines.
"""

import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = "machines"
SILENCE = 60.0
"""Seconds after which a search that has not renewed its file is taken for dead."""


class Presence:
    """The file of one search, under a name of its own."""

    def __init__(self, path: Path) -> None:
        host = re.sub(r"[^\w.-]", "_", platform.node())
        self.name = f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._folder = path / FOLDER

    def renew(self) -> None:
        """Show that this search is at work."""
        (self._folder / self.name).write_bytes(b"at work")

    def silent(self, name: str) -> bool:
        """Whether another search has not been heard of for too long."""
        ours, theirs = (_written(self._folder / each) for each in (self.name, name))
        return theirs is None or (ours is not None and ours - theirs > SILENCE)


@contextmanager
def present(path: Path) -> Iterator[Presence]:
    """Be at work in the folder ``path`` during a block."""
    (path / FOLDER).mkdir(parents=True, exist_ok=True)
    presence = Presence(path)
    presence.renew()
    try:
        yield presence
    finally:
        with suppress(OSError):
            (path / FOLDER / presence.name).unlink()
            (path / FOLDER).rmdir()  # unless others are at work


def _written(file: Path) -> float | None:
    """Return when a file was last written; of an opened file, for network file systems answer from a cache else."""
    try:
        with file.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime
    except OSError:
        return None
