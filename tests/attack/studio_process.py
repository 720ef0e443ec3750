"""The studio as a user starts it, in a process of its own, and what can be seen of it from outside."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lenet.data import FILES, load_dataset, write_idx
from lenet.studio.drawings import RECORD

LIMIT = 60.0  # seconds without an answer that count as a hang
SEVEN = [{"tool": "pen", "points": [[0.3, 0.2], [0.5, 0.2], [0.7, 0.2], [0.6, 0.4], [0.5, 0.6], [0.42, 0.85]]}]
ONE = [{"tool": "pen", "points": [[0.52, 0.15], [0.51, 0.4], [0.5, 0.6], [0.5, 0.85]]}]


@dataclass(frozen=True)
class Answer:
    """What came back: status 0 where the connection was closed without one."""

    status: int
    body: bytes
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Resources:
    """What a process holds: MiB of memory, now and at most, threads and open files."""

    memory: float
    peak: float
    threads: int
    files: int


def make_data(folder: Path, images: int) -> Path:
    """Write the first ``images`` of each sort of MNIST as a data set of its own."""
    whole = load_dataset()
    arrays = (whole.train_images, whole.train_labels, whole.test_images, whole.test_labels)
    folder.mkdir()
    for name, array in zip(FILES, arrays, strict=True):
        write_idx(folder / name, array[:images].astype("uint8"))
    return folder


def exchange(port: int, request: bytes) -> Answer:
    """Send bytes on a connection of their own, say that no more will come, and return the answer.

    Raises
    ------
    TimeoutError
        When nothing comes for `LIMIT` seconds, and the connection stays open.
    """
    began, received = time.perf_counter(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        with suppress(ConnectionError):  # it may not want to hear the rest
            connection.sendall(request)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                received += piece
    while received.startswith(b"HTTP/1.1 100 "):  # go on
        _, _, received = received.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", received)
    head, _, body = received.partition(b"\r\n\r\n")
    if status is None:
        return Answer(0, received, time.perf_counter() - began)
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        body = _dechunked(body)
    return Answer(int(status[1]), body, time.perf_counter() - began)


def _dechunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return found


class Studio:
    """A running ``lenet selftest``; its folder of drawings is ``drawings`` in ``folder``. A context manager.

    Each thread takes memory from one of many arenas, and glibc keeps what was freed there: with many threads that looks
    like a leak and hides one. So there is one arena, unless the memory is to be that of a user (``arenas``).
    """

    def __init__(self, folder: Path, *options: str | Path, arenas: bool = False) -> None:
        self.folder = folder
        self._errors = folder / f"errors-{time.monotonic_ns()}"
        command = [sys.executable, "-u", "-m", "lenet", "selftest", "--no-browser", *map(str, options)]
        with self._errors.open("w") as file:
            environment = os.environ | ({} if arenas else {"MALLOC_ARENA_MAX": "1"})
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=file, text=True, cwd=folder, env=environment
            )
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/", self.process.stdout.readline())
        assert found, self.said()
        self.port = int(found[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, path: str, body: Any = None) -> Answer:
        """GET a path, or POST an object to it, as the page does."""
        return exchange(self.port, self.request(path, body))

    def request(self, path: str, body: Any = None) -> bytes:
        """Return the bytes of such a request."""
        host = f"Host: 127.0.0.1:{self.port}\r\n"
        if body is None:
            return f"GET {path} HTTP/1.1\r\n{host}\r\n".encode()
        content = json.dumps(body)
        kind = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        return f"POST {path} HTTP/1.1\r\n{host}{kind}\r\n{content}".encode()

    def wait(self, path: str) -> Any:
        """Ask until what runs there has ended, and return what is said then."""
        deadline = time.monotonic() + 5 * LIMIT  # kernels may have to be compiled first
        while (found := self.ask(path).json)["state"] == "running":
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    def answers_right(self) -> bool:
        """Whether a 7 is still a 7."""
        answer = self.ask("/api/think", {"strokes": SEVEN, "seq": 77})
        return answer.status == 200 and (answer.json["seq"], answer.json["answer"]) == (77, 7)

    def record(self) -> bytes:
        """Return the record of the drawings, as it is on the disk."""
        return (self.folder / "drawings" / RECORD).read_bytes()

    def resources(self) -> Resources:
        """Return what the process holds (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        values = dict(re.findall(r"(\w+):\s+(\d+)", status))
        files = len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
        return Resources(int(values["VmRSS"]) / 1024, int(values["VmHWM"]) / 1024, int(values["Threads"]), files)

    def settle(self) -> None:
        """Wait until nothing runs and no connection is served any more: as many threads as there were a second ago."""
        for job in ("finetune", "training"):
            self.wait(f"/api/{job}")
        held = self.resources()
        while True:
            time.sleep(1)
            before, held = held, self.resources()
            if (before.threads, before.files) == (held.threads, held.files):
                return

    def forget_peak(self) -> None:
        """Let the peak of memory begin anew (Linux)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def said(self) -> str:
        """Return what the process has written to stderr: nothing, when all is well."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


def children_hear_signals() -> bool:
    """Whether this process lets its children be stopped; a shell's background, or nohup, does not."""
    return os.name == "posix" and signal.SIG_IGN not in map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))
