"""Whole training steps of LeNet-5 in compiled code: tiles of 16 images go through the network while cached.

An array of a tile is (maps, rows, columns, 16): images are innermost, so that a vector is 16 images and every weight
a scalar broadcast to them. All geometry is a `Plan`, a compile-time constant (`lenet.kernels.cpu.frozen`).

Every thread runs `train` for a whole stretch of batches:

1. It takes tiles of the batch, one after the other, as long as there are some: distort, forward, loss, backward. A
   tile leaves behind its gradients of the convolutions, and for the dense layers its inputs and deltas.
2. All threads meet. Then each takes shares of the parameters: it forms their gradient, over the tiles in order, and
   updates them at once.
3. All threads meet, and the next batch begins.

Which thread takes which tile or share changes nothing in the results.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from lenet.kernels.cpu.frozen import register
from lenet.kernels.cpu.options import helper, thread_kernel
from lenet.kernels.cpu.simd import LANES, Emitter, Pointer, Value, micro_kernel, vector, vectors
from lenet.kernels.cpu.threads import ABANDON, DONE, NEXT_SHARE, NEXT_TILE, STOP, STOPPED, meet, peek, put, take

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


# plans -----------------------------------------------------------------------------------------------------------


@register
@dataclass(frozen=True)
class Block:
    """How many things a micro-kernel works at once, in registers."""

    count: int


@register
@dataclass(frozen=True)
class ConvStage:
    """A convolution, its squashing function and its pooling over windows of 2 x 2.

    ``weight`` and ``bias`` are places in the vector of parameters, ``x``, ``slope``, ``y`` and ``dy`` in the scratch of
    a thread: the input (C, H, W), the derivative of the pooled with respect to the plain output, later the delta
    (K, P, Q), the pooled output and its gradient (K, P/2, Q/2), each times 16.
    """

    inputs: int
    height: int
    width: int
    outputs: int
    rows: int
    columns: int
    kernel_height: int
    kernel_width: int
    activation: str
    pool: str
    weight: int
    bias: int
    x: int
    slope: int
    y: int
    dy: int
    block: int
    pair: Block
    single: Block
    run: Block


@register
@dataclass(frozen=True)
class DenseStage:
    """A dense layer and its squashing function ("" for the output layer).

    ``x`` and ``y`` are places in the scratch of a thread, (D, 16) and (K, 16); ``rows`` (16, stride), the inputs image
    by image, and ``delta`` (K, 16) are places in the record of a tile. ``below`` is the squashing function that made
    ``x``; "" for pooled maps. The blocks say how many units, inputs, rows of weights and vectors of a row are worked at
    once; ``step`` and ``row`` are the distances of the weights of two units and of two images in ``rows``.
    """

    inputs: int
    outputs: int
    activation: str
    below: str
    weight: int
    bias: int
    x: int
    y: int
    rows: int
    stride: int
    delta: int
    out: Block
    out_rest: Block
    back: Block
    back_rest: Block
    share: Block
    share_rest: Block
    wide: Block
    units: Block
    step: Block
    one: Block
    row: Block


@register
@dataclass(frozen=True)
class Rule:
    """An update rule: its name and its numbers."""

    name: str
    momentum: float
    beta1: float
    beta2: float
    epsilon: float
    averaging: int


@register
@dataclass(frozen=True)
class Plan:
    """A network, and where everything is kept.

    ``scratch`` floats for a thread, ``record`` floats for a tile, ``gradient`` is the place in the record of the
    gradients of the convolutions, which have the first ``convolutions`` parameters. ``source`` is `source_digest`.
    """

    source: str

    height: int
    width: int
    classes: int
    c1: ConvStage
    c3: ConvStage
    f5: DenseStage
    f6: DenseStage
    output: DenseStage
    rule: Rule
    distorted: int
    pixels: int
    spare: int
    convolutions: int
    gradient: int
    scratch: int
    record: int


def source_digest() -> str:
    """Return a digest of the files whose code is compiled into the kernels here.

    Numba's disk cache watches only the file of a cached function. As a part of the plan, and so of the signature, the
    digest makes it see the other files too.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


class Connections(NamedTuple):
    """The connection table of a convolution, read from its outputs and from its inputs.

    Output map k has the connections first[k] .. first[k+1] - 1, from the maps inputs[e]. Input map c is in the
    connections into[i] to the maps outputs[i], for i in first_into[c] .. first_into[c+1] - 1.
    """

    first: Integers
    inputs: Integers
    first_into: Integers
    into: Integers
    outputs: Integers


# the squashing functions, emitted --------------------------------------------------------------------------------

SCALED_TANH_AMPLITUDE = 1.7159
SCALED_TANH_SLOPE = 2.0 / 3.0


def squash(v: Emitter, kind: str, x: Value) -> Value:
    """Return f(x); the tangents by way of the sigmoid, tanh(x) = 2 sigmoid(2x) - 1."""
    one, zero = v.constant(1.0), v.constant(0.0)
    if kind == "":
        return x
    if kind == "relu":
        return v.maximum(x, zero)
    steepness = {"sigmoid": 1.0, "tanh": 2.0, "scaled_tanh": 2.0 * SCALED_TANH_SLOPE}[kind]
    sigmoid = v.div(one, v.add(one, v.exp(v.mul(x, v.constant(-steepness)))))
    if kind == "sigmoid":
        return sigmoid
    amplitude = {"tanh": 1.0, "scaled_tanh": SCALED_TANH_AMPLITUDE}[kind]
    return v.fma(sigmoid, v.constant(2.0 * amplitude), v.constant(-amplitude))


