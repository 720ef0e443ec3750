"""What takes seconds is computed once, in the background."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """A value that is computed once, in a thread of its own, from when it is first asked for."""

    def __init__(self, compute: Callable[[], T]) -> None:
        self._compute = compute
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._value: list[T] = []
        self._failure: Exception | None = None

    def start(self) -> None:
        """Have it computed, and do not wait."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._compute())
        except Exception as error:
            self._failure = error

    def get(self) -> T:
        """Wait for the value; raises what computing it raised."""
        self.start()
        assert self._thread is not None, "it was started"
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._value[0]
