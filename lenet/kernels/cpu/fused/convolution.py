"""Convolutions of a tile, with squashing and pooling: forward, and all three gradients."""

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types

from lenet.kernels.cpu.fused.plan import Block, Connections, ConvStage, Floats
from lenet.kernels.cpu.fused.squash import derivative, squash
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import LANES, Emitter, Pointer, Value, micro_kernel, plus, total_of, vector, vectors, zero


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
    """Squash 2 rows of outputs, pool them, and keep the derivative of the pooled by each of them if there is need."""
    y = squash(v, stage.activation, total)
    hits: dict[int, Value] = {}
    for q in range(0, stage.block, 2):
        window = [q, q + 1, stage.block + q, stage.block + q + 1]
        if stage.pool == "mean":
            pooled = v.mul(_joined(v.add, [y[i] for i in window]), v.constant(0.25))
        else:
            pooled = _joined(v.maximum, [y[i] for i in window])
            hits |= zip(window, _first_hits(v, [y[i] for i in window], pooled), strict=True)
        v.store(pooled, scratch, y_at, q // 2 * LANES)
    if not stage.learns:
        return
    for i, value in enumerate(y):
        slope = derivative(v, stage.activation, value)
        if stage.pool == "mean":
            slope = v.mul(slope, v.constant(0.25))
        else:
            slope = v.builder.select(hits[i], slope, v.constant(0.0))
        v.store(slope, *v.moved(scratch, slope_at, (i // stage.block * stage.columns + i % stage.block) * LANES))


def _joined(join: Callable[[Value, Value], Value], four: Sequence[Value]) -> Value:
    return join(join(four[0], four[1]), join(four[2], four[3]))


def _first_hits(v: Emitter, values: Sequence[Value], largest: Value) -> list[Value]:
    """Return for each value in which lanes it is the first one to be the largest."""
    free = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] * LANES)  # no maximum found before
    hits = []
    for value in values:
        hits.append(v.builder.and_(free, v.builder.fcmp_ordered("==", value, largest)))
        free = v.builder.and_(free, v.builder.not_(hits[-1]))
    return hits


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
            last = i + stage.pair.count - 1
            e, k = table.into[i], table.outputs[i]
            if last < end:
                f, j = table.into[last], table.outputs[last]
                conv_taps(stage, stage.pair, scratch, record, gradient, c, e, k, f, j)
            else:
                conv_taps(stage, stage.single, scratch, record, gradient, c, e, k, e, k)
            i += stage.pair.count


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
