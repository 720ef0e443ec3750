"""Whole networks: what one of several threads does for a stretch of batches, or for images to be answered."""

import numpy as np
from numpy.typing import NDArray

from lenet.kernels.cpu.fused.convolution import conv_backward, conv_deltas, conv_forward, conv_gradients
from lenet.kernels.cpu.fused.dense import dense_backward, dense_forward, dense_gradients, keep_inputs
from lenet.kernels.cpu.fused.images import load_tile
from lenet.kernels.cpu.fused.loss import loss_and_deltas
from lenet.kernels.cpu.fused.plan import Connections, DenseStage, Floats, Integers, Plan
from lenet.kernels.cpu.fused.update import sum_records, update_range
from lenet.kernels.cpu.options import helper, thread_kernel
from lenet.kernels.cpu.simd import LANES
from lenet.kernels.cpu.threads import (
    DONE,
    MEETINGS,
    NAPS,
    NEXT_SHARE,
    NEXT_TILE,
    SETTLED,
    STOP,
    Control,
    come_back,
    meet,
    peek,
    put,
    stopped,
    take,
)


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


@helper
def update_all(
    plan: Plan,
    control: Control,
    records: Floats,
    tiles: int,
    parameters: Floats,
    gradients: Floats,
    moments: Floats,
    average: Floats,
    hyper: Floats,
    step: int,
) -> None:
    """Take shares of the parameters, as long as there are some: those of the convolutions are one."""
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
            update_dense(plan, plan.f5, share - 1, records, tiles, parameters, gradients, moments, average, hyper, step)
        elif share <= f5 + f6:
            update_dense(
                plan, plan.f6, share - 1 - f5, records, tiles, parameters, gradients, moments, average, hyper, step
            )
        else:
            update_dense(
                plan, plan.output, share - 1 - f5 - f6, records, tiles, parameters, gradients, moments, average, hyper,
                step,
            )  # fmt: skip


@thread_kernel
def train(
    plan: Plan,
    control: Control,
    c1: Connections,
    c3: Connections,
    images: NDArray[np.uint8],
    order: NDArray[np.int32],
    targets: Floats,
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
    pairs: NDArray[np.uint16],
) -> None:
    """Train on all batches of an order; what one of several threads does, the last four arrays being its own."""
    steps = (len(order) + batch_size - 1) // batch_size
    step = peek(control, MEETINGS) // 2  # 0, but not a literal, for which Numba would compile everything once more
    naps, back = 0, -SETTLED - 1
    while step < steps and not stopped(control):
        first = step * batch_size
        batch = min(batch_size, len(order) - first)
        tiles = (batch + LANES - 1) // LANES
        while True:
            tile = take(control, NEXT_TILE)
            if tile >= tiles or peek(control, STOP):
                break
            start = first + tile * LANES
            count = min(LANES, first + batch - start)
            record = records[tile * plan.record : (tile + 1) * plan.record]
            load_tile(plan, images, order, transforms, start, count, pairs, maps, places, scratch)
            forward_tile(plan, c1, c3, parameters, scratch)
            loss_and_deltas(plan, scratch, record, targets, losses, start, count, batch)
            backward_tile(plan, c1, c3, parameters, scratch, record)
        stays = meet(control, False)
        if stays and not stopped(control):
            update_all(plan, control, records, tiles, parameters, gradients, moments, average, hyper, step)
            put(control, DONE, first + batch)
            stays = meet(control, True)
        if not stays:
            naps = 1 if peek(control, MEETINGS) - back > SETTLED else min(2 * naps, NAPS)
            come_back(control, naps, 2 * steps)
            back = peek(control, MEETINGS)
        step = peek(control, MEETINGS) // 2


@thread_kernel
def answer(
    plan: Plan,
    control: Control,
    c1: Connections,
    c3: Connections,
    images: NDArray[np.uint8],
    order: NDArray[np.int32],
    transforms: Floats,
    parameters: Floats,
    logits: Floats,
    scratch: Floats,
    maps: Floats,
    places: Integers,
    pairs: NDArray[np.uint16],
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
        load_tile(plan, images, order, transforms, start, count, pairs, maps, places, scratch)
        forward_tile(plan, c1, c3, parameters, scratch)
        for lane in range(count):
            for k in range(plan.classes):
                logits[(start + lane) * plan.classes + k] = scratch[plan.output.y + k * LANES + lane]
