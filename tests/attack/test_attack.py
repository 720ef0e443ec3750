"""Short versions of what is in this folder; docs/reliability.md has the figures of the long ones."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import attacks
import interruptions
import malformed
import pytest
from studio_cases import session
from studio_process import LIMIT, Studio, make_data

from lenet.studio.app import create_app
from lenet.studio.security import Guard
from lenet.studio.server import MAX_CONNECTIONS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory, threads and files are read from /proc")

SECONDS = 15.0
"""That any answer may take on a machine that others keep busy: far more than it does, far less than a hang."""

GROWTH = 50.0
"""MiB that memory may grow by: a hundred large bodies that nobody frees would be more."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Return a studio that all attack, one after the other, and check what is left of it."""
    folder = tmp_path_factory.mktemp("attack")
    with Studio(folder, "--data", make_data(folder / "data", 1000)) as running:
        assert attacks.warm_up(running).failures == []
        running.settle()
        before, record = running.resources(), running.record()
        yield running
        running.settle()
        after = running.resources()
        assert after.memory < before.memory + GROWTH
        assert (after.threads, after.files) == (before.threads, before.files)
        assert running.record().startswith(record)
        assert running.end() == 0
        assert running.said() == ""


def well(studio: Studio, outcome: attacks.Outcome) -> None:
    assert outcome.failures == []
    assert outcome.hangs == 0
    assert studio.answers_right()


def test_every_route_is_attacked(tmp_path: Path) -> None:
    rules = {rule.rule for rule in create_app(session(tmp_path), Guard("127.0.0.1")).url_map.iter_rules()}
    paths = {
        path.partition("?")[0].replace("0123456789abcdef", "<drawing>") for path in [*malformed.POSTS, *malformed.GETS]
    }
    assert {path.replace("studio.js", "<path:filename>") for path in paths} == rules


def test_malformed_requests(studio: Studio) -> None:
    record = studio.record()
    outcome = attacks.malform(studio, 500, seed=7)
    well(studio, outcome)
    assert outcome.within(4) > 300
    assert studio.record()[len(record) :].count(b"\n") == outcome.statuses[201]


def test_oversized_requests(studio: Studio) -> None:
    studio.forget_peak()
    before = studio.resources().memory
    outcome = attacks.oversize(studio, 1)
    well(studio, outcome)
    assert outcome.statuses[413] >= 3
    assert studio.resources().peak < before + 2 * GROWTH


def test_drawings_at_the_bounds(studio: Studio) -> None:
    outcome = attacks.overdraw(studio, 1, clients=2)
    well(studio, outcome)
    assert set(outcome.statuses) == {200}
    assert outcome.slowest < SECONDS


def test_foreign_hosts_and_origins(studio: Studio) -> None:
    record = studio.record()
    well(studio, attacks.foreign(studio))
    assert studio.record() == record


def test_fifty_at_the_same_buttons(studio: Studio) -> None:
    outcome = attacks.rush(studio, 50)
    well(studio, outcome)
    assert outcome.slowest < SECONDS


def test_fifty_draw_at_once(studio: Studio) -> None:
    record = studio.record()
    outcome = attacks.crowd(studio, 50, 2)
    well(studio, outcome)
    assert outcome.statuses[201] == 50 == studio.record()[len(record) :].count(b"\n")


def test_slow_connections_keep_nobody_waiting(studio: Studio) -> None:
    outcome, threads = attacks.besiege(studio, 3 * MAX_CONNECTIONS, 3)
    well(studio, outcome)
    assert outcome.slowest < SECONDS
    assert threads < 2 * MAX_CONNECTIONS


def test_the_oldest_silent_connection_goes(studio: Studio) -> None:
    studio.settle()
    silent = [socket.create_connection(("127.0.0.1", studio.port), timeout=LIMIT) for _ in range(MAX_CONNECTIONS)]
    assert studio.answers_right()
    assert silent[0].recv(1) == b""
    silent[-1].sendall(studio.request("/api/network"))
    assert silent[-1].recv(12) == b"HTTP/1.1 200"
    for connection in silent:
        connection.close()


# interrupted ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> interruptions.World:
    return interruptions.World(tmp_path_factory.mktemp("interrupted"))


@pytest.mark.parametrize(
    ("action", "kind", "count"), [("teach", "SIGKILL", 1), ("keep", "SIGKILL", 2), ("train", "SIGTERM", 1)]
)
def test_interruptions_lose_nothing(world: interruptions.World, action: str, kind: str, count: int) -> None:
    outcomes = interruptions.interruptions(world, action, kind, count, seed=7)
    assert len(outcomes) == count
    assert [outcome.failure for outcome in outcomes if outcome.failure] == []
