"""The squashing functions and their derivatives, in blocks, in place."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel

Floats = NDArray[np.float32]

SIGMOID, TANH, SCALED_TANH, RELU = range(4)

BLOCK = 4096  # the same for every number of threads, and so is which numbers are computed as vectors

AMPLITUDE = np.float32(1.7159)
SLOPE = np.float32(2 / 3)

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH = np.float32(355 / 512)  # nine bits: n LN2_HIGH is exact
LN2_LOW = np.float32(0.6931471805599453 - 355 / 512)


@helper
def _expm1(x: np.float32) -> np.float32:
    """Return exp(x) - 1 with a relative error below 2e-7, as arithmetic that vectorizes.

    With x = n ln 2 + r and |r| <= (ln 2) / 2, exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1). For exp(r) - 1 stands its
    Taylor series up to r^7 / 7!, so that nothing cancels near zero. Below -87 and above 88, where float32 ends, the
    result stays what it is there.
    """
    bounded = min(np.float32(88), max(np.float32(-87), x))
    n = np.rint(bounded * LOG2_E)
    r = (bounded - n * LN2_HIGH) - n * LN2_LOW
    series = np.float32(1 / 5040)
    series = series * r + np.float32(1 / 720)
    series = series * r + np.float32(1 / 120)
    series = series * r + np.float32(1 / 24)
    series = series * r + np.float32(1 / 6)
    series = series * r + np.float32(1 / 2)
    series = series * r * r + r
    power = np.int32((np.int32(n) + 127) << 23).view(np.float32)  # 2^n, written as the bits of its exponent
    result = power * series + (power - np.float32(1))
    return result if x == x else x  # NaN stays NaN


@helper
def _sigmoid(x: np.float32) -> np.float32:
    return np.float32(1) / (np.float32(2) + _expm1(-x))


@helper
def _tanh(x: np.float32) -> np.float32:
    t = _expm1(np.float32(2) * x)
    return t / (t + np.float32(2))


@helper
def _apply(kind: int, y: Floats) -> None:
    if kind == SIGMOID:
        for i in range(len(y)):
            y[i] = _sigmoid(y[i])
    elif kind == TANH:
        for i in range(len(y)):
            y[i] = _tanh(y[i])
    elif kind == SCALED_TANH:
        for i in range(len(y)):
            y[i] = AMPLITUDE * _tanh(SLOPE * y[i])
    elif kind == RELU:
        for i in range(len(y)):
            y[i] = np.float32(0) if y[i] < 0 else y[i]


@helper
def _multiply_by_derivative(kind: int, y: Floats, dx: Floats) -> None:
    one = np.float32(1)
    if kind == SIGMOID:
        for i in range(len(y)):
            dx[i] *= y[i] * (one - y[i])
    elif kind == TANH:
        for i in range(len(y)):
            dx[i] *= one - y[i] * y[i]
    elif kind == SCALED_TANH:
        for i in range(len(y)):
            dx[i] *= SLOPE * (AMPLITUDE - y[i] * y[i] / AMPLITUDE)
    elif kind == RELU:
        for i in range(len(y)):
            dx[i] *= one if y[i] > 0 else np.float32(0)


@kernel
def forward(kind: int, x: Floats, out: Floats) -> None:
    """out = f(x), for ``x`` and ``out`` (count,), which may be the same.

    A block is first copied, then changed in place: between arrays that overlap, a loop would not run as vectors.
    """
    for block in prange((len(x) + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _copy(x[part], out[part])
        _apply(kind, out[part])


@kernel
def backward(kind: int, dy: Floats, y: Floats, dx: Floats) -> None:
    """dx = dy f'(x), with the derivative from the output ``y``; all (count,); ``dx`` may be ``dy``."""
    for block in prange((len(y) + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _copy(dy[part], dx[part])
        _multiply_by_derivative(kind, y[part], dx[part])


@helper
def _copy(source: Floats, target: Floats) -> None:
    for i in range(len(source)):
        target[i] = source[i]
