"""One image, as fast as can be.

A tile for a single image would be wasted on fifteen others. Here a vector is 16 pixels of a row, or of two: output
maps have rows as wide as their input maps, so that a tap joins two contiguous runs; nobody reads what is to spare.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from lenet.kernels.cpu.fused.dense import zeros
from lenet.kernels.cpu.fused.plan import Block, ConvStage, DenseStage, Floats, Integers, Plan
from lenet.kernels.cpu.fused.squash import squash
from lenet.kernels.cpu.options import helper, thread_kernel
from lenet.kernels.cpu.simd import LANES, Emitter, Pointer, Value, micro_kernel, vectors


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
    v.store_all(squash(v, stage.activation, total), y, at)


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
    (values,) = squash(v, stage.activation, [sums])
    v.store_first(values, y, at, count)


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
