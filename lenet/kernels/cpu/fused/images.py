"""Images into tiles: each of 16 images resampled at its own points, or unpacked as it is."""

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from lenet.kernels.cpu.fused.plan import Floats, Integers, Plan
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import FIRST, LANES, Emitter, Pointer, Value, micro_kernel

BORDER = 2  # zero pixels around an image: with coordinates clipped to it, no neighbor of a point is ever outside


@micro_kernel(types.void)
def resample(
    v: Emitter, plan: Plan, pairs: Pointer, maps: Pointer, x: Value, y: Value, out: Pointer, at: Value
) -> None:
    """Write the pixel (x, y) of 16 images, each bilinear at its own source point (a x + b y + c, d x + e y + f).

    ``pairs`` (16, height + 4, width + 4) of `pair_rows`: two neighbors are four pixels. ``maps`` (6, 16) coefficients.
    """
    x, y = v.splat(x), v.splat(y)
    a, b, c, d, e, f = v.load_all(maps, FIRST, 6)
    left, right_share = _split(v, v.fma(a, x, v.fma(b, y, c)), plan.width)
    top, bottom_share = _split(v, v.fma(d, x, v.fma(e, y, f)), plan.height)
    stride = plan.width + 2 * BORDER
    images = ir.Constant(top.type, [lane * stride * (plan.height + 2 * BORDER) for lane in range(LANES)])
    place = v.builder.add(images, v.builder.add(v.builder.mul(top, v.integer(stride)), left))
    square = v.gather(pairs, place)
    upper_left, lower_left, upper_right, lower_right = (_byte(v, square, i) for i in range(4))
    upper = v.fma(right_share, v.sub(upper_right, upper_left), upper_left)
    lower = v.fma(right_share, v.sub(lower_right, lower_left), lower_left)
    value = v.fma(bottom_share, v.sub(lower, upper), upper)
    v.store(v.mul(value, v.constant(1 / 255)), out, at)


def _split(v: Emitter, point: Value, size: int) -> tuple[Value, Value]:
    """Return the pixel before a point, counted with the border, and how far behind it the point lies, 0..1.

    Points far out, and NaN, are taken to the border.
    """
    inside = v.limit(point, -BORDER, size)
    shifted = v.add(inside, v.constant(BORDER))
    before = v.whole(shifted)
    return before, v.sub(shifted, v.real(before))


def _byte(v: Emitter, four: Value, i: int) -> Value:
    """Return byte ``i`` of each lane."""
    return v.real(v.builder.and_(v.builder.lshr(four, v.integer(8 * i)), v.integer(255)))


@micro_kernel(types.void)
def unpack(v: Emitter, images: Pointer, places: Pointer, plus: Value, out: Pointer, at: Value) -> None:
    """Write four pixels of 16 images, as they are: the bytes at places[lane] + plus and behind."""
    lanes = [v.builder.load(v.address(places, FIRST, lane)) for lane in range(LANES)]
    four = v.gather_at(images, [v.builder.add(lane, plus) for lane in lanes])
    for i in range(4):
        v.store(v.mul(_byte(v, four, i), v.constant(1 / 255)), out, at, LANES * i)


@helper
def pair_rows(plan: Plan, image: NDArray[np.uint8], pairs: NDArray[np.uint16]) -> None:
    """Write each pixel of an image with its border, and in the high byte the one below; the outermost stay zero."""
    stride = plan.width + 2 * BORDER
    for row in range(-1, plan.height):
        upper = image[max(row, 0) * plan.width :]
        lower = image[min(row + 1, plan.height - 1) * plan.width :]
        above, below = np.uint16(row >= 0), np.uint16(256 * (row + 1 < plan.height))
        target = pairs[(row + BORDER) * stride + BORDER :]
        for column in range(plan.width):
            target[column] = above * upper[column] + below * lower[column]


@helper
def load_tile(
    plan: Plan,
    images: NDArray[np.uint8],
    order: NDArray[np.int32],
    transforms: Floats,
    start: int,
    count: int,
    pairs: NDArray[np.uint16],
    maps: Floats,
    places: Integers,
    scratch: Floats,
) -> None:
    """Bring ``count`` images, from place ``start`` in the order, into a tile; lanes to spare repeat the last."""
    size, stride = plan.height * plan.width, plan.width + 2 * BORDER
    for lane in range(LANES):
        position = start + min(lane, count - 1)
        places[lane] = order[position] * size
        if plan.distorted:
            image = images[places[lane] : places[lane] + size]
            pair_rows(plan, image, pairs[lane * stride * (plan.height + 2 * BORDER) :])
            for i in range(6):
                maps[i * LANES + lane] = transforms[position * 6 + i]
    if plan.distorted:
        for row in range(plan.height):
            for column in range(plan.width):
                at = plan.pixels + (row * plan.width + column) * LANES
                resample(plan, pairs, maps, np.float32(column), np.float32(row), scratch, at)
    else:
        for pixel in range(0, size, 4):
            unpack(images, places, pixel, scratch, plan.pixels + pixel * LANES)
