"""Mean and maximum over square windows that do not overlap; image by image.

``window`` is handed on as a literal where it is 2: the compiler unrolls and vectorizes the loops over it.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@helper
def _mean(x: Floats, window: int, out: Floats) -> None:
    maps, rows, columns = out.shape
    part = np.float32(1) / np.float32(window * window)
    for c in range(maps):
        for p in range(rows):
            above, below = x[c, p * window : (p + 1) * window], out[c, p]
            for q in range(columns):
                total = np.float32(0)
                for r in range(window):
                    for s in range(window):
                        total += above[r, q * window + s]
                below[q] = total * part


@kernel
def mean_forward(x: Floats, window: int, out: Floats) -> None:
    """Write the mean of each window of ``x`` (N, C, H, W) into ``out`` (N, C, P, Q)."""
    for n in prange(len(x)):
        if window == 2:
            _mean(x[n], 2, out[n])
        else:
            _mean(x[n], window, out[n])


@helper
def _spread(dy: Floats, window: int, dx: Floats) -> None:
    maps, rows, columns = dy.shape
    part = np.float32(1) / np.float32(window * window)
    for c in range(maps):
        for p in range(rows):
            below = dy[c, p]
            for r in range(window):
                above = dx[c, p * window + r]
                for q in range(columns):
                    for s in range(window):
                        above[q * window + s] = below[q] * part


@kernel
def mean_backward(dy: Floats, window: int, dx: Floats) -> None:
    """Spread ``dy`` (N, C, P, Q) evenly over the windows of ``dx`` (N, C, H, W)."""
    for n in prange(len(dy)):
        if window == 2:
            _spread(dy[n], 2, dx[n])
        else:
            _spread(dy[n], window, dx[n])


@helper
def _maximum(x: Floats, window: int, out: Floats, argmax: Bytes) -> None:
    maps, rows, columns = out.shape
    for c in range(maps):
        for p in range(rows):
            for q in range(columns):
                best, where = x[c, p * window, q * window], 0
                for position in range(1, window * window):
                    value = x[c, p * window + position // window, q * window + position % window]
                    if value > best or (value != value and best == best):  # the first NaN wins and stays
                        best, where = value, position
                out[c, p, q] = best
                argmax[c, p, q] = where


@kernel
def max_forward(x: Floats, window: int, out: Floats, argmax: Bytes) -> None:
    """Write the maximum of each window of ``x`` (N, C, H, W) and its first position, both (N, C, P, Q)."""
    for n in prange(len(x)):
        if window == 2:
            _maximum(x[n], 2, out[n], argmax[n])
        else:
            _maximum(x[n], window, out[n], argmax[n])


@helper
def _place(dy: Floats, argmax: Bytes, window: int, dx: Floats) -> None:
    maps, rows, columns = dy.shape
    dx[:] = 0
    for c in range(maps):
        for p in range(rows):
            for q in range(columns):
                row, column = divmod(int(argmax[c, p, q]), window)
                dx[c, p * window + row, q * window + column] = dy[c, p, q]


@kernel
def max_backward(dy: Floats, argmax: Bytes, window: int, dx: Floats) -> None:
    """Write ``dy`` (N, C, P, Q) where each window of ``dx`` (N, C, H, W) had its maximum, and zero elsewhere."""
    for n in prange(len(dy)):
        if window == 2:
            _place(dy[n], argmax[n], 2, dx[n])
        else:
            _place(dy[n], argmax[n], window, dx[n])