def derivative(v: Emitter, kind: str, y: Value) -> Value:
    """Return f'(x), from y = f(x)."""
    one, zero = v.constant(1.0), v.constant(0.0)
    if kind == "sigmoid":
        return v.fma(v.mul(y, v.constant(-1.0)), y, y)
    if kind == "tanh":
        return v.fma(v.mul(y, v.constant(-1.0)), y, one)
    if kind == "scaled_tanh":
        slope, amplitude = SCALED_TANH_SLOPE, SCALED_TANH_AMPLITUDE
        return v.fma(v.mul(y, v.constant(-slope / amplitude)), y, v.constant(slope * amplitude))
    if kind == "relu":
        return v.builder.select(v.builder.fcmp_ordered(">", y, zero), one, zero)
    return one


# images ----------------------------------------------------------------------------------------------------------

BORDER = 2  # zero pixels around an image: with coordinates clipped to it, no neighbor of a point is ever outside


FIRST = ir.Constant(ir.IntType(64), 0)


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
    inside = v.minimum(v.maximum(point, v.constant(-BORDER)), v.constant(size))
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
                target = room[(row + BORDER) * stride + BORDER :][: plan.width]
                target[:] = source
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


# convolutions ----------------------------------------------------------------------------------------------------


@micro_kernel(lambda stage, *_: vectors(2 * stage.value.block))
def conv_start(v: Emitter, stage: ConvStage, parameters: Pointer, at: Value) -> list[Value]:
    """Return accumulators for 2 rows of an output map, all at its bias."""
    return [v.broadcast(parameters, at)] * (2 * stage.block)


@micro_kernel(lambda stage, total, *_: total)
def conv_block(
    v: Emitter, stage: ConvStage, total: list[Value], x: Pointer, at: Value, weight: Pointer, weight_at: Value
) -> list[Value]:
    """Add one kernel's correlation with one input map, for 2 rows x ``block`` columns of outputs."""
    total = list(total)
    for h in range(2 + stage.kernel_height - 1):
        row = v.load_all(*v.moved(x, at, h * stage.width * LANES), stage.block + stage.kernel_width - 1)
        for p in range(2):
            r = h - p
            if 0 <= r < stage.kernel_height:
                for s in range(stage.kernel_width):
                    w = v.broadcast(weight, weight_at, r * stage.kernel_width + s)
                    for q in range(stage.block):
                        total[p * stage.block + q] = v.fma(w, row[q + s], total[p * stage.block + q])
    return total


