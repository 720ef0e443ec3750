"""Convolution in tiles of 16 images with the images innermost: all work is on long contiguous runs of numbers.

A tile holds its maps as (map, row, column, image). What lies r rows down and s columns right is then a fixed number of
places ahead, wherever one stands. A *tap* t (one weight of a kernel, at row r and column s) thus joins a whole output
map k to one run of an input map, which begins at ``start[t]``; with j running over the output map::

    forward          y[k, j]           = bias[k] + sum of weight[t] x[start[t] + j] over the taps t of k
    weight gradient  dweight[t]        = sum of dy[k, j] x[start[t] + j] over j
    input gradient   dx[start[t] + j] += weight[t] dy[k, j]

For that, the rows of output maps have W columns in a tile, like those of input maps. The last W - Q columns of ``y``
are junk and never read; those of ``dy`` are zero.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel, reordering_helper

Floats = NDArray[np.float32]
Places = NDArray[np.intp]

TILE = 16  # one vector of AVX-512, two of AVX2; the same for every number of threads, and so are the sums
STRIP = 4  # output rows at a time: what a few maps have there stays in the first cache


class Taps(NamedTuple):
    """Where the taps of one convolution lie in a tile.

    Attributes
    ----------
    first : (K + 1,), the taps of output map k are first[k] .. first[k + 1] - 1
    start : (T,), the place in the input tile where the run of each tap begins
    run : (G,), the places that occur in ``start``, each once, for the gradient of the input
    run_first : (G + 1,), the taps that share run g are run_tap[run_first[g] : run_first[g + 1]]
    run_tap : (T,), all taps, ordered by ``start``
    run_source : (T,), the place in the output tile where the output map of each of these begins
    """

    first: Places
    start: Places
    run: Places
    run_first: Places
    run_tap: Places
    run_source: Places


def taps(
    connections: Sequence[tuple[int, int]], height: int, width: int, kernel_height: int, kernel_width: int
) -> Taps:
    """Lay out the taps of a convolution whose kernels join the pairs (output map k, input map c) of ``connections``."""
    k, c = np.array(connections).T
    size = kernel_height * kernel_width
    places = np.arange(kernel_height)[:, None] * width + np.arange(kernel_width)
    start = ((c[:, None, None] * height * width + places) * TILE).ravel()
    run_tap = np.argsort(start, kind="stable")
    run, run_first = np.unique(start[run_tap], return_index=True)
    output_map = (height - kernel_height + 1) * width * TILE
    return Taps(
        first=np.searchsorted(k, np.arange(k[-1] + 2)) * size,
        start=start,
        run=run,
        run_first=np.append(run_first, len(start)),
        run_tap=run_tap,
        run_source=np.repeat(k, size)[run_tap] * output_map,
    )


def forward_scratch(x: Floats, out: Floats) -> int:
    """Return how many numbers of scratch a thread needs: an input tile and an output tile."""
    _, maps_in, height, width = x.shape
    _, maps, rows, _ = out.shape
    return (maps_in * height + maps * rows) * width * TILE


def backward_scratch(x: Floats, dy: Floats, weights: int) -> int:
    """Return how many numbers of scratch a thread needs: two input tiles, an output tile and the weights."""
    _, maps_in, height, width = x.shape
    _, maps, rows, _ = dy.shape
    return (2 * maps_in * height + maps * rows) * width * TILE + weights


@helper
def _pack(images: Floats, tile: Floats) -> None:
    """Copy up to 16 images (n, C, H, W) into a tile (C, H, W', 16), W' >= W; what is left over becomes zero."""
    count, maps, height, width = images.shape
    for c in range(maps):
        for h in range(height):
            row = tile[c, h]
            for w in range(width):
                for n in range(count):
                    row[w, n] = images[n, c, h, w]
                for n in range(count, TILE):
                    row[w, n] = 0
            for w in range(width, tile.shape[2]):
                for n in range(TILE):
                    row[w, n] = 0


@helper
def _unpack(tile: Floats, images: Floats) -> None:
    """Copy a tile (C, H, W', 16) back into up to 16 images (n, C, H, W), W <= W'."""
    count, maps, height, width = images.shape
    for n in range(count):
        for c in range(maps):
            for h in range(height):
                column, row = tile[c, h, :, n], images[n, c, h]
                for w in range(width):
                    row[w] = column[w]


@helper
def _add_runs(out: Floats, weight: Floats, source: Floats, start: Places) -> None:
    """out[j] += sum over t of weight[t] source[start[t] + j], five taps a pass to spare memory traffic.

    The runs are sliced first: an index that counts from 0 vectorizes, an index with an offset may wrap around.
    """
    count, length = len(weight), len(out)
    t = 0
    while t + 5 <= count:
        w0, w1, w2, w3, w4 = weight[t], weight[t + 1], weight[t + 2], weight[t + 3], weight[t + 4]
        x0 = source[start[t] : start[t] + length]
        x1 = source[start[t + 1] : start[t + 1] + length]
        x2 = source[start[t + 2] : start[t + 2] + length]
        x3 = source[start[t + 3] : start[t + 3] + length]
        x4 = source[start[t + 4] : start[t + 4] + length]
        for j in range(length):
            out[j] += w0 * x0[j] + w1 * x1[j] + w2 * x2[j] + w3 * x3[j] + w4 * x4[j]
        t += 5
    while t < count:
        w0, x0 = weight[t], source[start[t] : start[t] + length]
        for j in range(length):
            out[j] += w0 * x0[j]
        t += 1


@reordering_helper
def _dot_runs(dy: Floats, source: Floats, start: Places, dweight: Floats) -> None:
    """dweight[t] = sum over j of dy[j] source[start[t] + j], five taps a pass."""
    count, length = len(dweight), len(dy)
    zero = np.float32(0)
    t = 0
    while t + 5 <= count:
        x0 = source[start[t] : start[t] + length]
        x1 = source[start[t + 1] : start[t + 1] + length]
        x2 = source[start[t + 2] : start[t + 2] + length]
        x3 = source[start[t + 3] : start[t + 3] + length]
        x4 = source[start[t + 4] : start[t + 4] + length]
        d0 = d1 = d2 = d3 = d4 = zero
        for j in range(length):
            d0 += dy[j] * x0[j]
            d1 += dy[j] * x1[j]
            d2 += dy[j] * x2[j]
            d3 += dy[j] * x3[j]
            d4 += dy[j] * x4[j]
        dweight[t], dweight[t + 1], dweight[t + 2], dweight[t + 3], dweight[t + 4] = d0, d1, d2, d3, d4
        t += 5
    while t < count:
        x0, d0 = source[start[t] : start[t] + length], zero
        for j in range(length):
            d0 += dy[j] * x0[j]
        dweight[t] = d0
        t += 1


@reordering_helper
def _total(values: Floats) -> np.float32:
    total = np.float32(0)
    for j in range(len(values)):
        total += values[j]
    return total


@helper
def _forward_tile(
    x: Floats, weight: Floats, bias: Floats, first: Places, start: Places, out: Floats, scratch: Floats
) -> None:
    _, maps_in, height, width = x.shape
    _, maps, rows, columns = out.shape
    row, junk = width * TILE, (width - columns) * TILE
    x_tile = scratch[: maps_in * height * row]
    y_tile = scratch[maps_in * height * row :][: maps * rows * row]
    _pack(x, x_tile.reshape(maps_in, height, width, TILE))
    for k in range(maps):
        own = slice(first[k], first[k + 1])
        for top in range(0, rows, STRIP):
            bottom = min(top + STRIP, rows)
            y = y_tile[(k * rows + top) * row : (k * rows + bottom) * row - junk]
            y[:] = bias[k]
            _add_runs(y, weight[own], x_tile[top * row :], start[own])
    _unpack(y_tile.reshape(maps, rows, width, TILE), out)


@kernel
def forward(
    x: Floats, weight: Floats, bias: Floats, first: Places, start: Places, out: Floats, scratch: Floats
) -> None:
    """Convolve ``x`` (N, C, H, W) with ``weight`` (T,), add ``bias`` (K,), write ``out`` (N, K, P, Q).

    ``first`` and ``start`` are those of `Taps`; ``scratch`` (threads, `forward_scratch`).
    """
    shares = len(scratch)
    tiles = (len(x) + TILE - 1) // TILE
    for share in prange(shares):
        for tile in range(share, tiles, shares):
            images = slice(tile * TILE, (tile + 1) * TILE)
            _forward_tile(x[images], weight, bias, first, start, out[images], scratch[share])


@helper
def _backward_tile(
    dy: Floats,
    x: Floats,
    weight: Floats,
    first: Places,
    start: Places,
    run: Places,
    run_first: Places,
    run_tap: Places,
    run_source: Places,
    dx: Floats,
    dweight: Floats,
    dbias: Floats,
    scratch: Floats,
) -> None:
    _, maps_in, height, width = x.shape
    _, maps, rows, columns = dy.shape
    row, junk = width * TILE, (width - columns) * TILE
    size_in, size_out = maps_in * height * row, maps * rows * row
    x_tile = scratch[:size_in]
    dy_tile = scratch[size_in:][:size_out]
    _pack(x, x_tile.reshape(maps_in, height, width, TILE))
    _pack(dy, dy_tile.reshape(maps, rows, width, TILE))
    for k in range(maps):
        own = slice(first[k], first[k + 1])
        dy_map = dy_tile[k * rows * row : (k + 1) * rows * row - junk]
        _dot_runs(dy_map, x_tile, start[own], dweight[own])
        dbias[k] = _total(dy_map)
    if len(dx) == 0:
        return
    dx_tile = scratch[size_in + size_out :][:size_in]
    run_weight = scratch[2 * size_in + size_out :][: len(weight)]
    for t in range(len(weight)):
        run_weight[t] = weight[run_tap[t]]
    dx_tile[:] = 0
    for top in range(0, rows, STRIP):
        bottom = min(top + STRIP, rows)
        for g in range(len(run)):
            shared = slice(run_first[g], run_first[g + 1])
            dx_run = dx_tile[run[g] + top * row : run[g] + bottom * row - junk]
            _add_runs(dx_run, run_weight[shared], dy_tile[top * row :], run_source[shared])
    _unpack(dx_tile.reshape(maps_in, height, width, TILE), dx)


@helper
def _sum_tiles(partial: Floats, offset: int, total: Floats) -> None:
    """Add up ``len(total)`` columns of the gradients of all tiles, the first tile first."""
    total[:] = 0
    for tile in range(len(partial)):
        part = partial[tile, offset:]
        for t in range(len(total)):
            total[t] += part[t]


@kernel
def backward(
    dy: Floats,
    x: Floats,
    weight: Floats,
    first: Places,
    start: Places,
    run: Places,
    run_first: Places,
    run_tap: Places,
    run_source: Places,
    dx: Floats,
    dweight: Floats,
    dbias: Floats,
    scratch: Floats,
    partial: Floats,
) -> None:
    """Write the gradients of `forward`, given ``dy`` (N, K, P, Q); a ``dx`` of no image is left out.

    The tables are those of `Taps`; ``scratch`` (threads, `backward_scratch`). ``partial`` (tiles, T + K or
    more) receives the gradients of weights and biases of each tile.
    """
    shares, tiles, weights = len(scratch), len(partial), len(weight)
    for share in prange(shares):
        for tile in range(share, tiles, shares):
            images = slice(tile * TILE, (tile + 1) * TILE)
            _backward_tile(
                dy[images],
                x[images],
                weight,
                first,
                start,
                run,
                run_first,
                run_tap,
                run_source,
                dx[images],
                partial[tile, :weights],
                partial[tile, weights:],
                scratch[share],
            )
    _sum_tiles(partial, 0, dweight)
    _sum_tiles(partial, weights, dbias)
