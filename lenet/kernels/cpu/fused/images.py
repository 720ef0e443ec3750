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
    v: Emitter, plan: Plan, padded: Pointer, maps: Pointer, x: Value, y: Value, out: Pointer, at: Value
) -> None:
    """Write the pixel (x, y) of 16 images, each bilinear at its own source point (a x + b y + c, d x + e y + f).

    ``padded`` (16, height + 4, width + 4) bytes, ``maps`` (6, 16) coefficients.
    """
    x, y = v.splat(x), v.splat(y)
    a, b, c, d, e, f = v.load_all(maps, FIRST, 6)
    left, right_share = _split(v, v.fma(a, x, v.fma(b, y, c)), plan.width)
    top, bottom_share = _split(v, v.fma(d, x, v.fma(e, y, f)), plan.height)
    stride = plan.width + 2 * BORDER
    images = ir.Constant(top.type, [lane * stride * (plan.height + 2 * BORDER) for lane in range(LANES)])
    place = v.builder.add(images, v.builder.add(v.builder.mul(top, v.integer(stride)), left))
    upper = _between(v, v.gather(padded, place), right_share)
    lower = _between(v, v.gather(padded, v.builder.add(place, v.integer(stride))), right_share)
    value = v.fma(bottom_share, v.sub(lower, upper), upper)
    v.store(v.mul(value, v.constant(1 / 255)), out, at)


def _split(v: Emitter, point: Value, size: int) -> tuple[Value, Value]:
    """Return the pixel before a point, counted with the border, and how far behind it the point lies, 0..1."""
    inside = v.clamp(point, -BORDER, size)
    shifted = v.add(inside, v.constant(BORDER))
    before = v.whole(shifted)
    return before, v.sub(shifted, v.real(before))


def _between(v: Emitter, four: Value, share: Value) -> Value:
    """Interpolate between the first and the second byte of each lane."""
    first = v.real(v.builder.and_(four, v.integer(255)))
    second = v.real(v.builder.and_(v.builder.lshr(four, v.integer(8)), v.integer(255)))
    return v.fma(share, v.sub(second, first), first)


@micro_kernel(types.void)
def unpack(v: Emitter, images: Pointer, places: Pointer, plus: Value, out: Pointer, at: Value) -> None:
    """Write four pixels of 16 images, as they are: the bytes at places[lane] + plus and behind."""
    lanes = [v.builder.load(v.address(places, FIRST, lane)) for lane in range(LANES)]
    four = v.gather_at(images, [v.builder.add(lane, plus) for lane in lanes])
    for i in range(4):
        pixel = v.builder.and_(v.builder.lshr(four, v.integer(8 * i)), v.integer(255))
        v.store(v.mul(v.real(pixel), v.constant(1 / 255)), out, at, LANES * i)


@helper
def load_tile(
    plan: Plan,
    images: NDArray[np.uint8],
    order: NDArray[np.int32],
    transforms: Floats,
    start: int,
    count: int,
    padded: NDArray[np.uint8],
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
            room = padded[lane * stride * (plan.height + 2 * BORDER) :]
            for row in range(plan.height):
                source = image[row * plan.width : (row + 1) * plan.width]
                target = room[(row + BORDER) * stride + BORDER :]
                for column in range(plan.width):
                    target[column] = source[column]
            for i in range(6):
                maps[i * LANES + lane] = transforms[position * 6 + i]
    if plan.distorted:
        for row in range(plan.height):
            for column in range(plan.width):
                at = plan.pixels + (row * plan.width + column) * LANES
                resample(plan, padded, maps, np.float32(column), np.float32(row), scratch, at)
    else:
        for pixel in range(0, size, 4):
            unpack(images, places, pixel, scratch, plan.pixels + pixel * LANES)
