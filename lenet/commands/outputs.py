"""Files that commands write where the user says."""

import os
from pathlib import Path

from lenet.errors import LenetError


def refuse_unwritable(file: Path) -> None:
    """Raise where a file could not be written, before minutes of work for it."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise LenetError(f"cannot write {file}: no such folder, or no permission")


def write_file(file: Path, content: bytes) -> None:
    """Write a file, or raise LenetError."""
    try:
        file.write_bytes(content)
    except OSError as error:
        raise LenetError(f"cannot write {file}: {error.strerror or error}") from error
