"""How threads of compiled code share work: they take numbered pieces, and meet when there are no more.

All they know of each other is in an int64 array, `control`, whose places are a cache line apart.

A thread whose processor is lent to another program for some milliseconds keeps all others waiting, for as long as a
dozen steps take. So who comes much too late leaves the crew, and asks to be let in again after a while.
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

NEXT_TILE, NEXT_SHARE, CREW, ARRIVED, MEETINGS, LATE, ASKED, ADMITTED, STOP, STOPPED, DONE = range(0, 11 * LINE, LINE)
CONTROL = 11 * LINE
"""Places in `control`, and its size: the next piece of work of each kind; how many threads there are in the crew, how
many of them have come to a meeting, how many meetings there were, whether somebody was waited for too long; how many
have asked to be let in again, and how many were; whether somebody wants to stop, whether all do, how many images are
done. All zeros but the crew."""

ABANDON = 2
"""In `STOP`: leave at once, wherever you are, since a thread is missing. 1 is to leave together, after a step."""

SPINS = 4000  # some microseconds: longer than threads of equal work are apart, shorter than a turn of the scheduler
PATIENCE = 2000  # looks after that, most of a millisecond
NAPS = 32  # milliseconds out of the crew at most, ten times what a thread that comes back too early may cost
SETTLED = 200  # meetings after which a thread that came back is no more on probation

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
sleep = types.ExternalFunction("Sleep" if sys.platform == "win32" else "usleep", types.int32(types.uint32))
MILLISECOND = np.uint32(1 if sys.platform == "win32" else 1000)


@helper
def meet(control: Control, admitting: bool) -> bool:
    """Wait until the whole crew is here; return whether this thread is still one of it.

    The last one to come sees to it that work is given out anew, and, if ``admitting``, lets in who has asked.
    """
    meeting, crew = peek(control, MEETINGS), peek(control, CREW)
    if take(control, ARRIVED) == crew - 1:
        stays = crew == 1 or not peek(control, LATE)
        admitted = peek(control, ASKED if admitting else ADMITTED)
        put(control, CREW, crew - (not stays) + admitted - peek(control, ADMITTED))
        put(control, ARRIVED, 0)
        put(control, NEXT_TILE, 0)
        put(control, NEXT_SHARE, 0)
        put(control, LATE, 0)
        put(control, STOPPED, peek(control, STOP))
        take(control, MEETINGS)
        put(control, ADMITTED, admitted)
        return stays
    looks = 0
    while peek(control, MEETINGS) == meeting:
        looks += 1
        if looks > SPINS:
            if peek(control, STOP) == ABANDON:
                break
            if looks > SPINS + PATIENCE:
                put(control, LATE, 1)
            _yield()
    return True


@helper
def stopped(control: Control) -> bool:
    """Whether to leave."""
    return peek(control, STOPPED) != 0 or peek(control, STOP) == ABANDON


@helper
def come_back(control: Control, naps: int, meetings: int) -> None:
    """Sleep ``naps`` milliseconds, then wait to be let in again, if all is not stopped or over after ``meetings``."""
    for _ in range(naps):
        sleep(MILLISECOND)
        if stopped(control) or peek(control, MEETINGS) >= meetings:
            return
    place = take(control, ASKED)
    while peek(control, ADMITTED) <= place and not stopped(control) and peek(control, MEETINGS) < meetings:
        _yield()
