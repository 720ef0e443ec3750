"""What a hostile or careless client does to a running studio, and what it sees while others do it."""

import json
import random
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import malformed
import numpy as np
from studio_process import LIMIT, SEVEN, Answer, Studio, exchange

from lenet.drawing import CANVAS, ERASER, MAX_LENGTH, MAX_POINTS, MAX_STROKES
from lenet.studio.wire import MAX_BODY

CLIENTS = 8
"""Connections at the same moment, where it does not matter how many there are."""


@dataclass
class Outcome:
    """What became of the requests of an attack: how often which status, seconds each, and what was wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    hangs: int = 0

    def add(self, other: "Outcome") -> None:
        self.statuses += other.statuses
        self.seconds += other.seconds
        self.failures += other.failures
        self.hangs += other.hangs

    @property
    def requests(self) -> int:
        return sum(self.statuses.values()) + self.hangs

    def within(self, hundred: int) -> int:
        """Return how many answers had a status in this hundred; 0 for connections that were closed without one."""
        return sum(count for status, count in self.statuses.items() if status // 100 == hundred)

    @property
    def slowest(self) -> float:
        return max(self.seconds, default=0.0)


def send(studio: Studio, requests: Iterable[tuple[str, bytes]], clients: int = CLIENTS) -> Outcome:
    """Send named requests, some at a time, each on a connection of its own, and look at what comes back."""
    outcome, lock = Outcome(), threading.Lock()

    def one(named: tuple[str, bytes]) -> None:
        name, request = named
        try:
            answer = exchange(studio.port, request)
        except TimeoutError:
            with lock:
                outcome.hangs += 1
                outcome.failures.append(f"no answer within {LIMIT} s to {name}: {request[:300]!r}")
            return
        wrong = what_is_wrong(answer)
        with lock:
            outcome.statuses[answer.status] += 1
            outcome.seconds.append(answer.seconds)
            if wrong:
                outcome.failures.append(f"{wrong} to {name}: {request[:300]!r} ... {answer.body[:300]!r}")
        if answer.status == 202:  # it has begun to teach or to train, which is not what is attacked here
            for job in ("finetune", "training"):
                studio.ask(f"/api/{job}/stop", {})

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, requests))
    return outcome


def what_is_wrong(answer: Answer) -> str:
    """Say what no request may bring about, or nothing."""
    if answer.status >= 500:
        return f"status {answer.status}"
    if b"Traceback" in answer.body or b"site-packages" in answer.body or b"root:" in answer.body:
        return "an answer that tells too much"
    if answer.status >= 400 and answer.body.startswith(b"{"):
        told = answer.json
        if list(told) != ["error"] or not told["error"] or "\n" in told["error"]:
            return "a refusal that is not one line"
    return ""


# malformed -----------------------------------------------------------------------------------------------------------


def malformed_requests(studio: Studio, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield as many of each kind."""
    for number in range(count):
        kind = malformed.KINDS[number % len(malformed.KINDS)]
        yield f"{kind.__name__} {number}", kind(random.Random(f"{seed} {number}"), studio.port)


def malform(studio: Studio, count: int, seed: int) -> Outcome:
    """Send malformed requests."""
    return send(studio, malformed_requests(studio, count, seed))


# oversized -----------------------------------------------------------------------------------------------------------


