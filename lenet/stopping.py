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


class _Wish:
    """That the process should end: the first signal and when it came, and whether it has to wait."""

    def __init__(self) -> None:
        self.number = 0
        self.time = 0.0
        self.told = False
        self.held = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        if not self.number:
            self.number, self.time = number, now
            self.tell()
        elif now > self.time + PATIENCE:
            if os.isatty(2):
                with suppress(OSError):
                    os.write(2, _SHOW_CURSOR)
            os._exit(128 + number)

    def tell(self) -> None:
        """Raise `Stop` once, if there was a signal and nothing holds it back."""
        if self.number and not self.told and not self.held:
            self.told = True
            raise Stop(self.number)


_wish = _Wish()


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP raise `Stop` in a block, in the main thread.

    Only the first does. One that comes later than `PATIENCE` after it ends the process there and then, which is safe
    for whatever survives a crash. A signal that is ignored already, as under ``nohup``, stays so.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, _wish.hear)
    try:
        yield
    finally:
        for number in handled:  # after a signal the process is about to end, and no further one should disturb that
            signal.signal(number, signal.SIG_IGN if _wish.number else before[number])


@contextmanager
def held_back() -> Iterator[None]:
    """Hold `Stop` back until a block is done that makes no sense by half, and is soon done."""
    _wish.held = True
    try:
        yield
    finally:
        _wish.held = False
        _wish.tell()
