"""Softmax, cross-entropy and the deltas of the output layer."""

import math

import numpy as np
from numba import types

from lenet.kernels.cpu.fused.plan import DenseStage, Floats, Plan
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import FIRST, LANES, Emitter, Pointer, Value, micro_kernel


@micro_kernel(types.void)
def softmax(v: Emitter, stage: DenseStage, scratch: Pointer, targets_at: Value, record: Pointer) -> None:
    """Write the deltas, (softmax - targets) times the share of each image in the batch's mean.

    The targets (K, LANES) and the shares (LANES,) are in the scratch. What the loss needs is left behind them: the sums
    of exp(logits - largest), of the targets, and of targets (logits - largest).
    """
    classes = stage.outputs
    logits = v.load_all(*v.moved(scratch, FIRST, stage.y), classes)
    *targets, share = v.load_all(scratch, targets_at, classes + 1)
    largest = logits[0]
    for logit in logits[1:]:
        largest = v.maximum(largest, logit)
    shifted = [v.sub(logit, largest) for logit in logits]
    powers = [v.exp(each) for each in shifted]
    total, whole, targeted = powers[0], targets[0], v.mul(targets[0], shifted[0])
    for k in range(1, classes):
        total, whole = v.add(total, powers[k]), v.add(whole, targets[k])
        targeted = v.fma(targets[k], shifted[k], targeted)
    v.store_all([total, whole, targeted], *v.moved(scratch, targets_at, (classes + 1) * LANES))
    deltas = [v.mul(v.sub(v.div(power, total), target), share) for power, target in zip(powers, targets, strict=True)]
    v.store_all(deltas, *v.moved(record, FIRST, stage.delta))


@helper
def loss_and_deltas(
    plan: Plan, scratch: Floats, record: Floats, targets: Floats, losses: Floats, start: int, count: int, batch: int
) -> None:
    """Write the cross-entropy of each image, and the gradient of the batch's mean; spare lanes get none."""
    classes, place = plan.output.outputs, plan.targets
    for lane in range(LANES):
        image = start + min(lane, count - 1)
        for k in range(classes):
            scratch[place + k * LANES + lane] = targets[image * classes + k]
        share = np.float32(1) / np.float32(batch)
        scratch[place + classes * LANES + lane] = share if lane < count else np.float32(0)
    softmax(plan.output, scratch, place, record)
    left = place + (classes + 1) * LANES
    for lane in range(count):
        total, whole, targeted = scratch[left + lane], scratch[left + LANES + lane], scratch[left + 2 * LANES + lane]
        losses[start + lane] = whole * np.float32(math.log(total)) - targeted
