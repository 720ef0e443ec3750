"""Coverage-guided fuzzing, with Atheris: ``python tests/fuzz/run.py --seconds 600 [target ...]``.

The seconds are shared by the targets, all of `targets.TARGETS` by default. What is found is written into the current
folder as ``crash-...``, ``timeout-...`` or ``oom-...``; ``--replay FILE target`` runs it again.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"

INSTRUMENTED = {
    "idx": ["lenet.data", "gzip"],
    "loader": ["lenet.storage", "lenet.settings", "numpy.lib._format_impl", "csv", "ast"],
    "settings": ["lenet.settings", "tomllib"],
    "strokes": ["lenet.drawing"],
    "image": ["lenet.drawing", "PIL"],
    "routes": ["lenet.studio", "lenet.drawing", "lenet.inspection"],
}
"""The targets, and what coverage is measured of: the part of the package, and what parses for it."""

NAMES = tuple(INSTRUMENTED)

LONGEST = 4096  # bytes of an input
PATIENCE = 20  # seconds for one input, on a busy machine
ALLOCATION = 1024  # MiB in one piece, which no input may make lenet ask for
MEMORY = 8192  # MiB for a process
INPUTS = 50_000  # for a process, since Atheris keeps up to 70 kB of each; then another one goes on


def limited_targets() -> ModuleType:
    """Import the targets, for a process that does nothing else."""
    import targets

    for limit in targets.LIMITS:
        setattr(*limit)
    return targets


def fuzz(name: str, seconds: int, folder: str) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED[name]):
        targets = limited_targets()
        targets.TARGETS[name](b"")  # imports the rest

    options = [
        f"-max_total_time={seconds}",
        f"-runs={INPUTS}",
        f"-max_len={LONGEST}",
        f"-timeout={PATIENCE}",
        f"-malloc_limit_mb={ALLOCATION}",
        f"-rss_limit_mb={MEMORY}",
    ]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", folder, str(CORPUS / name)], targets.TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int) -> tuple[str, bool]:
    """Fuzz one target, in processes that do nothing else, and return a line about it and whether nothing was found."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # files there cost no disk
    end = time.monotonic() + seconds
    inputs, left = 0, seconds
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        found = Path(folder, "corpus")
        found.mkdir()
        while left > 0:
            command = [sys.executable, __file__, "--seconds", str(left), "--within", str(found), name]
            done = subprocess.run(
                command, stderr=subprocess.PIPE, text=True, errors="replace", check=False,
                env={**os.environ, "LENET_FUZZ_FOLDER": folder},
            )  # fmt: skip
            runs = re.search(r"number_of_executed_units: +(\d+)", done.stderr)
            if done.returncode or runs is None:
                return f"{name}: FAILED\n{done.stderr[-6000:]}", False
            inputs += int(runs[1])
            left = round(end - time.monotonic())
        coverage = re.findall(r" cov: (\d+)", done.stderr)
        return f"{name:<9} {inputs:>9,} inputs {coverage[-1]:>6} edges {len(list(found.iterdir())):>5} kept", True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the targets on this file only")
    parser.add_argument("--within", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(NAMES))
    given = parser.parse_args(arguments)
    names = given.targets or list(NAMES)
    if strange := set(names) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(strange))}")
    if given.within:
        fuzz(names[0], given.seconds, given.within)
    if given.replay:
        targets = limited_targets()
        for name in names:
            targets.TARGETS[name](given.replay.read_bytes())
        return 0
    every_one_well = True
    for name in names:
        line, well = run(name, max(1, given.seconds // len(names)))
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        every_one_well &= well
    return 0 if every_one_well else 1


if __name__ == "__main__":
    sys.exit(main())
