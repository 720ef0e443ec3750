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
