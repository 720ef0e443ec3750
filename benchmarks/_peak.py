"""How fast a core multiplies and adds at best: chains of fused multiply-adds that never leave the registers."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lenet.kernels.cpu.frozen import register
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import LANES, Emitter, Value, micro_kernel, plus, total_of, vectors, zero

ROUNDS = 200_000  # multiply-adds of each vector in one call


@register
@dataclass(frozen=True)
class Chains:
    """How many vectors a kernel is compiled for."""

    count: int


@micro_kernel(lambda chains: vectors(chains.value.count))
def begin(v: Emitter, chains: Chains) -> list[Value]:
    """Return vectors that differ, so that none is computed for another."""
    return [v.constant(float(i)) for i in range(chains.count)]


@micro_kernel(lambda total, *_: total)
def multiply_add(v: Emitter, total: list[Value], factor: Value, summand: Value) -> list[Value]:
    """Return total * factor + summand."""
    return [v.fma(x, v.splat(factor), v.splat(summand)) for x in total]


@helper
def run_chains(chains: Chains, rounds: int, factor: np.float32, summand: np.float32) -> float:
    """Multiply and add over and over; return a number that needs all of it."""
    total = begin(chains)
    for _ in range(rounds):
        total = multiply_add(total, factor, summand)
    result = zero()
    for x in total:
        result = plus(result, x)
    return total_of(result)


CHAINS = tuple(Chains(count) for count in (4, 6, 8, 12, 16, 20))
"""Too few wait for one another, too many do not fit into the registers: the fastest is taken."""


class Peak:
    """Measures the peak of ``threads`` cores together."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        for chains in CHAINS:
            _seconds(chains, 1)  # compiles
        self._chains = min(CHAINS, key=lambda chains: min(_seconds(chains, 1) for _ in range(9)) / chains.count)

    def hello(self) -> dict[str, Any]:
        """Say that everything is compiled."""
        return {"chains": self._chains.count}

    def time(self, work: str, size: int, calls: int) -> dict[str, Any]:
        """Time calls in every thread; the peak is known by the floating-point operations that they make in all."""
        operations = 2 * LANES * self._chains.count * ROUNDS * calls * self._threads
        return {"seconds": _seconds(self._chains, self._threads, calls), "operations": operations, "remark": ""}


def _seconds(chains: Chains, threads: int, calls: int = 1) -> float:
    """Return the seconds that so many calls take in each of so many threads at the same time."""

    def work() -> None:
        for _ in range(calls):
            run_chains(chains, ROUNDS, np.float32(0.5), np.float32(1.0))

    started = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return time.perf_counter() - start
