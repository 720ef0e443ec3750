"""Vectors of sixteen floats: every operation of the emitter, in a micro-kernel of its own, against NumPy."""

import numba
import numpy as np
import pytest
from numba import types

from lenet.kernels.cpu.frozen import Frozen
from lenet.kernels.cpu.simd import LANES, micro_kernel, vector, vectors

EPS = float(np.finfo(np.float32).eps)

compiled = numba.njit(error_model="numpy")


def floats(count, seed=1):
    return np.random.default_rng(seed).standard_normal(count, np.float32)


# memory ------------------------------------------------------------------------------------------------------------


@micro_kernel(types.void)
def copy(v, x, at, out, out_at):
    """Copy a vector, and behind it two that lie 20 apart, to places 17 apart."""
    v.store(v.load(x, at, 3), out, out_at, 2)
    v.store_all(v.load_all(x, at, 2, step=20), *v.moved(out, out_at, 20), step=17)


@compiled
def copied(x, at, out, out_at):
    copy(x, at, out, out_at)


@pytest.mark.parametrize("at", [0, 1, 7, 16])  # vectors need not begin a cache line
def test_load_and_store(at):
    x, out = floats(80), np.full(80, -1, np.float32)
    copied(x, at, out, at)
    wanted = np.full(80, -1, np.float32)
    wanted[at + 2 : at + 18] = x[at + 3 : at + 19]
    wanted[at + 20 : at + 36] = x[at : at + 16]
    wanted[at + 37 : at + 53] = x[at + 20 : at + 36]
    np.testing.assert_array_equal(out, wanted)


@micro_kernel(types.void)
def copy_first(v, x, at, out, out_at, count):
    v.store(v.load_first(x, at, count), out, out_at)


@micro_kernel(types.void)
def keep_first(v, x, at, out, out_at, count):
    v.store_first(v.load(x, at), out, out_at, count)


@compiled
def first_copied_and_kept(x, out, kept, at, count):
    copy_first(x, at, out, at, count)
    keep_first(x, at, kept, at, count)


@pytest.mark.parametrize("count", [*range(LANES + 1), 17, 100, 2**31 - 1, -1, -16, -(2**31)])
def test_the_first_few_of_a_vector(count):
    x, at = floats(40), 5
    out, kept = np.full(40, -1, np.float32), np.full(40, -1, np.float32)
    first_copied_and_kept(x, out, kept, at, count)
    there = slice(at, at + min(max(count, 0), LANES))
    loaded, stored = np.full(40, -1, np.float32), np.full(40, -1, np.float32)
    loaded[at : at + LANES] = 0
    loaded[there] = stored[there] = x[there]
    np.testing.assert_array_equal(out, loaded)
    np.testing.assert_array_equal(kept, stored)


@micro_kernel(types.void)
def collect(v, x, at, source, places, out, whole):
    """Spread one float over a vector; gather four bytes from each of 16 places, once as integers, once as reals."""
    v.store(v.broadcast(x, at, 2), out, at)
    found = v.gather(source, v.builder.load(v.builder.bitcast(places.base, v.integer(0).type.as_pointer())))
    v.store(v.real(v.builder.and_(found, v.integer(0xFFFFFF))), out, at, LANES)
    v.builder.store(found, v.builder.bitcast(whole.base, found.type.as_pointer()), align=4)


@compiled
def collected(x, at, source, places, out, whole):
    collect(x, at, source, places, out, whole)


