"""How threads of compiled code share work: they take numbered pieces, and meet when there are no more.

All they know of each other is in an int64 array, `control`, whose places are a cache line apart.
"""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper

LINE = 8  # int64 a cache line

NEXT_TILE, NEXT_SHARE, ARRIVED, MEETINGS, STOP, STOPPED, DONE = (LINE * place for place in range(7))
CONTROL = LINE * 7
"""Places in `control`, and its size: the next piece of work of each kind, how many threads have come to a meeting, how
many meetings there were, whether somebody wants to stop, whether all do, how many steps are done."""

ABANDON = 2
"""In `STOP`: leave at once, wherever you are, since a thread is missing. 1 is to leave together, after a step."""

SPINS = 4000  # some microseconds: longer than threads of equal work are apart, shorter than a turn of the scheduler

Control = NDArray[np.int64]

_LONG = ir.IntType(64)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


@intrinsic
def take(typing_context: Any, control: Any, at: Any) -> Any:
    """Return control[at] and count it up, as one indivisible step."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _place(context, builder, signature.args[0], *values)
        return builder.atomic_rmw("add", place, ir.Constant(_LONG, 1), "seq_cst")

    return types.int64(control, at), emit


@intrinsic
def peek(typing_context: Any, control: Any, at: Any) -> Any:
    """Return control[at] as the other threads see it."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature.args[0], *values), "seq_cst", 8)

    return types.int64(control, at), emit


@intrinsic
def put(typing_context: Any, control: Any, at: Any, value: Any) -> Any:
    """Set control[at] for all threads to see."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, at, value = values
        builder.store_atomic(value, _place(context, builder, signature.args[0], array, at), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(control, at, types.int64), emit


# Another thread may have our processor: to wait is then to let it run.
_yield = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())


@helper
def meet(control: Control, threads: int) -> None:
    """Wait until all threads are here. The last one to come sees to it that work is given out anew."""
    meeting = peek(control, MEETINGS)
    if take(control, ARRIVED) == threads - 1:
        put(control, ARRIVED, 0)
        put(control, NEXT_TILE, 0)
        put(control, NEXT_SHARE, 0)
        put(control, STOPPED, peek(control, STOP))
        take(control, MEETINGS)
        return
    spins = 0
    while peek(control, MEETINGS) == meeting:
        spins += 1
        if spins > SPINS:
            if peek(control, STOP) == ABANDON:
                return
            _yield()
