"""Training images: gathered, moved through an affine map each, and scaled to [0, 1]."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Rows = NDArray[np.int32]

BORDER = 2  # zeros around the image: every neighbor of every point, once points far out are clipped to them

SCALE = np.float32(1 / 255)


@helper
def _source(images: Bytes, index: Rows, n: int) -> Bytes:
    return images[index[n]] if len(index) else images[n]


@helper
def _scale(image: Bytes, out: Floats) -> None:
    height, width = image.shape
    for y in range(height):
        for x in range(width):
            out[y, x] = np.float32(image[y, x]) * SCALE


@kernel
def scale(images: Bytes, index: Rows, out: Floats) -> None:
    """Write ``images[index]`` / 255 into ``out`` (N, 1, H, W); an empty ``index`` stands for the first N images."""
    for n in prange(len(out)):
        _scale(_source(images, index, n), out[n, 0])


@helper
def _clipped(value: np.float32, end: int) -> np.float32:
    """Return a coordinate in the padded image, for one from -BORDER to ``end`` in the image; NaN goes to the border."""
    return max(np.float32(-BORDER), min(np.float32(end), value)) + np.float32(BORDER)


@helper
def _resample(padded: Floats, transform: Floats, out: Floats, place: Rows, shares: Floats) -> None:
    """Resample bilinearly: for each row, first all points in the source, as vectors, and then their pixels."""
    height, width = out.shape
    stride = width + 2 * BORDER
    a, b, c = transform[0, 0], transform[0, 1], transform[0, 2]
    d, e, f = transform[1, 0], transform[1, 1], transform[1, 2]
    right, lower = shares[0], shares[1]
    for row in range(height):
        for column in range(width):
            x = _clipped(a * np.float32(column) + b * np.float32(row) + c, width)
            y = _clipped(d * np.float32(column) + e * np.float32(row) + f, height)
            left, top = np.int32(x), np.int32(y)
            place[column] = top * stride + left
            right[column], lower[column] = x - np.float32(left), y - np.float32(top)
        for column in range(width):
            i = place[column]
            above = padded[i] + right[column] * (padded[i + 1] - padded[i])
            i += stride
            below = padded[i] + right[column] * (padded[i + 1] - padded[i])
            out[row, column] = above + lower[column] * (below - above)


@helper
def _clear(values: Floats) -> None:
    values[:] = 0


def scratch_size(height: int, width: int) -> int:
    """Return how many numbers of scratch a thread needs: an image with its border, and two rows."""
    return (height + 2 * BORDER) * (width + 2 * BORDER) + 2 * width


@kernel
def resample(images: Bytes, index: Rows, transforms: Floats, out: Floats, scratch: Floats, place: Rows) -> None:
    """Write ``images[index]`` / 255, each resampled through its ``transforms`` (N, 2, 3), into ``out`` (N, 1, H, W).

    Zero outside the image. An empty ``index`` stands for the first N images; ``scratch`` (threads, `scratch_size`),
    ``place`` (threads, W).
    """
    shares = len(scratch)
    _, _, height, width = out.shape
    high, wide = height + 2 * BORDER, width + 2 * BORDER
    for share in prange(shares):
        padded = scratch[share, : high * wide].reshape(high, wide)
        _clear(scratch[share])
        for n in range(share, len(out), shares):
            _scale(_source(images, index, n), padded[BORDER : BORDER + height, BORDER : BORDER + width])
            _resample(
                scratch[share, : high * wide],
                transforms[n],
                out[n, 0],
                place[share],
                scratch[share, high * wide :][: 2 * width].reshape(2, width),
            )
