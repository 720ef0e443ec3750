"""A contender's process, as the process that measures sees it."""

import multiprocessing
import signal
import time
from collections.abc import Callable
from typing import Any

from lenet.bench.contender import serve
from lenet.bench.work import Result, Work


class Failed(Exception):
    """A contender that could not do what it was asked; it is left out from then on."""


class Worker:
    """A contender's process, as the one that measures sees it."""

    def __init__(self, result: Result) -> None:
        self.result = result
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, result.backend, result.executor, result.threads)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        begun = time.perf_counter()
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for this process alone
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        theirs.close()
        result.device = self.ask("start")
        result.starts.append(time.perf_counter() - begun)

    def ask(self, *request: Any) -> Any:
        """Send a request, and return the answer.

        Raises
        ------
        Failed
            With the reason, which its result keeps.
        """
        try:
            self._pipe.send(request)
            right, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.result.problem = "its process ended"
            raise Failed from error
        if not right:
            self.result.problem = answer
            raise Failed
        return answer

    def seconds(self, work: Work, calls: int) -> float:
        """Return the seconds of one image."""
        return float(self.ask("time", work, calls)) / (calls * work.batch)

    def calls(self, work: Work, seconds: float) -> int:
        """Return how many calls take about ``seconds``; the first ones, which may compile, do not count."""
        self.ask("time", work, 1)
        calls = 1
        while True:
            taken = float(self.ask("time", work, calls))
            if taken >= seconds / 4 or calls >= 4096:
                return max(1, min(4096, round(calls * seconds / max(taken, 1e-9))))
            calls *= 4

    def attempt(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Return what an action gives, or None once the contender has failed."""
        if self.result.problem:
            return None
        try:
            return action(*arguments)
        except Failed:
            return None

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