@micro_kernel(types.void)
def squash_and_pool(
    v: Emitter, stage: ConvStage, total: list[Value], scratch: Pointer, slope_at: Value, y_at: Value
) -> None:
    """Squash 2 rows of outputs, pool them, and keep the derivative of the pooled by each of them."""
    y = [squash(v, stage.activation, x) for x in total]
    slope = [derivative(v, stage.activation, value) for value in y]
    for q in range(0, stage.block, 2):
        window = [q, q + 1, stage.block + q, stage.block + q + 1]
        if stage.pool == "mean":
            quarter = v.constant(0.25)
            pooled = v.mul(v.add(v.add(y[window[0]], y[window[1]]), v.add(y[window[2]], y[window[3]])), quarter)
            for i in window:
                slope[i] = v.mul(slope[i], quarter)
        else:
            pooled = v.maximum(v.maximum(y[window[0]], y[window[1]]), v.maximum(y[window[2]], y[window[3]]))
            free = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] * LANES)  # no maximum found before
            for i in window:
                hit = v.builder.and_(free, v.builder.fcmp_ordered("==", y[i], pooled))
                free = v.builder.and_(free, v.builder.not_(hit))
                slope[i] = v.builder.select(hit, slope[i], v.constant(0.0))
        v.store(pooled, scratch, y_at, q // 2 * LANES)
    for p in range(2):
        row = slope[p * stage.block : (p + 1) * stage.block]
        v.store_all(row, *v.moved(scratch, slope_at, p * stage.columns * LANES))


@helper
def conv_forward(stage: ConvStage, table: Connections, parameters: Floats, scratch: Floats) -> None:
    """From the input maps to the squashed and pooled output maps."""
    area = stage.kernel_height * stage.kernel_width
    for k in range(stage.outputs):
        for p in range(0, stage.rows, 2):
            for q in range(0, stage.columns, stage.block):
                total = conv_start(stage, parameters, stage.bias + k)
                for e in range(table.first[k], table.first[k + 1]):
                    x_at = stage.x + ((table.inputs[e] * stage.height + p) * stage.width + q) * LANES
                    total = conv_block(stage, total, scratch, x_at, parameters, stage.weight + e * area)
                slope_at = stage.slope + ((k * stage.rows + p) * stage.columns + q) * LANES
                y_at = stage.y + ((k * stage.rows + p) * stage.columns // 4 + q // 2) * LANES
                squash_and_pool(stage, total, scratch, slope_at, y_at)


@micro_kernel(vector)
def unpool(v: Emitter, stage: ConvStage, scratch: Pointer, slope_at: Value, dy_at: Value) -> Value:
    """Turn the derivatives of one window into deltas, by the gradient of the pooled; return their sum."""
    dy = v.load(scratch, dy_at)
    total = v.constant(0.0)
    for p in range(2):
        for q in range(2):
            place = (p * stage.columns + q) * LANES
            delta = v.mul(v.load(scratch, slope_at, place), dy)
            v.store(delta, scratch, slope_at, place)
            total = v.add(total, delta)
    return total


@micro_kernel(vector)
def zero(v: Emitter) -> Value:
    """Return 0 in all lanes."""
    return v.constant(0.0)


@micro_kernel(vector)
def plus(v: Emitter, x: Value, y: Value) -> Value:
    """Return x + y."""
    return v.add(x, y)


@micro_kernel(types.float32)
def total_of(v: Emitter, x: Value) -> Value:
    """Return the sum of all lanes."""
    return v.total(x)


@helper
def conv_deltas(stage: ConvStage, scratch: Floats, record: Floats, gradient: int) -> None:
    """Turn the stored derivatives into deltas, and sum them to the gradient of the biases."""
    for k in range(stage.outputs):
        total = zero()
        for p in range(0, stage.rows, 2):
            for q in range(0, stage.columns, 2):
                slope_at = stage.slope + ((k * stage.rows + p) * stage.columns + q) * LANES
                dy_at = stage.dy + ((k * stage.rows + p) * stage.columns // 4 + q // 2) * LANES
                total = plus(total, unpool(stage, scratch, slope_at, dy_at))
        record[gradient + stage.bias + k] = total_of(total)


@micro_kernel(lambda stage, pair: vectors(stage.value.kernel_width * pair.value.count))
def taps_start(v: Emitter, stage: ConvStage, pair: Block) -> list[Value]:
    """Return accumulators for one kernel row of each of ``pair`` output maps."""
    return [v.constant(0.0)] * (stage.kernel_width * pair.count)


@micro_kernel(lambda stage, pair, total, *_: total)
def taps_block(
    v: Emitter,
    stage: ConvStage,
    pair: Block,
    total: list[Value],
    scratch: Pointer,
    delta_at: Value,
    other_at: Value,
    x_at: Value,
) -> list[Value]:
    """Add delta times input, over ``block`` columns of a row, for the taps of one kernel row of 1 or 2 output maps."""
    total, width = list(total), stage.kernel_width
    row = v.load_all(scratch, x_at, stage.block + width - 1)
    for q in range(stage.block):
        for m, at in enumerate((delta_at, other_at)[: pair.count]):
            delta = v.load(scratch, at, q * LANES)
            for s in range(width):
                total[m * width + s] = v.fma(delta, row[q + s], total[m * width + s])
    return total


@micro_kernel(types.void)
def taps_end(
    v: Emitter, stage: ConvStage, pair: Block, total: list[Value], record: Pointer, at: Value, other_at: Value
) -> None:
    """Sum over the images, and write the gradients of one kernel row of each output map."""
    sums, width = v.totals(total), stage.kernel_width
    v.store_first(sums, record, at, ir.Constant(ir.IntType(64), width))
    if pair.count == 2:
        second = v.shuffle(sums, sums, [(lane + width) % LANES for lane in range(LANES)])
        v.store_first(second, record, other_at, ir.Constant(ir.IntType(64), width))


@helper
def conv_taps(
    stage: ConvStage,
    pair: Block,
    scratch: Floats,
    record: Floats,
    gradient: int,
    c: int,
    e: int,
    k: int,
    f: int,
    j: int,
) -> None:
    """Write the gradients of the kernels e and f, which join input map c to the output maps k and j."""
    area, size = stage.kernel_height * stage.kernel_width, stage.rows * stage.columns * LANES
    for r in range(stage.kernel_height):
        total = taps_start(stage, pair)
        for p in range(stage.rows):
            for q in range(0, stage.columns, stage.block):
                delta_at = stage.slope + (p * stage.columns + q) * LANES
                x_at = stage.x + ((c * stage.height + p + r) * stage.width + q) * LANES
                total = taps_block(stage, pair, total, scratch, delta_at + k * size, delta_at + j * size, x_at)
        at = gradient + stage.weight + r * stage.kernel_width
        taps_end(stage, pair, total, record, at + e * area, at + f * area)


@helper
def conv_gradients(stage: ConvStage, table: Connections, scratch: Floats, record: Floats, gradient: int) -> None:
    """Write the gradients of all kernels, two output maps of an input map at a time."""
    for c in range(stage.inputs):
        i, end = table.first_into[c], table.first_into[c + 1]
        while i < end:
            e, k = table.into[i], table.outputs[i]
            if i + 1 < end:
                f, j = table.into[i + 1], table.outputs[i + 1]
                conv_taps(stage, stage.pair, scratch, record, gradient, c, e, k, f, j)
            else:
                conv_taps(stage, stage.single, scratch, record, gradient, c, e, k, e, k)
            i += 2


@micro_kernel(lambda stage, *_: vectors(stage.value.block + stage.value.kernel_width - 1))
def row_start(v: Emitter, stage: ConvStage, scratch: Pointer, at: Value) -> list[Value]:
    """Load what one block of output columns touches of a row of the input's gradient."""
    return v.load_all(scratch, at, stage.block + stage.kernel_width - 1)


@micro_kernel(lambda stage, total, *_: total)
def row_block(
    v: Emitter, stage: ConvStage, total: list[Value], scratch: Pointer, at: Value, weight: Pointer, weight_at: Value
) -> list[Value]:
    """Add one kernel row, spread over a row of the input's gradient by a block of deltas."""
    total = list(total)
    delta = v.load_all(scratch, at, stage.block)
    for s in range(stage.kernel_width):
        w = v.broadcast(weight, weight_at, s)
        for q in range(stage.block):
            total[q + s] = v.fma(w, delta[q], total[q + s])
    return total


@micro_kernel(types.void)
def row_end(v: Emitter, stage: ConvStage, total: list[Value], scratch: Pointer, at: Value) -> None:
    """Store the row again."""
    v.store_all(total, scratch, at)


@helper
def conv_backward(stage: ConvStage, table: Connections, parameters: Floats, scratch: Floats, dx: int) -> None:
    """From the deltas to the gradient of the input maps, row by row; ``dx`` is its place in the scratch."""
    area = stage.kernel_height * stage.kernel_width
    for c in range(stage.inputs):
        for h in range(stage.height):
            row_at = dx + (c * stage.height + h) * stage.width * LANES
            scratch[row_at : row_at + stage.width * LANES] = 0
            for q in range(0, stage.columns, stage.block):
                total = row_start(stage, scratch, row_at + q * LANES)
                for i in range(table.first_into[c], table.first_into[c + 1]):
                    k, e = table.outputs[i], table.into[i]
                    for r in range(max(0, h - stage.rows + 1), min(stage.kernel_height, h + 1)):
                        delta_at = stage.slope + ((k * stage.rows + h - r) * stage.columns + q) * LANES
                        weight_at = stage.weight + e * area + r * stage.kernel_width
                        total = row_block(stage, total, scratch, delta_at, parameters, weight_at)
                row_end(stage, total, scratch, row_at + q * LANES)


# dense layers ----------------------------------------------------------------------------------------------------


@micro_kernel(lambda block, *_: vectors(block.value.count))
def biases(v: Emitter, block: Block, parameters: Pointer, at: Value) -> list[Value]:
    """Return accumulators for a block of units, each at its bias."""
    return [v.broadcast(parameters, at, j) for j in range(block.count)]


@micro_kernel(lambda block, *_: vectors(block.value.count))
def zeros(v: Emitter, block: Block) -> list[Value]:
    """Return accumulators at 0."""
    return [v.constant(0.0)] * block.count


@micro_kernel(lambda step, block, total, *_: total)
def weighted(
    v: Emitter, step: Block, block: Block, total: list[Value], x: Pointer, at: Value, weight: Pointer, weight_at: Value
) -> list[Value]:
    """Add one input times its weights to a block of units; the weights are ``step`` apart."""
    value = v.load(x, at)
    weights = (v.broadcast(weight, weight_at, j * step.count) for j in range(block.count))
    return [v.fma(w, value, sum_) for w, sum_ in zip(weights, total, strict=True)]


@micro_kernel(types.void)
def squashed(v: Emitter, stage: DenseStage, total: list[Value], scratch: Pointer, at: Value) -> None:
    """Store the outputs of a block of units."""
    v.store_all([squash(v, stage.activation, x) for x in total], scratch, at)


@micro_kernel(types.void)
def unsquashed(
    v: Emitter, stage: DenseStage, total: list[Value], scratch: Pointer, x_at: Value, out: Pointer, at: Value
) -> None:
    """Store the gradients of a block of inputs, times the derivative of the squashing function below."""
    for j, gradient in enumerate(total):
        x = v.load(scratch, x_at, j * LANES)
        v.store(v.mul(gradient, derivative(v, stage.below, x)), out, at, j * LANES)


@helper
def dense_units(stage: DenseStage, block: Block, step: Block, parameters: Floats, scratch: Floats, k: int) -> None:
    """Compute a block of units, from unit k."""
    total = biases(block, parameters, stage.bias + k)
    for d in range(stage.inputs):
        weight_at = stage.weight + k * stage.inputs + d
        total = weighted(step, block, total, scratch, stage.x + d * LANES, parameters, weight_at)
    squashed(stage, total, scratch, stage.y + k * LANES)


@helper
def dense_forward(stage: DenseStage, step: Block, parameters: Floats, scratch: Floats) -> None:
    """y = f(w x + b); ``step`` is the number of inputs."""
    whole = stage.outputs // stage.out.count * stage.out.count
    for k in range(0, whole, stage.out.count):
        dense_units(stage, stage.out, step, parameters, scratch, k)
    for k in range(whole, stage.outputs, stage.out_rest.count):
        dense_units(stage, stage.out_rest, step, parameters, scratch, k)


@helper
def dense_inputs(
    stage: DenseStage,
    block: Block,
    parameters: Floats,
    scratch: Floats,
    record: Floats,
    out: Floats,
    out_at: int,
    d: int,
) -> None:
    """Compute the gradient of a block of inputs, from input d."""
    total = zeros(block)
    for k in range(stage.outputs):
        weight_at = stage.weight + k * stage.inputs + d
        total = weighted(stage.one, block, total, record, stage.delta + k * LANES, parameters, weight_at)
    unsquashed(stage, total, scratch, stage.x + d * LANES, out, out_at + d * LANES)


@helper
def dense_backward(
    stage: DenseStage, parameters: Floats, scratch: Floats, record: Floats, out: Floats, out_at: int
) -> None:
    """From the deltas of a layer to those of the layer below, or to the gradient of the pooled maps."""
    whole = stage.inputs // stage.back.count * stage.back.count
    for d in range(0, whole, stage.back.count):
        dense_inputs(stage, stage.back, parameters, scratch, record, out, out_at, d)
    for d in range(whole, stage.inputs, stage.back_rest.count):
        dense_inputs(stage, stage.back_rest, parameters, scratch, record, out, out_at, d)


@micro_kernel(types.void)
def transpose_block(v: Emitter, source: Pointer, at: Value, out: Pointer, out_at: Value, step: Block) -> None:
    """Write 16 vectors of 16 units as 16 images of 16 units; images are ``step`` apart."""
    v.store_all(v.transpose(v.load_all(source, at, LANES)), out, out_at, step.count)


@helper
def keep_inputs(stage: DenseStage, scratch: Floats, record: Floats) -> None:
    """Leave the inputs of a layer in the tile's record, image by image; places to spare hold anything."""
    for d in range(0, stage.inputs, LANES):
        transpose_block(scratch, stage.x + d * LANES, record, stage.rows + d, stage.row)


@micro_kernel(lambda share, wide: vectors(share.value.count * wide.value.count))
def outer_start(v: Emitter, share: Block, wide: Block) -> list[Value]:
    """Return accumulators for ``share`` units x ``wide`` vectors of inputs."""
    return [v.constant(0.0)] * (share.count * wide.count)


@micro_kernel(lambda share, wide, total, *_: total)
def outer_add(
    v: Emitter, share: Block, wide: Block, total: list[Value], records: Pointer, delta_at: Value, x_at: Value
) -> list[Value]:
    """Add the outer product of an image's deltas and inputs."""
    total = list(total)
    inputs = v.load_all(records, x_at, wide.count)
    for j in range(share.count):
        delta = v.broadcast(records, delta_at, j * LANES)
        for i in range(wide.count):
            total[j * wide.count + i] = v.fma(delta, inputs[i], total[j * wide.count + i])
    return total


@micro_kernel(types.void)
def outer_end(
    v: Emitter,
    share: Block,
    wide: Block,
    total: list[Value],
    gradients: Pointer,
    at: Value,
    step: Value,
    count: Value,
) -> None:
    """Write the gradients of ``share`` rows, ``step`` apart, of which only ``count`` are there from here on."""
    for j in range(share.count):
        for i in range(wide.count):
            left = v.builder.sub(count, ir.Constant(count.type, i * LANES))
            v.store_first(
                total[j * wide.count + i], gradients, at if i == 0 else v.moved(gradients, at, i * LANES)[1], left
            )
        at = v.builder.add(at, step)


@helper
def dense_gradients(
    plan: Plan, stage: DenseStage, share: Block, records: Floats, tiles: int, gradients: Floats, k: int
) -> None:
    """Write the gradients of weights and biases of a block of units, from unit k: over all tiles, image by image."""
    for d in range(0, stage.stride, stage.wide.count * LANES):
        total = outer_start(share, stage.wide)
        for tile in range(tiles):
            delta_at = tile * plan.record + stage.delta + k * LANES
            x_at = tile * plan.record + stage.rows + d
            for n in range(LANES):
                total = outer_add(share, stage.wide, total, records, delta_at + n, x_at + n * stage.stride)
        at = stage.weight + k * stage.inputs + d
        outer_end(share, stage.wide, total, gradients, at, stage.inputs, stage.inputs - d)
    for j in range(k, k + share.count):
        sum_ = zero()
        for tile in range(tiles):
            sum_ = plus(sum_, fetch(records, tile * plan.record + stage.delta + j * LANES))
        gradients[stage.bias + j] = total_of(sum_)


@micro_kernel(vector)
def fetch(v: Emitter, array: Pointer, at: Value) -> Value:
    """Load 16 floats."""
    return v.load(array, at)


@micro_kernel(types.void)
def deposit(v: Emitter, x: Value, array: Pointer, at: Value, count: Value) -> None:
    """Store the first ``count`` of 16 floats."""
    v.store_first(x, array, at, count)


# loss ------------------------------------------------------------------------------------------------------------


@micro_kernel(types.void)
def softmax(v: Emitter, stage: DenseStage, scratch: Pointer, largest_at: Value, record: Pointer) -> None:
    """Write the softmax of the logits as deltas; leave their maximum and the sum of the exponentials in the scratch."""
    logits = v.load_all(*v.moved(scratch, FIRST, stage.y), stage.outputs)
    largest = logits[0]
    for logit in logits[1:]:
        largest = v.maximum(largest, logit)
    powers = [v.exp(v.sub(logit, largest)) for logit in logits]
    total = powers[0]
    for power in powers[1:]:
        total = v.add(total, power)
    v.store_all([largest, total], scratch, largest_at)
    v.store_all([v.div(power, total) for power in powers], *v.moved(record, FIRST, stage.delta))


@micro_kernel(types.void)
def scale_deltas(v: Emitter, stage: DenseStage, record: Pointer, factors: Pointer, at: Value) -> None:
    """Multiply the deltas of each image by its factor."""
    factor = v.load(factors, at)
    for k in range(stage.outputs):
        place = v.moved(record, FIRST, stage.delta + k * LANES)
        v.store(v.mul(v.load(*place), factor), *place)


@helper
def loss_and_deltas(
    plan: Plan,
    scratch: Floats,
    record: Floats,
    order: NDArray[np.int32],
    labels: NDArray[np.int32],
    losses: Floats,
    start: int,
    count: int,
    batch: int,
) -> None:
    """Write the cross-entropy of each image, and the gradient of the batch's mean; spare lanes get none."""
    stage, largest = plan.output, plan.spare
    softmax(stage, scratch, largest, record)
    for lane in range(LANES):
        scratch[largest + 2 * LANES + lane] = np.float32(0)
        if lane < count:
            label = labels[order[start + lane]]
            logit = scratch[stage.y + label * LANES + lane] - scratch[largest + lane]
            losses[start + lane] = np.float32(math.log(scratch[largest + LANES + lane])) - logit
            record[stage.delta + label * LANES + lane] -= np.float32(1)
            scratch[largest + 2 * LANES + lane] = np.float32(1) / np.float32(batch)
    scale_deltas(stage, record, scratch, largest + 2 * LANES)


# updates ---------------------------------------------------------------------------------------------------------


@micro_kernel(types.void)
def update(
    v: Emitter,
    rule: Rule,
    parameters: Pointer,
    gradients: Pointer,
    moments: Pointer,
    average: Pointer,
    at: Value,
    count: Value,
    total: Value,
    rate: Value,
    correction1: Value,
    correction2: Value,
    decay: Value,
) -> None:
    """Update ``count`` parameters, at most 16: the formulas of `lenet.optimizers`."""
    g, w = v.load_first(gradients, at, count), v.load_first(parameters, at, count)
    step = v.splat(rate)
    if rule.name == "gd":
        w = v.sub(w, v.mul(step, g))
    elif rule.name == "momentum":
        velocity = v.fma(v.constant(rule.momentum), v.load_first(moments, at, count), g)
        v.store_first(velocity, moments, at, count)
        w = v.sub(w, v.mul(step, velocity))
    else:
        second = v.builder.add(at, total)
        m = v.fma(v.constant(rule.beta1), v.load_first(moments, at, count), v.mul(v.constant(1 - rule.beta1), g))
        squares = v.mul(v.constant(1 - rule.beta2), v.mul(g, g))
        s = v.fma(v.constant(rule.beta2), v.load_first(moments, second, count), squares)
        v.store_first(m, moments, at, count)
        v.store_first(s, moments, second, count)
        size = v.add(v.sqrt(v.div(s, v.splat(correction2))), v.constant(rule.epsilon))
        w = v.sub(w, v.div(v.mul(step, v.div(m, v.splat(correction1))), size))
    v.store_first(w, parameters, at, count)
    if rule.averaging:
        mean = v.load_first(average, at, count)
        share = v.sub(v.constant(1.0), v.splat(decay))
        v.store_first(v.fma(share, v.sub(w, mean), mean), average, at, count)


@helper
def update_range(
    rule: Rule,
    parameters: Floats,
    gradients: Floats,
    moments: Floats,
    average: Floats,
    hyper: Floats,
    step: int,
    first: int,
    last: int,
) -> None:
    """Update the parameters first .. last - 1 with the numbers of one step."""
    rate, correction1, correction2, decay = (
        hyper[4 * step],
        hyper[4 * step + 1],
        hyper[4 * step + 2],
        hyper[4 * step + 3],
    )
    for at in range(first, last, LANES):
        update(
            rule, parameters, gradients, moments, average, at, last - at, len(parameters),
            rate, correction1, correction2, decay,
        )  # fmt: skip


@helper
def sum_records(plan: Plan, records: Floats, tiles: int, gradients: Floats) -> None:
    """Sum the gradients of the convolutions over the tiles, in order."""
    for at in range(0, plan.convolutions, LANES):
        total = zero()
        for tile in range(tiles):
            total = plus(total, fetch(records, tile * plan.record + plan.gradient + at))
        deposit(total, gradients, at, plan.convolutions - at)


# whole networks --------------------------------------------------------------------------------------------------


@helper
def forward_tile(plan: Plan, c1: Connections, c3: Connections, parameters: Floats, scratch: Floats) -> None:
    """From the pixels of a tile to its logits."""
    conv_forward(plan.c1, c1, parameters, scratch)
    conv_forward(plan.c3, c3, parameters, scratch)
    dense_forward(plan.f5, plan.f5.step, parameters, scratch)
    dense_forward(plan.f6, plan.f6.step, parameters, scratch)
    dense_forward(plan.output, plan.output.step, parameters, scratch)


@helper
def backward_tile(
    plan: Plan, c1: Connections, c3: Connections, parameters: Floats, scratch: Floats, record: Floats
) -> None:
    """From the deltas of the output layer to all that a tile adds to the gradients."""
    dense_backward(plan.output, parameters, scratch, record, record, plan.f6.delta)
    dense_backward(plan.f6, parameters, scratch, record, record, plan.f5.delta)
    dense_backward(plan.f5, parameters, scratch, record, scratch, plan.c3.dy)
    keep_inputs(plan.f5, scratch, record)
    keep_inputs(plan.f6, scratch, record)
    keep_inputs(plan.output, scratch, record)
    conv_deltas(plan.c3, scratch, record, plan.gradient)
    conv_gradients(plan.c3, c3, scratch, record, plan.gradient)
    conv_backward(plan.c3, c3, parameters, scratch, plan.c1.dy)
    conv_deltas(plan.c1, scratch, record, plan.gradient)
    conv_gradients(plan.c1, c1, scratch, record, plan.gradient)


@helper
def shares_of(stage: DenseStage) -> int:
    """Return in how many shares a layer's parameters are updated."""
    return (stage.outputs + stage.share.count - 1) // stage.share.count


@helper
def update_dense(
    plan: Plan,
    stage: DenseStage,
    share: int,
    records: Floats,
    tiles: int,
    parameters: Floats,
    gradients: Floats,
    moments: Floats,
    average: Floats,
    hyper: Floats,
    step: int,
) -> None:
    """Form the gradient of one share of a layer, and update it."""
    k = share * stage.share.count
    if k + stage.share.count <= stage.outputs:
        dense_gradients(plan, stage, stage.share, records, tiles, gradients, k)
        units = stage.share.count
    else:
        dense_gradients(plan, stage, stage.share_rest, records, tiles, gradients, k)
        units = stage.share_rest.count
    at = stage.weight + k * stage.inputs
    end = at + units * stage.inputs
    update_range(plan.rule, parameters, gradients, moments, average, hyper, step, at, end)
    at = stage.bias + k
    update_range(plan.rule, parameters, gradients, moments, average, hyper, step, at, at + units)


@thread_kernel
def train(
    plan: Plan,
    threads: int,
    control: NDArray[np.int64],
    c1: Connections,
    c3: Connections,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    order: NDArray[np.int32],
    transforms: Floats,
    hyper: Floats,
    batch_size: int,
    losses: Floats,
    parameters: Floats,
    gradients: Floats,
    moments: Floats,
    average: Floats,
    records: Floats,
    scratch: Floats,
    maps: Floats,
    places: Integers,
    padded: NDArray[np.uint8],
) -> None:
    """Train on all batches of an order; what one of ``threads`` threads does, the last four arrays being its own."""
    steps = (len(order) + batch_size - 1) // batch_size
    for step in range(steps):
        first = step * batch_size
        batch = min(batch_size, len(order) - first)
        tiles = (batch + LANES - 1) // LANES
        while True:
            tile = take(control, NEXT_TILE)
            if tile >= tiles:
                break
            start = first + tile * LANES
            count = min(LANES, first + batch - start)
            record = records[tile * plan.record : (tile + 1) * plan.record]
            load_tile(plan, images, order, transforms, start, count, padded, maps, places, scratch)
            forward_tile(plan, c1, c3, parameters, scratch)
            loss_and_deltas(plan, scratch, record, order, labels, losses, start, count, batch)
            backward_tile(plan, c1, c3, parameters, scratch, record)
        meet(control, threads)

        f5, f6 = shares_of(plan.f5), shares_of(plan.f6)
        shares = 1 + f5 + f6 + shares_of(plan.output)
        while True:
            share = take(control, NEXT_SHARE)
            if share >= shares:
                break
            if share == 0:
                sum_records(plan, records, tiles, gradients)
                update_range(plan.rule, parameters, gradients, moments, average, hyper, step, 0, plan.convolutions)
            elif share <= f5:
                update_dense(
                    plan, plan.f5, share - 1, records, tiles, parameters, gradients, moments, average, hyper, step
                )
            elif share <= f5 + f6:
                update_dense(
                    plan, plan.f6, share - 1 - f5, records, tiles, parameters, gradients, moments, average, hyper, step
                )
            else:
                update_dense(
                    plan, plan.output, share - 1 - f5 - f6, records, tiles, parameters, gradients, moments, average,
                    hyper, step,
                )  # fmt: skip
        meet(control, threads)
        put(control, DONE, first + batch)
        if peek(control, STOPPED) or peek(control, STOP) == ABANDON:
            break


@thread_kernel
def answer(
    plan: Plan,
    control: NDArray[np.int64],
    c1: Connections,
    c3: Connections,
    images: NDArray[np.uint8],
    order: NDArray[np.int32],
    parameters: Floats,
    logits: Floats,
    scratch: Floats,
    maps: Floats,
    places: Integers,
    padded: NDArray[np.uint8],
) -> None:
    """Write the logits (M K,) of the images in an order, if there are any; what one of several threads does."""
    if len(order) == 0:
        return
    tiles = (len(order) + LANES - 1) // LANES
    while True:
        tile = take(control, NEXT_TILE)
        if tile >= tiles or peek(control, STOP):
            break
        start = tile * LANES
        count = min(LANES, len(order) - start)
        load_tile(plan, images, order, maps, start, count, padded, maps, places, scratch)
        forward_tile(plan, c1, c3, parameters, scratch)
        for lane in range(count):
            for k in range(plan.classes):
                logits[(start + lane) * plan.classes + k] = scratch[plan.output.y + k * LANES + lane]


# one image -------------------------------------------------------------------------------------------------------
#
# A tile for a single image would be wasted on fifteen others. Here a vector is 16 pixels of a row, or of two: output
# maps have rows as wide as their input maps, so that a tap joins two contiguous runs; nobody reads what is to spare.


@micro_kernel(lambda run, *_: vectors(run.value.count))
def run_start(v: Emitter, run: Block, parameters: Pointer, at: Value) -> list[Value]:
    """Return accumulators for a run of outputs, all at their bias."""
    return [v.broadcast(parameters, at)] * run.count


@micro_kernel(lambda stage, total, *_: total)
def run_add(
    v: Emitter, stage: ConvStage, total: list[Value], x: Pointer, at: Value, weight: Pointer, weight_at: Value
) -> list[Value]:
    """Add one kernel's correlation with a run of an input map."""
    total = list(total)
    for r in range(stage.kernel_height):
        for s in range(stage.kernel_width):
            w = v.broadcast(weight, weight_at, r * stage.kernel_width + s)
            place = v.moved(x, at, r * stage.width + s)
            total = [v.fma(w, run, sum_) for run, sum_ in zip(v.load_all(*place, len(total)), total, strict=True)]
    return total


@micro_kernel(types.void)
def run_end(v: Emitter, stage: ConvStage, total: list[Value], y: Pointer, at: Value) -> None:
    """Squash a run, and store it."""
    v.store_all([squash(v, stage.activation, x) for x in total], y, at)


@micro_kernel(types.void)
def pool_pairs(v: Emitter, stage: ConvStage, y: Pointer, at: Value, pooled: Pointer, pooled_at: Value) -> None:
    """Pool 32 columns of two rows to 16; what lies behind the end of the row is overwritten by the next one."""
    join = v.add if stage.pool == "mean" else v.maximum
    halves = [join(v.load(y, at, i * LANES), v.load(y, at, i * LANES + stage.width)) for i in range(2)]
    left, right = halves
    even, odd = (v.shuffle(left, right, [2 * lane + i for lane in range(LANES)]) for i in range(2))
    window = join(even, odd)
    v.store(v.mul(window, v.constant(0.25)) if stage.pool == "mean" else window, pooled, pooled_at)


@helper
def conv_one(
    stage: ConvStage,
    run: Block,
    first: Integers,
    inputs: Integers,
    parameters: Floats,
    scratch: Floats,
    x: int,
    y: int,
    pooled: int,
) -> None:
    """From the input maps of one image to the squashed and pooled output maps; the last three are places."""
    area, size = stage.kernel_height * stage.kernel_width, stage.rows * stage.width
    for k in range(stage.outputs):
        for start in range(0, size, run.count * LANES):
            total = run_start(run, parameters, stage.bias + k)
            for e in range(first[k], first[k + 1]):
                x_at = x + inputs[e] * stage.height * stage.width + start
                total = run_add(stage, total, scratch, x_at, parameters, stage.weight + e * area)
            run_end(stage, total, scratch, y + start)
        for p in range(0, stage.rows, 2):
            for q in range(0, stage.columns, 2 * LANES):
                place = pooled + ((k * stage.rows + p) * stage.columns // 2 + q) // 2
                pool_pairs(stage, scratch, y + p * stage.width + q, scratch, place)


@micro_kernel(lambda stage, rows, *_: vectors(rows.value.count))
def products(
    v: Emitter, stage: DenseStage, rows: Block, total: list[Value], x: Pointer, at: Value, weight: Pointer,
    weight_at: Value, count: Value,
) -> list[Value]:  # fmt: skip
    """Add the products of ``count`` inputs, at most 16, with the weights of several units."""
    value, result = v.load_first(x, at, count), []
    for j, sum_ in enumerate(total):
        place = v.moved(weight, weight_at, j * stage.inputs)[1]
        result.append(v.fma(v.load_first(weight, place, count), value, sum_))
    return result


@micro_kernel(types.void)
def units_end(
    v: Emitter, stage: DenseStage, rows: Block, total: list[Value], parameters: Pointer, bias_at: Value, y: Pointer,
    at: Value,
) -> None:  # fmt: skip
    """Sum the lanes, add the biases, squash, and store several units."""
    count = ir.Constant(ir.IntType(64), rows.count)
    sums = v.add(v.totals(total), v.load_first(parameters, bias_at, count))
    v.store_first(squash(v, stage.activation, sums), y, at, count)


@helper
def dense_one(stage: DenseStage, parameters: Floats, scratch: Floats, x: int, out: Floats, y: int) -> None:
    """y = f(w x + b) for one image; ``x`` and ``y`` are places in the scratch and in ``out``."""
    for k in range(0, stage.outputs, stage.units.count):
        total = zeros(stage.units)
        for d in range(0, stage.inputs, LANES):
            weight_at = stage.weight + k * stage.inputs + d
            total = products(stage, stage.units, total, scratch, x + d, parameters, weight_at, stage.inputs - d)
        units_end(stage, stage.units, total, parameters, stage.bias + k, out, y + k)


@thread_kernel
def answer_one(
    plan: Plan,
    first1: Integers,
    inputs1: Integers,
    first3: Integers,
    inputs3: Integers,
    image: NDArray[np.uint8],
    parameters: Floats,
    logits: Floats,
    scratch: Floats,
) -> None:
    """Write the logits (K,) of one image (H W,)."""
    size = plan.height * plan.width
    pixels = scratch[plan.pixels : plan.pixels + size]
    for i in range(size):
        pixels[i] = np.float32(image[i]) * np.float32(1 / 255)
    c1, c3 = plan.c1, plan.c3
    conv_one(c1, c1.run, first1, inputs1, parameters, scratch, plan.pixels, c1.slope, c1.y)
    conv_one(c3, c3.run, first3, inputs3, parameters, scratch, c1.y, c3.slope, c3.y)
    dense_one(plan.f5, parameters, scratch, c3.y, scratch, plan.f5.y)
    dense_one(plan.f6, parameters, scratch, plan.f5.y, scratch, plan.f6.y)
    dense_one(plan.output, parameters, scratch, plan.f6.y, logits, 0)
