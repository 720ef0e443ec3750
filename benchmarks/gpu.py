"""All there is to measure on a GPU, in one command of at most eight minutes.

    pip install ".[cuda12,test]"        # or cuda13; with PyTorch for CUDA, if it shall be compared
    python benchmarks/gpu.py

Runs the tests on the GPU, checks every executor against NumPy, then times primitives, training steps, answers, the
convolution ladder and whole trainings, beside PyTorch where it is installed. The table comes last; all samples go to a
dated file in ``results/``.
"""

import argparse
import datetime
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parent / "ladder" / "conv2d"))

import ladder
from _torch_gpu import TorchEager, TorchGraph

from lenet.backends.base import Backend
from lenet.bench.primitives import primitives
from lenet.data import Dataset, load_dataset
from lenet.errors import DeviceUnusable, Unsupported
from lenet.executors import EpochPlan, Executor, State
from lenet.executors.check import self_check
from lenet.info import processor, versions
from lenet.initialize import initialize
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.settings import Settings
from lenet.storage import Description
from lenet.streams import Purpose, permutation, stream
from lenet.training import plan_epoch, train

ROOT = Path(__file__).parents[1]
LIMIT = 460  # seconds in all; what has not begun by its time is left out, and said
TESTS = ("-k", "(cupy or gpu) and not cpu", "--require-backend", "cupy")  # not those that need no GPU
GOALS = (0.97, 0.98, 0.99)

Executors = dict[str, type[Executor]]


class Session:
    """One run: what is measured on, how much of it, and what was found so far."""

    def __init__(self, cupy: Any, backend: Backend, executors: Executors, data: Dataset) -> None:
        self.cupy, self.backend, self.executors, self.data = cupy, backend, executors, data
        self.settings = Settings()
        self.network: Network = lenet5(self.settings.network, data.height, data.width, data.classes)
        self.repeats, self.steps, self.epochs = 11, 200, self.settings.training.epochs
        self.batches = (64, 256, 1024)
        self.found: dict[str, Any] = {}
        self.begun = time.monotonic()

    def part(self, name: str, measure: Callable[[dict[str, Any]], None], needs: float = 0) -> None:
        """Announce a part, let it fill in what it finds, and keep what goes wrong in it, or that there is no time."""
        found: dict[str, Any] = {}
        print(f"{time.monotonic() - self.begun:5.0f} s  {name}", flush=True)
        try:
            if time.monotonic() - self.begun + needs > LIMIT:
                raise TimeoutError("left out: no time")
            measure(found)
        except Exception as error:
            found["failed"] = f"{type(error).__name__}: {error}"
            print(f"         {found['failed']}", flush=True)
        self.found[name] = found

    def executor(self, name: str) -> Executor:
        """Return an executor in the state in which the default training begins."""
        training = self.settings.training
        rule = training.rule()
        executor = self.executors[name](self.network, self.backend, rule, averaging=training.average > 0)
        weights = initialize(self.network, training.initialization, training.seed).astype(np.float32)
        moments = np.zeros((rule.moments, self.network.size), np.float32)
        executor.write(State(weights, moments, weights.copy() if training.average else None))
        return executor

    def seconds(self, job: Callable[[], object]) -> float:
        """Return how long the GPU is at work with a job, by its own clock."""
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        start.record()
        job()
        end.record()
        end.synchronize()
        return 1e-3 * float(self.cupy.cuda.get_elapsed_time(start, end))

    def wall(self, job: Callable[[], object]) -> float:
        """Return how long a job takes until all is done."""
        self.backend.synchronize()
        started = time.perf_counter()
        job()
        self.backend.synchronize()
        return time.perf_counter() - started

    def interleaved(self, jobs: dict[str, Callable[[], object]], clock: Any) -> dict[str, list[float]]:
        """Time jobs in turn, after two turns to get warm."""
        found: dict[str, list[float]] = {name: [] for name in jobs}
        for turn in range(2 + self.repeats):
            for name, job in jobs.items():
                seconds = clock(job)
                if turn >= 2:
                    found[name].append(seconds)
        return found


