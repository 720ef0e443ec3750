"""Signals that end a command, all in the same way: as Ctrl-C does, with everything saved."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

PATIENCE = 1.0
"""Seconds within which a further signal is the same wish: a double press, or one sent to a whole group of processes."""

_SHOW_CURSOR = b"\x1b[?25h"


class Stop(KeyboardInterrupt):
    """A signal asks for the end; ``exit_code`` is the shell's for it, 130 for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP raise `Stop` in a block, in the main thread.

    Only the first does. One that comes later than `PATIENCE` after it ends the process there and then, which is safe
    for whatever survives a crash. A signal that is ignored already, as under ``nohup``, stays so.
    """
    first: float | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now
            raise Stop(number)
        if now > first + PATIENCE:
            if os.isatty(2):
                with suppress(OSError):
                    os.write(2, _SHOW_CURSOR)
            os._exit(128 + number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if first is None:  # else the process is about to end, and no further signal should disturb that
            for number in handled:
                signal.signal(number, before[number])
