"""The same network, batches and threads in PyTorch, in JAX and in every executor of lenet: who is how fast.

    python benchmarks/peers.py                          # training steps and answers
    python benchmarks/peers.py --epochs 20 --plot peers.png
    python benchmarks/peers.py --quick                  # a rehearsal, whose numbers mean little

Peers that are not installed are left out. Before anything is timed, gradients, weights and answers of each are held
against float64. Each then runs in a process of its own, and they take turns: A B C, A B C, ... See README.md here.
"""

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _report
import numpy as np
from _contenders import CONTENDERS, PEAK, REFERENCES

from lenet.bench.primitives import step_operations
from lenet.info import processor, versions
from lenet.kernels.cpu.cpus import usable
from lenet.lenet5 import lenet5
from lenet.settings import Settings

RESULTS = Path(__file__).parent / "results"

CHUNKED = "PyTorch eager, chunked"
EPOCH_CONTENDERS = ("PyTorch eager", "torch.compile", "lenet numba fused")

BATCH = 64  # of the checks
STEPS = 20
TOLERANCE = 1e-5  # of the norm; float32 stays an order of magnitude below

SETTLE = 0.1  # seconds before a turn, in which threads of the one before stop spinning


@dataclass(frozen=True)
class Case:
    """What is timed: training steps ("train") or answers ("infer") of a batch."""

    work: str
    batch: int
    threads: int

    @property
    def title(self) -> str:
        """For people."""
        work = {"train": "Training step", "infer": "Answering"}[self.work]
        return f"{work}, batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}"

    @property
    def latency(self) -> bool:
        """Whether the time of one call is asked for, not the images a second."""
        return self.batch == 1


CASES = (
    Case("train", 64, 1),
    Case("train", 256, 1),
    Case("infer", 64, 1),
    Case("infer", 10_000, 1),
    Case("infer", 1, 1),
    Case("train", 64, 2),
)
CHUNKED_CASE = Case("infer", 10_000, 1)  # whose activations leave the cache, if nothing is done


# processes -------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A worker has given up, with the reason."""


class Worker:
    """A process that runs one contender."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        counts = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA", "TORCHINDUCTOR_COMPILE")
        environment = {f"{count}_NUM_THREADS": str(threads) for count in counts[:-1]}
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # a pool of compilers would stay
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        command = [sys.executable, str(Path(__file__).with_name("_contenders.py")), name, str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Have one request done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([request, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        reply: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in reply:
            raise Failed(f"{self.name}: {reply['error']}")
        return reply

    def processor_seconds(self) -> float:
        """Return the processor time used so far; 0 where the system does not tell."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def open_workers(names: list[str], threads: int) -> Iterator[list[Worker]]:
    """Start a worker for each name, one after the other; those that cannot start are told of and left out."""
    workers: list[Worker] = []
    try:
        for name in names:
            worker = Worker(name, threads)
            workers.append(worker)
            try:
                worker.ask("hello")
            except Failed as failure:
                print(f"left out: {failure}")
                workers.pop().close()
        yield workers
    finally:
        for worker in workers:
            worker.close()


def machine_seconds() -> float:
    """Return the processor time that all programs of the machine have used; 0 where the system does not tell."""
    try:
        first, *_ = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, interrupts, soft_interrupts, *_ = map(int, first.split()[1:])
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


# checks ----------------------------------------------------------------------------------------------------------


def check(names: list[str], reference: str) -> dict[str, dict[str, float]]:
    """Return, by contender, how far it is off in logits, gradients and weights, relative to the norm.

    The mean that Adam keeps is, after its first step, the gradient times a constant: compared as it is.
    """
    errors: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.npz"

        def results(name: str) -> dict[str, Any]:
            with open_workers([name], 1) as workers:
                for worker in workers:
                    worker.ask("results", file=str(file), batch=BATCH, steps=[1, STEPS])
                    with np.load(file) as arrays:
                        return dict(arrays)
            raise Failed(f"{name}: did not start")

        expected = results(reference)
        for name in names:
            try:
                found = results(name)
            except Failed as failure:
                print(f"left out: {failure}")
                continue
            off = {key: _distance(found[key], expected[key]) for key in expected}
            errors[name] = {
                "logits": max(off["logits of 1"], off[f"logits of {BATCH}"]),
                "gradients": off["moments 1"],
                "weights 1": off["weights 1"],
                f"weights {STEPS}": off[f"weights {STEPS}"],
            }
    return errors


def _distance(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected))


def agrees(errors: dict[str, float]) -> bool:
    """Whether all errors are within their tolerances; NaN is not."""
    return all(error <= TOLERANCE for error in errors.values())


# measurements ----------------------------------------------------------------------------------------------------


def calibrate(worker: Worker, case: Case, seconds: float) -> int:
    """Return how many calls fill a turn; compiles and warms up on the way."""
    calls = 1
    while True:
        best = min(worker.ask("time", work=case.work, size=case.batch, calls=calls)["seconds"] for _ in range(2))
        if best >= min(seconds, 0.05):
            return max(1, round(calls * seconds / best))
        calls *= 4


