"""Dense layers: a tile forward and down again, and the gradients of a whole batch."""

from llvmlite import ir
from numba import types

from lenet.kernels.cpu.fused.plan import Block, DenseStage, Floats, Plan
from lenet.kernels.cpu.fused.squash import derivative, squash
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import LANES, Emitter, Pointer, Value, fetch, micro_kernel, plus, total_of, vectors, zero


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
    v.store_all(squash(v, stage.activation, total), scratch, at)


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
