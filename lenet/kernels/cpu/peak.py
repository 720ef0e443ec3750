"""What a processor can do at best: chains of multiply-adds that never leave the registers, and streams of memory."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.kernels.cpu.frozen import register
from lenet.kernels.cpu.options import helper
from lenet.kernels.cpu.simd import LANES, Emitter, Value, micro_kernel, plus, total_of, vectors, zero

ROUNDS = 2_000_000  # multiply-adds of each vector in one call
STREAMED = 1 << 28  # bytes that a call reads and writes at least


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
def _run_chains(chains: Chains, rounds: int, factor: np.float32, summand: np.float32) -> float:
    """Multiply and add over and over; return a number that needs all of it."""
    total = begin(chains)
    for _ in range(rounds):
        total = multiply_add(total, factor, summand)
    result = zero()
    for x in total:
        result = plus(result, x)
    return total_of(result)


@helper
def _run_stream(arrays: NDArray[np.float32], rounds: int) -> None:
    """Read two arrays and write a third, over and over."""
    x, y, out = arrays[0], arrays[1], arrays[2]
    for i in range(rounds):
        factor = np.float32(i)
        for j in range(len(out)):
            out[j] = x[j] + factor * y[j]


CHAINS = tuple(Chains(count) for count in (4, 6, 8, 12, 16, 20))
"""Too few wait for one another, too many do not fit into the registers: the fastest is taken."""


class MultiplyAdds:
    """Multiply-adds of ``threads`` cores together.

    ``operations`` of floating point in a call, two for each.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        for chains in CHAINS:
            self._call(chains, 1)  # compiles
        self.chains = min(CHAINS, key=lambda chains: min(self._call(chains, 1) for _ in range(9)) / chains.count)
        self.operations = 2 * LANES * self.chains.count * ROUNDS * threads

    def seconds(self, calls: int = 1) -> float:
        """Return what so many calls take."""
        return self._call(self.chains, self._threads, calls)

    def _call(self, chains: Chains, threads: int, calls: int = 1) -> float:
        def work(_: int) -> None:
            for _ in range(calls):
                _run_chains(chains, ROUNDS, np.float32(0.5), np.float32(1.0))

        return _together(work, threads)


class Stream:
    """Reading two arrays and writing a third, of ``size`` bytes together, which ``threads`` cores share.

    ``traffic`` in bytes of a call, which passes over the arrays as often as is needed to be timed.
    """

    def __init__(self, size: int, threads: int) -> None:
        self._threads, count = threads, max(1, size // (12 * threads))
        self._arrays = [np.ones((3, count), np.float32) for _ in range(threads)]
        self._rounds = -(-STREAMED // size)
        self.traffic = 12 * count * threads * self._rounds
        _run_stream(self._arrays[0], 1)  # compiles

    def seconds(self, calls: int = 1) -> float:
        """Return what so many calls take."""

        def work(thread: int) -> None:
            _run_stream(self._arrays[thread], self._rounds * calls)

        return _together(work, self._threads)


def _together(work: Callable[[int], Any], threads: int) -> float:
    """Return the seconds that ``work`` takes in each of so many threads at the same time."""
    started = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    start = time.perf_counter()
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return time.perf_counter() - start
