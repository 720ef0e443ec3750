"""The update rules, on ranges of the vector of parameters."""

from numba import types

from lenet.kernels.cpu.fused.plan import Floats, Plan, Rule
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import FLOAT, LANES, Emitter, Pointer, Value, deposit, fetch, micro_kernel, plus, zero


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
        # Divisions of one number, which the compiler takes out of the loop, instead of sixteen.
        step, scale = (v.splat(v.builder.fdiv(*pair)) for pair in ((rate, correction1), (FLOAT(1.0), correction2)))
        size = v.add(v.sqrt(v.mul(s, scale)), v.constant(rule.epsilon))
        w = v.sub(w, v.div(v.mul(step, m), size))
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
    rate, correction1, correction2, decay = hyper[4 * step : 4 * step + 4]
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
