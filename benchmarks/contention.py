"""How the fused executor fares when another program takes one of its cores.

    python benchmarks/contention.py

Trains epochs of the default recipe on one thread and on all, in turn, first undisturbed, then beside a process that
keeps one core busy. Two threads that met by spinning alone would wait there for whole turns of the scheduler.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from lenet import backends
from lenet.data import load_dataset
from lenet.executors import EpochPlan, Executor, Samples
from lenet.executors.numba_fused import FusedExecutor
from lenet.lenet5 import lenet5
from lenet.settings import Settings
from lenet.training import first_state, plan_epoch

BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextmanager
def busy(core: int | None) -> Iterator[None]:
    """Keep one core busy, if any."""
    if core is None:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(core)])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


def prepared(threads: int) -> tuple[Executor, Samples, EpochPlan]:
    """Return an executor that has trained an epoch, and what it trains on."""
    settings, data = Settings(), load_dataset()
    network = lenet5(settings.network, data.height, data.width, data.classes)
    training = settings.training
    executor = FusedExecutor(
        network, backends.get("numba", threads=threads), training.rule(), averaging=training.average > 0
    )
    executor.write(first_state(network, settings))
    samples = executor.upload(data.train_images, data.train_labels)
    plan = plan_epoch(settings, 1, len(samples), data.height, data.width)
    executor.train_epoch(samples, plan)
    return executor, samples, plan


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    cores = sorted(os.sched_getaffinity(0))
    contenders = {threads: prepared(threads) for threads in sorted({1, len(cores)})}
    for core in (None, *cores):
        seconds: dict[int, list[float]] = {threads: [] for threads in contenders}
        with busy(core):
            for _ in range(rounds):
                for threads, (executor, samples, plan) in contenders.items():
                    started = time.perf_counter()
                    executor.train_epoch(samples, plan)
                    seconds[threads].append(time.perf_counter() - started)
        print("undisturbed" if core is None else f"core {core} busy")
        for threads, times in seconds.items():
            ratio = median(seconds[1]) / median(times)
            spread = f"{min(times):.3f} to {max(times):.3f}"
            print(f"  {threads} threads: {median(times):.3f} s an epoch ({spread}), {ratio:.2f} x one thread")


if __name__ == "__main__":
    main()
