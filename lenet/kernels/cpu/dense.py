"""Fully connected layers: dot products forward, weighted sums of rows backward."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel, reordering_helper

Floats = NDArray[np.float32]

BLOCK = 4  # images that share one pass over the weights


@reordering_helper
def _dot(x: Floats, weight: Floats) -> np.float32:
    total = np.float32(0)
    for d in range(len(weight)):
        total += x[d] * weight[d]
    return total


@reordering_helper
def _dot_block(x: Floats, weight: Floats) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the dot products of four rows of ``x`` with one row of weights."""
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    t0 = t1 = t2 = t3 = np.float32(0)
    for d in range(len(weight)):
        t0 += x0[d] * weight[d]
        t1 += x1[d] * weight[d]
        t2 += x2[d] * weight[d]
        t3 += x3[d] * weight[d]
    return t0, t1, t2, t3


@helper
def _forward_block(x: Floats, weight: Floats, bias: Floats, out: Floats) -> None:
    for k in range(len(bias)):
        if len(x) == BLOCK:
            t0, t1, t2, t3 = _dot_block(x, weight[k])
            out[0, k], out[1, k], out[2, k], out[3, k] = t0 + bias[k], t1 + bias[k], t2 + bias[k], t3 + bias[k]
        else:
            for n in range(len(x)):
                out[n, k] = _dot(x[n], weight[k]) + bias[k]


@kernel
def forward(x: Floats, weight: Floats, bias: Floats, out: Floats) -> None:
    """out = x weight^T + bias, for ``x`` (N, D), ``weight`` (K, D), ``bias`` (K,), ``out`` (N, K)."""
    for block in prange((len(x) + BLOCK - 1) // BLOCK):
        images = slice(block * BLOCK, (block + 1) * BLOCK)
        _forward_block(x[images], weight, bias, out[images])


@helper
def _weighted_sum(weight: Floats, rows: Floats, out: Floats) -> None:
    """out = sum over t of weight[t] rows[t], four rows a pass to spare memory traffic."""
    count = len(weight)
    out[:] = 0
    t = 0
    while t + 4 <= count:
        w0, w1, w2, w3 = weight[t], weight[t + 1], weight[t + 2], weight[t + 3]
        r0, r1, r2, r3 = rows[t], rows[t + 1], rows[t + 2], rows[t + 3]
        for d in range(len(out)):
            out[d] += w0 * r0[d] + w1 * r1[d] + w2 * r2[d] + w3 * r3[d]
        t += 4
    while t < count:
        w0, r0 = weight[t], rows[t]
        for d in range(len(out)):
            out[d] += w0 * r0[d]
        t += 1


@reordering_helper
def _total(values: Floats) -> np.float32:
    total = np.float32(0)
    for n in range(len(values)):
        total += values[n]
    return total


@kernel
def backward(dy: Floats, x: Floats, weight: Floats, dx: Floats, dweight: Floats, dbias: Floats) -> None:
    """dx = dy weight, dweight = dy^T x, dbias = sum of dy over the batch; ``dy`` (N, K), the others as in `forward`."""
    for n in prange(len(dy)):
        _weighted_sum(dy[n], weight, dx[n])
    for k in prange(len(weight)):
        _weighted_sum(dy[:, k], x, dweight[k])
        dbias[k] = _total(dy[:, k])
