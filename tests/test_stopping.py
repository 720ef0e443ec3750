"""Signals end a command once, in order, and never by half; each case is a process of its own."""

import signal
import subprocess
import sys
import textwrap

import pytest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(program: str) -> subprocess.CompletedProcess[str]:
    begin = """
    import signal, sys, time
    from lenet import stopping
    from lenet.stopping import Stop, held_back, stoppable
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    """
    text = textwrap.dedent(begin) + textwrap.dedent(program)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_stops_with_its_code(number: int) -> None:
    done = run(f"""
    try:
        with stoppable():
            signal.raise_signal({number})
            print("not reached")
    except KeyboardInterrupt as stop:
        sys.exit(stop.exit_code)
    """)
    assert done.returncode == 128 + number
    assert done.stdout + done.stderr == ""


def test_a_second_signal_while_python_ends_does_not_change_the_exit_code() -> None:
    done = run("""
    import os
    class Late:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
    late = Late()  # goes after Python has given up its handlers
    sys.modules["late"] = late
    try:
        with stoppable():
            signal.raise_signal(signal.SIGINT)
    except Stop as stop:
        sys.exit(stop.exit_code)
    """)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_at_once_is_the_same_wish(second: int) -> None:
    done = run(f"""
    try:
        with stoppable():
            signal.raise_signal(signal.SIGINT)
    except Stop as stop:
        signal.raise_signal({second})
        print("saved")
        sys.exit(stop.exit_code)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (130, "saved\n", "")


def test_a_later_signal_ends_the_process_there_and_then() -> None:
    done = run("""
    stopping.PATIENCE = 0.05
    with stoppable():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            time.sleep(0.1)
            signal.raise_signal(signal.SIGTERM)
            print("not reached")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


def test_what_is_held_back_comes_after_the_block() -> None:
    done = run("""
    with stoppable():
        try:
            with held_back():
                signal.raise_signal(signal.SIGTERM)
                print("whole")
            print("not reached")
        except Stop as stop:
            print(stop.exit_code)
        with held_back():
            print("told once")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n143\ntold once\n", "")


def test_what_was_ignored_stays_ignored() -> None:
    done = run("""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with stoppable():
        signal.raise_signal(signal.SIGHUP)
    print("done")
    """)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_afterwards_all_is_as_before() -> None:
    done = run("""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with held_back():
        pass
    """)
    assert done.returncode == 0, done.stderr
