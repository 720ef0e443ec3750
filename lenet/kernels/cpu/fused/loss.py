"""Softmax, cross-entropy and the deltas of the output layer."""

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from lenet.kernels.cpu.fused.plan import DenseStage, Floats, Plan
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import FIRST, LANES, Emitter, Pointer, Value, micro_kernel


@micro_kernel(types.void)
def softmax(v: Emitter, stage: DenseStage, scratch: Pointer, largest_at: Value, record: Pointer) -> None:
    """Write the softmax of the logits as deltas; leave their maximum, sum of exponentials and mean in the scratch."""
    logits = v.load_all(*v.moved(scratch, FIRST, stage.y), stage.outputs)
    each = v.constant(1 / stage.outputs)
    largest, mean = logits[0], v.mul(logits[0], each)
    for logit in logits[1:]:
        largest, mean = v.maximum(largest, logit), v.fma(logit, each, mean)
    powers = [v.exp(v.sub(logit, largest)) for logit in logits]
    total = powers[0]
    for power in powers[1:]:
        total = v.add(total, power)
    v.store_all([largest, total, mean], scratch, largest_at)
    v.store_all([v.div(power, total) for power in powers], *v.moved(record, FIRST, stage.delta))


@micro_kernel(types.void)
def finish_deltas(
    v: Emitter, stage: DenseStage, smoothing: Value, record: Pointer, factors: Pointer, at: Value
) -> None:
    """Subtract what smoothing has given to every class, and multiply the deltas of each image by its factor."""
    factor, each = v.load(factors, at), v.mul(v.splat(smoothing), v.constant(1 / stage.outputs))
    for k in range(stage.outputs):
        place = v.moved(record, FIRST, stage.delta + k * LANES)
        v.store(v.mul(v.sub(v.load(*place), each), factor), *place)


@helper
def loss_and_deltas(
    plan: Plan,
    scratch: Floats,
    record: Floats,
    order: NDArray[np.int32],
    labels: NDArray[np.int32],
    losses: Floats,
    smoothing: np.float32,
    start: int,
    count: int,
    batch: int,
) -> None:
    """Write the cross-entropy of each image, and the gradient of the batch's mean; spare lanes get none."""
    stage, largest = plan.output, plan.spare
    softmax(stage, scratch, largest, record)
    for lane in range(LANES):
        scratch[largest + 3 * LANES + lane] = np.float32(0)
        if lane < count:
            label = labels[order[start + lane]]
            logit = scratch[stage.y + label * LANES + lane]
            smoothed = smoothing * (logit - scratch[largest + 2 * LANES + lane])
            total = np.float32(math.log(scratch[largest + LANES + lane]))
            losses[start + lane] = total - (logit - scratch[largest + lane]) + smoothed
            record[stage.delta + label * LANES + lane] -= np.float32(1) - smoothing
            scratch[largest + 3 * LANES + lane] = np.float32(1) / np.float32(batch)
    finish_deltas(stage, smoothing, record, scratch, largest + 3 * LANES)
