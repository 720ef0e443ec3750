"""Threads of compiled code: indivisible counting, and meetings that nobody passes alone."""

import threading
import time

import numpy as np
import pytest

from lenet.kernels.cpu.options import thread_kernel
from lenet.kernels.cpu.threads import (
    ADMITTED,
    ARRIVED,
    ASKED,
    CONTROL,
    CREW,
    MEETINGS,
    MILLISECOND,
    NEXT_SHARE,
    NEXT_TILE,
    STOP,
    come_back,
    meet,
    peek,
    put,
    sleep,
    stopped,
    take,
)


@thread_kernel
def work(rounds, pieces, control, done, early, tired):
    """Take numbered pieces and meet, round by round; count how often each was done, and early ends of meetings.

    Who takes the first piece of a round that ``tired`` divides sleeps over it, as if its processor were lent out.
    """
    number = 0
    while number < rounds and not stopped(control):
        while True:
            piece = take(control, NEXT_TILE)
            if piece >= pieces:
                break
            if piece == 0 and tired and number % tired == 0:
                sleep(10 * MILLISECOND)
            done[number, piece] += 1
        stays = meet(control, False)
        if stays and not stopped(control):
            for piece in range(pieces):
                early[0] += done[number, piece] == 0
            take(control, NEXT_SHARE)
            stays = meet(control, True)
        if not stays:
            come_back(control, 1, 2 * rounds)
        number = peek(control, MEETINGS) // 2


@thread_kernel
def touch(control, at, value):
    """Return what was at a place, after it was set and counted up twice."""
    put(control, at, value)
    take(control, at)
    return take(control, at), peek(control, at)


def control():
    return np.zeros(CONTROL, np.int64)


def run(threads, rounds, pieces, shared, tired=0):
    """Let threads work; return how often each piece of each round was done."""
    done, early = np.zeros((rounds, pieces), np.int64), np.zeros(1, np.int64)
    work(0, 0, control(), done, early, 0)  # compile
    shared[CREW] = threads
    team = [
        threading.Thread(target=work, args=(rounds, pieces, shared, done, early, tired), daemon=True)
        for _ in range(threads)
    ]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join(60)
        assert not thread.is_alive(), "the threads wait for each other"
    assert not early[0]
    return done


def test_places_are_taken_read_and_set():
    shared = control()
    assert touch(shared, STOP, 41) == (42, 43)
    wanted = control()
    wanted[STOP] = 43
    np.testing.assert_array_equal(shared, wanted)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_piece_is_done_once_in_its_round(threads):
    rounds, shared = 500, control()
    assert (run(threads, rounds, 7, shared) == 1).all()
    assert shared[MEETINGS] == 2 * rounds
    assert shared[ARRIVED] == shared[NEXT_TILE] == shared[NEXT_SHARE] == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_who_comes_too_late_leaves_and_is_let_in_again(threads):
    rounds, asked = 200, 0
    for _ in range(10):  # on a busy machine, whoever waits looks too seldom to lose patience
        shared = control()
        assert (run(threads, rounds, 7, shared, tired=20) == 1).all()
        assert shared[MEETINGS] == 2 * rounds
        assert shared[ADMITTED] <= shared[ASKED]
        assert 1 <= shared[CREW] <= threads
        asked += shared[ASKED]
        if asked:
            break
    assert asked


def test_all_stop_in_the_same_round():
    shared = control()
    timer = threading.Timer(0.05, shared.__setitem__, (STOP, 1))
    timer.start()
    begun = time.monotonic()
    done = run(3, 10_000_000, 3, shared)
    timer.join()
    assert time.monotonic() - begun < 30
    rounds = int(done[:, 0].sum())
    assert 0 < rounds < len(done)
    assert (done[:rounds] == 1).all()
    assert not done[rounds:].any()
    assert shared[MEETINGS] in (2 * rounds - 1, 2 * rounds)  # at the first meeting of the round or at the second