def test_broadcast_and_gather():
    random = np.random.default_rng(2)
    source = random.integers(0, 256, 300).astype(np.uint8)
    for places in (random.integers(0, 297, LANES).astype(np.int32), np.full(LANES, 296, np.int32)):
        aligned = np.zeros(64, np.int32)  # a vector of integers is loaded from the beginning of a cache line
        start = -(aligned.ctypes.data // 4) % 16
        aligned[start : start + LANES] = places
        out, whole, x = np.empty(32, np.float32), np.empty(LANES, np.int32), floats(3)
        collected(x, 0, source, aligned[start:], out, whole)
        wanted = np.array([int.from_bytes(source[at : at + 4].tobytes(), "little", signed=True) for at in places])
        np.testing.assert_array_equal(out[:LANES], x[2])
        np.testing.assert_array_equal(whole, wanted)
        np.testing.assert_array_equal(out[LANES:], wanted & 0xFFFFFF)


# arithmetic --------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "add": lambda x, y, z: x + y,
    "sub": lambda x, y, z: x - y,
    "mul": lambda x, y, z: x * y,
    "div": lambda x, y, z: x / y,
    "fma": lambda x, y, z: x * y + z,
    "sqrt": lambda x, y, z: np.sqrt(abs(x)),
    "constant": lambda x, y, z: x * 0 + np.float32(0.1),
    "whole": lambda x, y, z: np.trunc(x),
    "splat": lambda x, y, z: x * 0 + x[3],
    "shuffle": lambda x, y, z: np.concatenate([x, y])[5:21],
}


@micro_kernel(types.void)
def operate(v, inputs, at, out):
    x, y, z = v.load_all(inputs, at, 3)
    third = v.builder.extract_element(x, v.integer(3).type.element(3))
    results = {
        "add": v.add(x, y),
        "sub": v.sub(x, y),
        "mul": v.mul(x, y),
        "div": v.div(x, y),
        "fma": v.fma(x, y, z),
        "sqrt": v.sqrt(v.maximum(x, v.sub(v.constant(0.0), x))),
        "constant": v.constant(0.1),
        "whole": v.real(v.whole(x)),
        "splat": v.splat(third),
        "shuffle": v.shuffle(x, y, range(5, 21)),
    }
    v.store_all([results[name] for name in OPERATIONS], out, at)


@compiled
def operated(inputs, out):
    operate(inputs, 0, out)


def test_arithmetic():
    inputs, out = 3 * floats(3 * LANES), np.empty(len(OPERATIONS) * LANES, np.float32)
    operated(inputs, out)
    wide = inputs.astype(np.float64).reshape(3, LANES)
    for (name, operation), actual in zip(OPERATIONS.items(), out.reshape(-1, LANES), strict=True):
        # a product that is rounded before it is added may cost half an eps of itself
        size = abs(wide[0] * wide[1]) if name == "fma" else 0
        error = abs(actual - operation(*wide))
        assert (error <= EPS * (abs(operation(*wide)) + size)).all(), name


@micro_kernel(types.void)
def compare(v, x, y, at, out):
    one, other = v.load(x, at), v.load(y, at)
    v.store_all([v.maximum(one, other), v.clamp(one, -2.5, 4.0), v.limit(one, -2.5, 4.0)], out, at)


@compiled
def compared(x, y, out):
    compare(x, y, 0, out)


def test_maximum_and_clamp_pass_nan_on_and_limit_does_not():
    numbers = [-np.inf, -2, 0, 3, np.inf, np.nan]
    x = np.array([a for a in numbers for _ in numbers], np.float32)
    y = np.array([b for _ in numbers for b in numbers], np.float32)
    for start in (0, 16, 20):
        part, out = slice(start, start + LANES), np.empty(3 * LANES, np.float32)
        compared(x[part], y[part], out)
        limited = np.clip(np.nan_to_num(x[part], nan=-np.inf), -2.5, 4.0)
        np.testing.assert_array_equal(out, [*np.maximum(x[part], y[part]), *np.clip(x[part], -2.5, 4.0), *limited])


# sums --------------------------------------------------------------------------------------------------------------


@micro_kernel(types.float32)
def sum_one(v, x, at):
    return v.total(v.load(x, at))


@compiled
def summed_one(x, at):
    return sum_one(x, at)


def test_total():
    whole = np.random.default_rng(3).integers(-(2**19), 2**19, 64).astype(np.float32)
    for at in (0, 5, 48):
        assert summed_one(whole, at) == whole[at : at + LANES].sum(dtype=np.float64)
    x = floats(LANES)
    halves = x.copy()
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert summed_one(x, 0) == halves[0]  # the order is a part of the promise: always the same bits


def summing(count):
    """Compile the sums of ``count`` vectors."""

    @micro_kernel(types.void)
    def sum_all(v, x, at, out):
        v.store(v.totals(v.load_all(x, at, count)), out, at)

    @compiled
    def summed(x, out):
        sum_all(x, 0, out)

    return summed