def measure(workers: list[Worker], case: Case, rounds: int, seconds: float) -> dict[str, Any]:
    """Time all contenders in turns: the seconds of a call in each round, and what else kept the processor busy."""
    calls = {worker.name: calibrate(worker, case, seconds) for worker in workers}
    samples: dict[str, list[float]] = {worker.name: [] for worker in workers}
    remarks: dict[str, str] = {}
    idle = others = wall = 0.0
    for _ in range(rounds):
        for worker in workers:
            time.sleep(SETTLE)
            before = [each.processor_seconds() for each in workers], machine_seconds()
            reply = worker.ask("time", work=case.work, size=case.batch, calls=calls[worker.name])
            after = [each.processor_seconds() for each in workers], machine_seconds()
            used = {each.name: b - a for each, a, b in zip(workers, before[0], after[0], strict=True)}
            wall += reply["seconds"]
            idle += sum(used.values()) - used[worker.name]
            others += max(0.0, after[1] - before[1] - sum(used.values()))
            # Of a peak, a "call" is an operation: its reciprocal is operations a second.
            samples[worker.name].append(reply["seconds"] / reply.get("operations", calls[worker.name]))
            remarks[worker.name] = reply["remark"]
    return {
        "case": asdict(case),
        "seconds_a_call": {name: values for name, values in samples.items() if name != PEAK},
        "peak_operations_a_second": [1 / value for value in samples.get(PEAK, [])],
        "calls": calls,
        "remarks": remarks,
        "cores_used_by_waiting_workers": idle / wall,
        "cores_used_by_other_programs": others / wall,
    }


def measure_epochs(workers: list[Worker], epochs: int, threads: int) -> dict[str, Any]:
    """Train by the default recipe, each contender an epoch in turn; seconds with distortion and evaluation."""
    for worker in workers:
        worker.ask("warm_up")
    found: dict[str, list[dict[str, float]]] = {worker.name: [] for worker in workers}
    for _ in range(epochs):
        for worker in workers:
            time.sleep(SETTLE)
            found[worker.name].append(worker.ask("epoch"))
    return {"threads": threads, "epochs": found}


def main() -> None:
    """Check, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="turns of each contender at each case")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn")
    parser.add_argument("--epochs", type=int, default=0, help="of the default training, timed as well (all: 20)")
    parser.add_argument("--threads", type=int, nargs="+", help="only the cases on so many threads")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders whose names contain one of these")
    parser.add_argument("--json", type=Path, help="where all samples go; by default a dated file in results/")
    parser.add_argument("--plot", type=Path, help="draw a chart into this PNG file")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: 3 short rounds, saved only with --json")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 0.05

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    settings = Settings()
    network = lenet5(settings.network, 28, 28, 10)
    wanted = [name for name in CONTENDERS if not options.only or any(part in name for part in options.only)]
    installed = [name for name in wanted if importlib.util.find_spec(CONTENDERS[name].package)]
    for name in wanted:
        if name not in installed:
            print(f"{name}: not installed")
    reference, *_ = [name for name, kind in REFERENCES.items() if importlib.util.find_spec(kind.package)]

    errors = check(installed, reference)
    _report.print_errors(errors, reference, TOLERANCE)
    right = [name for name in errors if agrees(errors[name])]
    document: dict[str, Any] = {
        "command": sys.argv,
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "machine": {"processor": processor(), "cpus": usable()},
        "versions": versions() | {p: version(p) for p in ("torch", "jax") if importlib.util.find_spec(p)},
        "settings": settings.to_dict(),
        "reference": reference,
        "errors": errors,
        "operations_an_image": step_operations(network),
        "rounds": options.rounds,
        "seconds_a_turn": options.seconds,
        "cases": [],
        "trainings": [],
    }
    for threads in sorted({case.threads for case in CASES}):
        if threads > usable() or (options.threads and threads not in options.threads):
            continue
        cases = [case for case in CASES if case.threads == threads]
        with open_workers([PEAK, *right], threads) as workers:
            for case in cases:
                idle = {PEAK} if case.work == "infer" else set()
                if case != CHUNKED_CASE:
                    idle.add(CHUNKED)
                active = [worker for worker in workers if worker.name not in idle]
                measured = measure(active, case, options.rounds, options.seconds)
                document["cases"].append(measured | {"title": case.title, "latency": case.latency})
                _report.print_case(document["cases"][-1], document["operations_an_image"])
        if options.epochs:
            with open_workers([name for name in EPOCH_CONTENDERS if name in right], threads) as workers:
                document["trainings"].append(measure_epochs(workers, options.epochs, threads))
                _report.print_training(document["trainings"][-1], settings.training.epochs)

    file = options.json
    if file is None and not options.quick:
        file = RESULTS / f"peers-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M}.json"
    if file:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        _report.plot(document, options.plot)


if __name__ == "__main__":
    main()
