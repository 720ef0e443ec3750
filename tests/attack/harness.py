"""Attacks a running ``lenet selftest``, and interrupts its fine-tuning and its training; prints a table.

``python tests/attack/harness.py`` takes some ten minutes on two cores; ``--only attacks`` or ``--only interruptions``
does half of that. Linux only: memory, threads and files are read from /proc.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import attacks
import interruptions
from studio_process import Studio


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def attack(options: argparse.Namespace, folder: Path) -> list[str]:
    """Attack a studio in every way, and return what was wrong."""
    row = "{:<34} {:>8} {:>7} {:>5} {:>7} {:>4} {:>7} {:>6} {:>10} {:>11} {:>9}".format
    columns = "requests", "2xx", "3xx", "4xx", "5xx", "closed", "hangs", "slowest ms", "memory MiB", "peak MiB"
    write(row("attack", *columns))
    failures: list[str] = []
    drawings = 0
    with Studio(folder, arenas=options.arenas) as studio:

        def report(name: str, outcome: attacks.Outcome) -> None:
            nonlocal drawings
            drawings += outcome.statuses[201]
            problems = [*outcome.failures]
            if not studio.answers_right():
                problems.append("it does not answer right any more")
            held = studio.resources()
            counts = [outcome.within(hundred) for hundred in (2, 3, 4, 5, 0)]
            measured = map(round, (1000 * outcome.slowest, held.memory, held.peak))
            write(row(name, outcome.requests, *counts, outcome.hangs, *measured))
            failures.extend(f"{name}: {problem}" for problem in problems)
            studio.forget_peak()

        report("a little of all, to warm up", attacks.warm_up(studio))
        studio.settle()
        before, record = studio.resources(), studio.record()
        kept = drawings
        report("malformed", attacks.malform(studio, options.malformed, options.seed))
        report("oversized", attacks.oversize(studio, 4))
        report("drawings at the bounds", attacks.overdraw(studio, 3))
        report("drawings at the bounds, 8 at once", attacks.overdraw(studio, 3, attacks.CLIENTS))
        report("foreign hosts and origins", attacks.foreign(studio))
        report("50 at the same buttons", attacks.rush(studio, 50))
        report("50 draw at once", attacks.crowd(studio, 50, 20))
        outcome, threads = attacks.besiege(studio, options.slow, options.seconds)
        report(f"a person, beside {options.slow} slow ones", outcome)
        studio.settle()
        after = studio.resources()
        now = studio.record()
        if not now.startswith(record) or now[len(record) :].count(b"\n") != drawings - kept:
            failures.append("the drawings are not those before and those that were kept since")
        code = studio.end()
        if code or studio.said():
            failures.append(f"exit code {code}, and it said {studio.said()[-3000:]!r}")
    median, late, slowest = attacks.summary(outcome.seconds)
    write(f"beside slow ones: median {median:.0f} ms, 99 % within {late:.0f} ms, slowest {slowest:.0f} ms")
    write(f"threads at most: {threads}")
    for name, one, other in (
        ("memory MiB", before.memory, after.memory),
        ("threads", before.threads, after.threads),
        ("files", before.files, after.files),
    ):
        write(f"{name}: {one:.0f} before, {other:.0f} after")
    write(f"drawings: {kept} before, whole; {drawings - kept} kept since, whole")
    return failures


def interrupt(options: argparse.Namespace, folder: Path) -> list[str]:
    """Interrupt what the studio saves, and return what was wrong."""
    row = "{:<12} {:<12} {:>6} {:>12} {:>10} {:>9}".format
    write(row("interrupted", "by", "times", "within a save", "new network", "failures"))
    world = interruptions.World(folder)
    failures: list[str] = []
    for action in interruptions.ACTIONS:
        for kind in interruptions.KINDS:
            count = options.kills if kind == "SIGKILL" else options.kills // 5
            outcomes = interruptions.interruptions(world, action, kind, count, options.seed)
            bad = [outcome.failure for outcome in outcomes if outcome.failure]
            saves, new = sum(o.in_save for o in outcomes), sum(o.new for o in outcomes)
            write(row(action, kind, len(outcomes), saves, new, len(bad)))
            failures += bad
    return failures


def main() -> None:
    """Attack as often as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--malformed", type=int, default=10_000, help="requests")
    parser.add_argument("--slow", type=int, default=500, help="connections that send a byte a second")
    parser.add_argument("--seconds", type=float, default=60, help="for how long they do")
    parser.add_argument(
        "--kills", type=int, default=50, help="SIGKILLs of each action; a fifth as many of every other kind"
    )
    parser.add_argument("--only", choices=("attacks", "interruptions"))
    parser.add_argument("--arenas", action="store_true", help="show memory with what glibc keeps for each thread")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        for part, run in (("attacks", attack), ("interruptions", interrupt)):
            if options.only in (None, part):
                folder = Path(name) / part
                folder.mkdir()
                failures += run(options, folder)
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
