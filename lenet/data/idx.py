"""The IDX format of the MNIST files: a big-endian header of type and sizes, then the numbers, row-major.

Layout, after the specification that MNIST came with: two zero bytes, a byte for the type, a byte for the number of
dimensions, one 32-bit size for each, the elements.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.files import open_plain

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Type code in the header, and the type of the elements."""

MAX_BYTES = 1 << 32
MAX_DIMENSIONS = 8
CHUNK = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class IdxFile:
    """What a file held: the array in native byte order, and the SHA-256 of the unpacked bytes."""

    array: NDArray[Any]
    sha256: str


def read_idx(path: Path) -> IdxFile:
    """Read an IDX file, plain or gzipped; its content, not its name, tells which.

    At most what the header declares is ever read or unpacked, plus one byte.

    Raises
    ------
    LenetError
        When the file is missing, unreadable, no IDX file, shorter or longer than its header says, or damaged.
    """
    try:
        with open_plain(path) as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return _read(raw, path)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read(unpacked, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LenetError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise LenetError(f"{path}: {error.strerror or error}") from error


def _read(file: IO[bytes] | gzip.GzipFile, path: Path) -> IdxFile:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES or not 1 <= start[3] <= MAX_DIMENSIONS:
        raise LenetError(f"{path}: not an IDX file (it begins with {start.hex(' ') or 'nothing'})")
    dtype, dimensions = np.dtype(TYPES[start[2]]), start[3]
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise LenetError(f"{path}: ends within its header")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    expected = prod(shape) * dtype.itemsize
    declared = f"{' x '.join(map(str, shape))} elements of {dtype.itemsize} bytes"
    if dtype.itemsize * prod(max(size, 1) for size in shape) > MAX_BYTES:  # NumPy bounds an empty array likewise
        raise LenetError(f"{path}: its header declares {declared}, more than {MAX_BYTES} bytes")
    body = bytearray()
    while len(body) <= expected and (chunk := file.read(min(CHUNK, expected + 1 - len(body)))):
        body += chunk  # piece by piece: a header may declare far more than there is
    if len(body) != expected:
        fault = "ends early" if len(body) < expected else "goes on"
        raise LenetError(f"{path}: {fault}; its header declares {declared}")
    digest = hashlib.sha256(start + sizes)
    digest.update(body)
    array = np.frombuffer(body, dtype).reshape(shape)
    return IdxFile(array.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest())


def write_idx(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a plain IDX file.

    Raises
    ------
    ValueError
        When IDX has no code for the array's type.
    """
    codes = {np.dtype(name).newbyteorder("="): code for code, name in TYPES.items()}
    native = array.dtype.newbyteorder("=")
    if native not in codes or not 1 <= array.ndim <= MAX_DIMENSIONS:
        raise ValueError(f"IDX cannot hold {array.ndim} dimensions of {array.dtype}")
    header = bytes([0, 0, codes[native], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + array.astype(TYPES[codes[native]]).tobytes())