def oversized(studio: Studio) -> Iterator[tuple[str, bytes]]:
    """Yield requests that are too large, or say so."""
    start = f"POST /api/think HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\nContent-Type: application/json\r\n".encode()

    def sized(length: object, body: bytes) -> bytes:
        return start + f"Content-Length: {length}\r\n\r\n".encode() + body

    yield "a body that is a little too large", sized(MAX_BODY + 1, b" " * (MAX_BODY + 1))
    yield "a body of 64 MiB", sized(64 << 20, b" " * (64 << 20))
    yield "64 MiB after a request", studio.request("/api/network") + b"x" * (64 << 20)
    for length in (10**9, 10**15, 10**30, -1, -(10**18)):
        yield f"a body said to have {length} bytes", sized(length, b'{"test": 4}')
    chunk = b"%x\r\n%s\r\n" % (1 << 16, b" " * (1 << 16))
    yield "chunks of 16 MiB", start + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 256 + b"0\r\n\r\n"
    yield (
        "a chunk said to be endless",
        start + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n" + b" " * (8 << 20),
    )
    yield "chunks of a byte", start + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 500_000
    yield "a chunk whose size does not end", start + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * (8 << 20)
    yield "the heaviest JSON of its size", sized(MAX_BODY, (b"[" + b"[]," * (MAX_BODY // 3)).ljust(MAX_BODY))
    yield "the heaviest objects of their size", sized(MAX_BODY, (b"[" + b'{"":{}},' * (MAX_BODY // 8)).ljust(MAX_BODY))
    yield "a line of 8 MiB", b"GET /" + b"a" * (8 << 20)
    yield "a header of 8 MiB", b"GET / HTTP/1.1\r\nX: " + b"a" * (8 << 20)
    yield "a million headers", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000_000
    yield "100 headers of 64 KB", b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 65_000 + b"\r\n") * 99 + b"\r\n"


def oversize(studio: Studio, rounds: int) -> Outcome:
    """Send requests that are too large, each ``rounds`` times."""
    return send(studio, (named for _ in range(rounds) for named in oversized(studio)))


# drawings at the bounds ----------------------------------------------------------------------------------------------


def costly_drawings() -> dict[str, list[Any]]:
    """Return drawings at the bounds of what is taken: of length, of strokes, of points, of what the eraser cuts."""

    def pen(points: Any, tool: str = "pen") -> dict[str, Any]:
        return {"tool": tool, "points": np.asarray(points, float).round(4).tolist()}

    def zigzag(step: float, count: int, sides: float = MAX_LENGTH) -> list[Any]:
        """Return so many points to and fro across the paper, a little lower each time."""
        height = np.arange(count) * step % 1
        return np.stack([np.arange(count) % 2, height], axis=1)[: int(sides / np.hypot(1, step))]

    most = range(MAX_STROKES)
    across = 0.99 * MAX_LENGTH / MAX_STROKES
    rows = [[[0.2, 0.004 * k], [0.2 + across, 0.004 * k]] for k in most]
    edge = ERASER / 2 * 2**0.5  # beside a diagonal swipe of the eraser, a line along its edge is cut in each pixel
    along = np.arange(int(MAX_LENGTH / 1.3)) % 2 * 0.9
    beside = np.stack([along + 0.05, along + 0.05 + edge - 0.5 / CANVAS], axis=1)
    dots = np.random.default_rng(1).random((MAX_POINTS, 2))
    return {
        "the longest line": [pen(zigzag(0.0021, MAX_POINTS))],
        "the longest eraser": [pen(SEVEN[0]["points"]), pen(zigzag(0.0021, MAX_POINTS, MAX_LENGTH - 2), "eraser")],
        "as many erasers as may be": [pen(SEVEN[0]["points"]), *(pen(row, "eraser") for row in rows[1:])],
        "pen and eraser in turn": [pen(row, "eraser" if k % 2 else "pen") for k, row in enumerate(rows)],
        "a line cut to pieces": [pen(beside), pen([[0, 0], [1, 1]], "eraser")],
        "a pen line in each stroke": [pen(row) for row in rows],
        "as many points as may be": [pen(0.48 + 0.03 * dots[k::MAX_STROKES]) for k in most],
        "dots": [pen([dot]) for dot in dots[:MAX_STROKES]],
        "outside of the paper": [pen(3 * zigzag(0.0021, MAX_POINTS, MAX_LENGTH / 3) - 1)],
    }


def overdraw(studio: Studio, rounds: int, clients: int = 1) -> Outcome:
    """Have drawings answered that cost as much as any that are taken."""
    requests = []
    for name, strokes in costly_drawings().items():
        subject = {"strokes": strokes}
        requests += [
            (f"think of {name}", studio.request("/api/think", subject)),
            (f"think, unprepared, of {name}", studio.request("/api/think", subject | {"prepare": False})),
        ]
    return send(studio, requests * rounds, clients)


# slow ----------------------------------------------------------------------------------------------------------------


class Slow:
    """Connections that send a byte a second, of a head or of a body, or ask for much and do not read it."""

    def __init__(self, studio: Studio, count: int) -> None:
        head = b"GET /api/network HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 9999
        body = studio.request("/api/think", {"strokes": SEVEN * 40})
        begun = body.index(b"\r\n\r\n") + 4
        unread = studio.request("/api/tests?count=500")
        self._kinds = [(b"", head), (body[:begun], body[begun:]), (unread, b"")]
        self._studio, self._count = studio, count
        self._connections: list[tuple[socket.socket, Iterator[int]]] = []
        self.opened = 0
        """Connections so far; what is more than there are at a time was closed by the studio, and opened again."""

    def _open(self) -> None:
        at_once, slowly = self._kinds[self.opened % len(self._kinds)]
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(LIMIT)
        connection.connect(("127.0.0.1", self._studio.port))
        self._connections.append((connection, iter(slowly)))
        self.opened += 1
        with suppress(ConnectionError):  # it had to go already
            connection.sendall(at_once)

    def press(self, until: Callable[[], bool]) -> None:
        """Keep as many connections busy as there are to be, until it is time to end."""
        while not until():
            while len(self._connections) < self._count:
                self._open()
            alive = []
            for connection, bytes_left in self._connections:
                try:
                    if (byte := next(bytes_left, None)) is not None:
                        connection.send(bytes([byte]))
                    alive.append((connection, bytes_left))
                except ConnectionError:
                    connection.close()
            self._connections = alive
            time.sleep(1)
        for connection, _ in self._connections:
            connection.close()


@contextmanager
def slowly(studio: Studio, count: int) -> Iterator[Slow]:
    """Have as many slow connections as that during a block."""
    slow, done = Slow(studio, count), threading.Event()
    thread = threading.Thread(target=slow.press, args=(done.is_set,))
    thread.start()
    try:
        while slow.opened < count and thread.is_alive():
            time.sleep(0.05)
        yield slow
    finally:
        done.set()
        thread.join()


def besiege(studio: Studio, count: int, seconds: float) -> tuple[Outcome, int]:
    """Draw as a person does while others hold slow connections; return how that went, and the most threads."""
    outcome, threads = Outcome(), 0
    with slowly(studio, count):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            outcome.add(send(studio, [("a stroke", studio.request("/api/think", {"strokes": SEVEN}))]))
            threads = max(threads, studio.resources().threads)
            time.sleep(0.05)
    return outcome, threads


# a crowd -------------------------------------------------------------------------------------------------------------


def crowd(studio: Studio, clients: int, strokes: int) -> Outcome:
    """Let many draw at once: each a 7 that grows, then asks for all that a page can ask, and keeps the drawing."""
    points = SEVEN[0]["points"]
    assert isinstance(points, list)
    line = np.concatenate([np.linspace(a, b, 8) for a, b in pairwise(points)]).round(4).tolist()
    outcome, lock = Outcome(), threading.Lock()
    start = threading.Barrier(clients)

    def ask(path: str, body: Any, expected: int, right: Callable[[Any], bool]) -> None:
        try:
            answer = studio.ask(path, body)
            well = answer.status == expected and right(answer.json)
            told = f"{path}: {answer.status} {answer.body[:200]!r}"
        except TimeoutError:
            answer, well, told = None, False, f"{path}: no answer"
        with lock:
            if answer is None:
                outcome.hangs += 1
            else:
                outcome.statuses[answer.status] += 1
                outcome.seconds.append(answer.seconds)
            if not well:
                outcome.failures.append(told)

    def one(client: int) -> None:
        start.wait()
        for number in range(1, strokes + 1):
            drawn = [{"tool": "pen", "points": line[: max(1, len(line) * number // strokes)]}]
            sequence = 1000 * client + number
            ask("/api/think", {"strokes": drawn, "seq": sequence}, 200, lambda found, s=sequence: found["seq"] == s)  # type: ignore[misc]
        ask("/api/think", {"strokes": SEVEN}, 200, lambda found: found["answer"] == 7)
        place = {"layer": "C3", "map": client % 16, "y": 2, "x": 3}
        ask("/api/unit", {"strokes": SEVEN, **place}, 200, lambda found: bool(found["terms"]))
        ask("/api/why", {"strokes": SEVEN}, 200, lambda found: found["answer"] == 7)
        ask("/api/tests?count=20", None, 200, lambda found: len(found["items"]) == 20)
        ask("/api/confusion", None, 200, lambda found: len(found["counts"]) == 10)
        ask("/api/drawings", {"strokes": SEVEN, "label": 7}, 201, lambda found: found["counts"][7] > 0)
        ask("/api/drawings", None, 200, lambda found: found["counts"][7] > 0)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(clients)))
    return outcome


# others' pages -------------------------------------------------------------------------------------------------------

HOSTS = (
    "evil.example", "127.0.0.1.evil.example", "localhost.evil", "192.168.1.5", "0.0.0.0", "[::2]", "2130706433",
    "127.1", "", "127.0.0.1, evil.example", "evil.example\r\nHost: 127.0.0.1", "localhost.", "127.0.0.1@evil.example",
)  # fmt: skip
ORIGINS = (
    "http://evil.example", "null", "", "https://127.0.0.1:PORT", "http://localhost:PORT", "http://127.0.0.1:1",
    "http://127.0.0.1", "http://127.0.0.1:PORT.evil.example", "http://127.0.0.1:PORT/",
    "http://127.0.0.1:PORT, http://evil.example", "file://",
)  # fmt: skip


def foreign(studio: Studio) -> Outcome:
    """Ask every route in the name of another host, or from another page: it must be refused, 403 or as no HTTP."""
    own = f"127.0.0.1:{studio.port}"
    requests = []
    for path in [*malformed.GETS, *malformed.POSTS]:
        body = json.dumps(malformed.POSTS.get(path, [None])[0]) if path in malformed.POSTS else ""
        method = "POST" if body else "GET"
        heads = [f"{method} {path} HTTP/1.1\r\nHost: {host}" for host in HOSTS]
        heads += [
            f"{method} {path} HTTP/1.1\r\nHost: {own}\r\nOrigin: {origin.replace('PORT', str(studio.port))}"
            for origin in ORIGINS
        ]
        heads += [f"{method} http://evil.example{path} HTTP/1.1\r\nHost: {own}"]
        requests += [
            (head, f"{head}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            for head in heads
        ]
    outcome = send(studio, requests)
    if not outcome.statuses.keys() <= {400, 403}:
        outcome.failures.append(f"let in, or failed: {outcome.statuses}")
    return outcome


# fine-tuning ---------------------------------------------------------------------------------------------------------


def teach(studio: Studio) -> None:
    """Fine-tune, to the end."""
    assert studio.ask("/api/finetune", {}).status == 202
    assert studio.wait("/api/finetune")["state"] == "done"


# many that want the same ---------------------------------------------------------------------------------------------


def rush(studio: Studio, clients: int) -> Outcome:
    """Have many press the same buttons at once, over and over; at most one may have its way."""
    buttons = [
        "/api/finetune",
        "/api/finetune/keep",
        "/api/finetune/discard",
        "/api/finetune/stop",
        "/api/training/stop",
    ]
    return send(studio, [(path, studio.request(path, {})) for path in buttons for _ in range(clients)], clients)


def warm_up(studio: Studio) -> Outcome:
    """Do a little of all that takes memory: what is loaded or computed once is there then."""
    together = crowd(studio, 20, 2)
    teach(studio)
    studio.ask("/api/finetune/discard", {})
    for outcome in (overdraw(studio, 1, CLIENTS), oversize(studio, 1), malform(studio, 100, seed=0)):
        together.add(outcome)
    return together


def summary(seconds: list[float]) -> tuple[float, float, float]:
    """Return median, 99th percentile and maximum, in milliseconds."""
    ordered = sorted(seconds)
    return tuple(
        1000 * each for each in (statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))], ordered[-1])
    )  # type: ignore[return-value]