def run_tests(session: Session, found: dict[str, Any], seconds: float) -> None:
    """Run the test suite's GPU part in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", *TESTS, str(ROOT / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=ROOT, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    found |= {"exit_code": done.returncode, "summary": lines[-1] if lines else "", "last_lines": lines[-30:]}
    print(f"         {found['summary']}", flush=True)


def check(session: Session, found: dict[str, Any]) -> None:
    """Hold every executor to NumPy; one that computes wrong, or refuses, is not timed."""
    for name in list(session.executors):
        try:
            self_check(session.executor(name))
            found[name] = "agrees with NumPy"
        except (DeviceUnusable, Unsupported) as error:
            found[name] = str(error)
            del session.executors[name]
        print(f"         {name}: {found[name]}", flush=True)


def time_primitives(session: Session, found: dict[str, Any]) -> None:
    """Time each primitive of the default network."""
    batch = session.batches[0]
    made = primitives(session.network, session.backend, batch, session.settings.training.rule())
    jobs = {primitive.name: primitive.run for primitive in made}
    amounts = {primitive.name: (primitive.operations, primitive.traffic) for primitive in made}
    found |= {"batch": batch, "amounts": amounts, "seconds": session.interleaved(jobs, session.seconds)}


def climb_ladder(session: Session, found: dict[str, Any]) -> None:
    """Time the versions of the convolution."""
    found |= ladder.measure(session.cupy, session.backend, session.batches[::2])


def steps_of(session: Session, batch: int) -> EpochPlan:
    """Return a plan of some distorted steps, whose images repeat if need be."""
    count = session.steps * batch
    data = session.data
    plan = plan_epoch(session.settings, 1, count, data.height, data.width)
    hyper = np.repeat(plan.hyper[-1:], session.steps, axis=0)
    order = np.resize(permutation(stream(1, Purpose.ORDER, 1), len(data.train_labels)), count)
    return EpochPlan(order, plan.transforms, hyper, batch)


def time_steps(session: Session, batch: int, found: dict[str, Any]) -> None:
    """Time training steps of every executor, with distortion."""
    plan, jobs = steps_of(session, batch), {}
    for name in session.executors:
        executor = session.executor(name)
        samples = executor.upload(session.data.train_images, session.data.train_labels)
        jobs[name] = partial(executor.train_epoch, samples, plan)
    found |= {"steps": session.steps, "seconds": session.interleaved(jobs, session.wall)}


def time_answers(session: Session, found: dict[str, Any]) -> None:
    """Time the evaluation of the test images, and one answer from host to host."""
    images, labels = session.data.test_images, session.data.test_labels
    evaluations, answers = {}, {}
    for name in session.executors:
        executor = session.executor(name)
        samples = executor.upload(images, labels)
        evaluations[name] = partial(executor.evaluate, samples)
        answers[name] = partial(executor.predict, images[:1])
    found |= {
        "images": len(labels),
        "evaluation": session.interleaved(evaluations, session.wall),
        "one_answer": session.interleaved(answers, session.wall),
    }


def run_training(session: Session, name: str, found: dict[str, Any]) -> None:
    """Run the whole default training, evaluation and saving included, after one epoch to get warm."""
    executor, data = session.executor(name), session.data
    samples = executor.upload(data.train_images, data.train_labels)
    warm = plan_epoch(session.settings, 1, len(samples), data.height, data.width)
    executor.train_epoch(samples, warm)
    executor.evaluate(samples)
    description = Description(
        settings=session.settings,
        height=data.height,
        width=data.width,
        classes=data.classes,
        dataset=data.name,
        dataset_source=None,
        dataset_sha256=data.sha256,
        train_images=len(data.train_labels),
        validation_images=0,
        backend=session.backend.name,
        device=session.backend.device,
        executor=executor.name,
        versions=versions(),
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        records = []
        for record in train(executor, data, Path(folder) / "trained", description):
            records.append(record)
            if len(records) == session.epochs:
                break
        found["seconds_in_all"] = time.perf_counter() - started
    found["seconds_of_training"] = sum(record.seconds for record in records)
    found["test_accuracy"] = [record.test_accuracy for record in records]
    found["seconds_to"] = seconds_to(records)


def seconds_to(records: list[Any]) -> dict[str, float | None]:
    """Return after how many seconds of training each accuracy on the test images was first reached."""
    passed = np.cumsum([record.seconds for record in records])
    reached: dict[str, float | None] = {}
    for goal in GOALS:
        first = [float(s) for s, record in zip(passed, records, strict=True) if record.test_accuracy >= goal]
        reached[f"{goal:.0%}"] = first[0] if first else None
    return reached


def time_torch(session: Session, device: str, batch: int, found: dict[str, Any]) -> None:
    """Time PyTorch on the same steps, one by one and as a CUDA graph."""
    torch = import_module("torch")
    plan, reference = steps_of(session, batch), session.executor(next(iter(session.executors)))
    kinds = (TorchEager, TorchGraph) if device == "cuda" else (TorchEager,)
    contenders = {
        kind.name: kind(session.network, session.settings, session.data, plan, torch.device(device)) for kind in kinds
    }
    jobs = {name: contender.run for name, contender in contenders.items()}
    found |= {"steps": session.steps, "seconds": session.interleaved(jobs, session.wall)}
    found["errors"] = {name: contender.error(reference) for name, contender in contenders.items()}


def us(seconds: list[float], divisor: float = 1) -> str:
    """Return the median and the extremes in microseconds."""
    low, middle, high = (1e6 * value / divisor for value in (min(seconds), median(seconds), max(seconds)))
    return f"{middle:10,.1f}  [{low:,.1f} to {high:,.1f}]"


def print_results(session: Session) -> None:
    """Print what was found as short tables."""
    found = session.found
    print(f"\n{session.backend.device}")
    if "summary" in found.get("tests", {}):
        print(f"tests                     {found['tests']['summary']}")
    for batch in session.batches:
        rows = dict(found.get(f"training steps, batch {batch}", {}).get("seconds", {}))
        rows |= found.get(f"PyTorch, batch {batch}", {}).get("seconds", {})
        print(f"\na training step, batch {batch:4}      us")
        for name, seconds in rows.items():
            print(f"  {name:24}{us(seconds, session.steps)}")
    if "evaluation" in found.get("answers", {}):
        print(f"\nanswers                          us   (all of {found['answers']['images']:,} test images; one)")
        for name, seconds in found["answers"]["evaluation"].items():
            print(f"  {name:24}{us(seconds)}   {us(found['answers']['one_answer'][name])}")
    if "seconds" in found.get("primitives", {}):
        print(f"\nprimitives, batch {found['primitives']['batch']:4}           us")
        for name, seconds in found["primitives"]["seconds"].items():
            print(f"  {name:24}{us(seconds)}")
    if "seconds" in found.get("ladder", {}):
        print()
        ladder.print_table(found["ladder"])
    print("\nthe default training")
    for name in session.executors:
        run = found.get(f"training, {name}", {})
        if "test_accuracy" in run:
            goals = "".join(f", {goal} after {s:.2f} s" for goal, s in run["seconds_to"].items() if s is not None)
            print(
                f"  {name:8} {run['seconds_of_training']:6.2f} s of training, {run['seconds_in_all']:6.2f} s in all, "
                f"{100 * run['test_accuracy'][-1]:.2f} %{goals}"
            )
        elif run:
            print(f"  {name:8} {run.get('failed', '')}")


def document(session: Session) -> dict[str, Any]:
    """Return all that was found as one JSON object."""
    return {
        "command": sys.argv,
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "machine": {"device": session.backend.device, "processor": processor()},
        "versions": versions() | {"cupy": session.cupy.__version__},
        "settings": session.settings.to_dict(),
        "results": session.found,
    }


def shortened(data: Dataset, count: int) -> Dataset:
    """Return a data set of the first ``count`` images of each kind: for rehearsals."""

    def first(array: NDArray[Any]) -> NDArray[Any]:
        return array[:count].copy()

    return replace(
        data,
        train_images=first(data.train_images),
        train_labels=first(data.train_labels),
        test_images=first(data.test_images),
        test_labels=first(data.test_labels),
    )


def measure(session: Session, *, tests: float, torch_device: str) -> None:
    """Do everything, the most important first; ``tests`` is how many seconds the tests may take."""
    if tests:
        session.part("tests", lambda found: run_tests(session, found, tests), needs=30)
    session.part("check", partial(check, session))
    for batch in session.batches:
        session.part(f"training steps, batch {batch}", partial(time_steps, session, batch), needs=20)
    for name in reversed(session.executors):  # the fastest first
        session.part(f"training, {name}", partial(run_training, session, name), needs=60)
    session.part("answers", partial(time_answers, session), needs=10)
    for batch in session.batches if importlib.util.find_spec("torch") else ():
        session.part(f"PyTorch, batch {batch}", partial(time_torch, session, torch_device, batch), needs=30)
    session.part("primitives", partial(time_primitives, session), needs=10)
    session.part("ladder", partial(climb_ladder, session), needs=10)


def main() -> None:
    """Check, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=float, default=150, help="seconds for the tests; 0 leaves them out")
    parser.add_argument("--json", type=Path, help="where all samples go; by default a dated file in results/")
    options = parser.parse_args()

    from lenet import backends

    try:
        backend = backends.get("cupy")
    except DeviceUnusable as error:
        sys.exit(f"no GPU to measure on: {error}")
    import cupy

    from lenet.executors import EagerExecutor
    from lenet.executors.cuda_fused import CudaFusedExecutor
    from lenet.executors.cuda_graph import GraphExecutor

    executors: Executors = {"eager": EagerExecutor, "graph": GraphExecutor, "fused": CudaFusedExecutor}
    session = Session(cupy, backend, executors, load_dataset())
    measure(session, tests=options.tests, torch_device="cuda")
    print_results(session)
    name = f"gpu-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M}.json"
    path = options.json or Path(__file__).parent / "results" / name
    path.write_text(json.dumps(document(session), indent=1) + "\n", encoding="utf-8")
    print(f"\nsaved {path}")


if __name__ == "__main__":
    main()
