"""Random numbers that depend on nothing but (seed, purpose, epoch).

Every stream is a counter-based Philox generator with a key of its own, so that an epoch draws the same numbers on every
backend, whatever ran before it, and a resumed run continues as if it had never stopped. Only raw 64-bit output is used:
NumPy keeps the bits of a bit generator stable over versions, and the methods of ``Generator`` not.
"""

from enum import IntEnum
from math import prod

import numpy as np
from numpy.typing import NDArray

_TO_UNIT = 2.0**-53  # 53 random bits fill the mantissa of a float64


class Purpose(IntEnum):
    """What a stream is drawn for. The numbers are part of every saved result: never reuse or renumber them."""

    INITIALIZATION = 1
    ORDER = 2
    DISTORTION = 3
    VALIDATION = 4
    REPLAY = 5


def stream(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Philox:
    """Return the bit generator of ``purpose`` in ``epoch`` of the run with ``seed`` (each below 2**64 and 2**32)."""
    key = np.array([seed, (int(purpose) << 32) | epoch], dtype=np.uint64)
    return np.random.Philox(key=key)


def uniform(source: np.random.Philox, low: float, high: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw an array of ``shape``, uniform in [low, high)."""
    unit = (source.random_raw(prod(shape)) >> np.uint64(11)).astype(np.float64) * _TO_UNIT
    return (low + (high - low) * unit).reshape(shape)


def permutation(source: np.random.Philox, count: int) -> NDArray[np.int32]:
    """Draw a random order of ``count`` things, as int32 indices."""
    return np.argsort(source.random_raw(count), kind="stable").astype(np.int32)
