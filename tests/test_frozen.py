"""Frozen objects: what compiled code sees of them, and under what it is compiled and kept."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import numba
import numpy as np
import pytest
from numba import types

from lenet.kernels.cpu.frozen import register
from lenet.kernels.cpu.simd import micro_kernel


@register
@dataclass(frozen=True)
class Inner:
    count: int
    kind: str


@register
@dataclass(frozen=True)
class Outer:
    factor: int
    share: float
    inner: Inner


OUTER = Outer(3, 0.25, Inner(5, "relu"))

handed = []  # what the compiler hands a micro-kernel


@micro_kernel(lambda outer, share, kind: types.int64)
def remember(v, outer, share, kind):
    handed.append((outer, share, kind))
    return v.context.get_constant(types.int64, outer.factor)


@numba.njit
def product(outer):
    return remember(outer, outer.share, outer.inner.kind) * outer.inner.count


def test_attributes_are_constants_to_the_compiler():
    handed.clear()
    assert product(OUTER) == 15
    assert handed == [(OUTER, 0.25, "relu")]  # a micro-kernel is handed the objects themselves
    (code,) = product.inspect_llvm().values()
    assert "store i64 15," in code  # and nothing is left to be computed


@numba.njit
def scaled(outer, x):
    return outer.factor * x + outer.inner.count


def test_one_number_that_differs_makes_another_specialization():
    same = replace(OUTER, inner=replace(OUTER.inner))
    assert same is not OUTER
    variants = [OUTER, same, replace(OUTER, factor=4), replace(OUTER, inner=Inner(6, "relu"))]
    assert [scaled(outer, 10) for outer in variants] == [35, 35, 45, 36]
    assert len(scaled.signatures) == 3
    scaled(replace(OUTER, share=np.nextafter(0.25, 1).item()), 10)
    assert len(scaled.signatures) == 4  # a float counts to the last bit, even where no code reads it
    scaled(replace(OUTER, inner=Inner(5, "tanh")), 10)
    assert len(scaled.signatures) == 5


def test_an_object_in_the_place_of_one_that_is_gone_is_not_taken_for_it():
    kept = Inner(1, "relu")
    assert numba.typeof(kept).value is kept
    for _ in range(100):
        for count in (1, 2):  # an equal object and a different one: freed at once, they would get the same place
            inner = Inner(count, "relu")
            assert numba.typeof(inner).value == inner
            del inner


def test_what_is_not_there_is_refused():
    @numba.njit
    def wrong(outer):
        return outer.missing

    with pytest.raises(AttributeError, match="missing"):
        wrong(OUTER)


PROGRAM = """
import json, sys
from dataclasses import dataclass
import numba
from lenet.kernels.cpu.frozen import register

@register
@dataclass(frozen=True)
class Plan:
    count: int

@numba.njit(cache=True)
def double(plan):
    return 2 * plan.count

results = [double(Plan(int(count))) for count in sys.argv[1:]]
hits, misses = double.stats.cache_hits, double.stats.cache_misses
print(json.dumps([results, sum(hits.values()), sum(misses.values())]))
"""


def test_each_is_kept_on_disk_for_the_next_process(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(*counts):
        command = [sys.executable, program, *map(str, counts)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert run(3, 4) == [[6, 8], 0, 2]
    assert run(4, 3, 5) == [[8, 6, 10], 2, 1]  # each finds its own, never the other's