@pytest.mark.parametrize("count", [1, 5, 10, 16])
def test_totals(count):
    summed, out = summing(count), np.empty(LANES, np.float32)
    whole = np.random.default_rng(4).integers(-(2**19), 2**19, (count, LANES)).astype(np.float32)
    summed(whole.reshape(-1), out)
    np.testing.assert_array_equal(out, [*whole.sum(axis=1), *[0] * (LANES - count)])
    x = floats(count * LANES).reshape(count, LANES)
    summed(x.reshape(-1), out)
    pairs = x
    while pairs.shape[1] > 1:
        pairs = pairs[:, ::2] + pairs[:, 1::2]
    np.testing.assert_array_equal(out[:count], pairs[:, 0])


@micro_kernel(types.void)
def turn(v, x, at, out):
    v.store_all(v.transpose(v.load_all(x, at, LANES)), out, at)


@compiled
def turned(x, out):
    turn(x, 0, out)


def test_transpose():
    x, out = np.arange(256, dtype=np.float32), np.empty(256, np.float32)
    turned(x, out)
    np.testing.assert_array_equal(out.reshape(16, 16), x.reshape(16, 16).T)


# the exponential ---------------------------------------------------------------------------------------------------


@micro_kernel(types.void)
def raise_e(v, x, at, out):
    v.store(v.exp(v.load(x, at)), out, at)


@compiled
def exponentials(x, out):
    for at in range(0, len(x), LANES):
        raise_e(x, at, out)


def exp(x):
    x = np.asarray(x, np.float32)
    padded, out = np.zeros(-(-len(x) // LANES) * LANES, np.float32), np.empty(-(-len(x) // LANES) * LANES, np.float32)
    padded[: len(x)] = x
    exponentials(padded, out)
    return out[: len(x)].astype(np.float64)


def test_exponential_is_accurate_over_a_dense_grid():
    tiny = np.geomspace(1e-37, 1, 200_001)
    x = np.concatenate([np.linspace(-87, 87, 1_000_001), tiny, -tiny]).astype(np.float32)
    error = abs(exp(x) / np.exp(x.astype(np.float64)) - 1)
    assert np.all(error <= 3e-7 + 1e-7 * abs(x))


def test_exponential_of_zero_is_one():
    assert exp([0.0, -0.0]).tolist() == [1.0, 1.0]


def test_exponential_saturates_and_lets_nan_pass():
    x = [-np.inf, -3e38, -88, -87, 87, 88, 3e38, np.inf, np.nan]
    low, high = [np.exp(-87.0)] * 4, [np.exp(87.0)] * 4
    np.testing.assert_allclose(exp(x), [*low, *high, np.nan], rtol=3e-7 + 1e-7 * 87)


# micro-kernels -----------------------------------------------------------------------------------------------------


@micro_kernel(lambda total, *_: total)
def add_to_each(v, total, x, at):
    """Add a vector to each of a tuple, twice to the second, and so on."""
    sums, term = [], v.load(x, at)
    for value in total:
        value = v.add(value, term)
        sums.append(value)
        term = v.add(term, v.load(x, at))
    return sums


@micro_kernel(vectors(3))
def three(v, x, at):
    return v.load_all(x, at, 3)


@micro_kernel(types.void)
def store_three(v, total, x, at):
    v.store_all(total, x, at)


@compiled
def accumulated(x, times, out):
    total = three(x, 0)
    for _ in range(times):
        total = add_to_each(total, x, 48)
    store_three(total, out, 0)


@pytest.mark.parametrize("times", [0, 1, 5])
def test_tuples_of_vectors_pass_through_loops(times):
    x, out = np.arange(64, dtype=np.float32), np.empty(48, np.float32)
    accumulated(x, times, out)
    term = x[48:]
    np.testing.assert_array_equal(
        out, np.concatenate([x[16 * i : 16 * i + 16] + (i + 1) * times * term for i in range(3)])
    )


def test_the_type_of_a_result_follows_from_the_arguments():
    assert vectors(3) == types.UniTuple(vector, 3)
    assert Frozen(3) == Frozen(3) != Frozen(4)
