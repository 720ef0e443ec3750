"""The NumPy backend: the reference that the other backends are held to."""

import platform
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.backends.array import ArrayBackend
from lenet.backends.base import Array


class NumpyBackend(ArrayBackend):
    """Array code on the CPU, in float32, or in float64 for checks; matrix products run on NumPy's BLAS."""

    name = "numpy"

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        super().__init__(np, dtype)
        self.device = f"cpu ({platform.machine()}, NumPy {np.__version__})"

    def to_device(self, host: NDArray[Any], out: Array | None = None) -> Array:
        if out is None:
            return np.array(host, order="C")
        out[...] = host
        return out

    def to_host(self, array: Array) -> NDArray[Any]:
        return np.array(array)

    def synchronize(self) -> None:
        pass
