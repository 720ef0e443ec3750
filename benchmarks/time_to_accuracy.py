"""Seconds of training until 97, 98 and 99 % of the test images are right, over several seeds.

    python benchmarks/time_to_accuracy.py                       # the recipe "fast"
    python benchmarks/time_to_accuracy.py default --seeds 1 2 3

Each run is ``lenet train`` in a process of its own, one after the other. The clock is the history's: it counts all of
the training, orders and distortions drawn up included, but neither evaluation and saving, nor imports and compilation.
Accuracy is looked at after each epoch; an accuracy counts as reached where it is, and stays so to the end.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from lenet import storage
from lenet.info import processor, versions

RESULTS = Path(__file__).parent / "results"
GOALS = (0.97, 0.98, 0.99)


def reached(accuracies: Sequence[float], seconds: Sequence[float], goal: float) -> float | None:
    """Return after how many seconds a goal is reached for good; None for never.

    Parameters
    ----------
    accuracies, seconds : of each epoch
    """
    ends = list(accumulate(seconds))
    below = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy < goal]
    first = below[-1] + 1 if below else 0
    return ends[first] if first < len(ends) else None


def run(recipe: str, seed: int, threads: int | None, path: Path) -> dict[str, Any]:
    """Train once and return the course."""
    options = ["--settings", recipe, "--seed", str(seed), "--path", str(path)]
    if threads:
        options += ["--threads", str(threads)]
    command = [sys.executable, "-m", "lenet", "train", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    saved = storage.load(path)
    accuracies = [record.test_accuracy for record in saved.history]
    seconds = [record.seconds for record in saved.history]
    return {
        "seed": seed,
        "test_accuracy": accuracies,
        "seconds": seconds,
        "reached": {f"{goal:.0%}": reached(accuracies, seconds, goal) for goal in GOALS},
        "settings": saved.description.settings.to_dict(),
        "device": saved.description.device,
    }


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="fast")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(1, 11)))
    parser.add_argument("--threads", type=int, help="all, if not said")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        run(options.recipe, 0, options.threads, Path(folder) / "warm")  # compiles, and is not counted
        runs = [run(options.recipe, seed, options.threads, Path(folder) / str(seed)) for seed in options.seeds]

    print(f"{options.recipe}, {runs[0]['device']}: seconds of training until so many test images are right")
    for goal in runs[0]["reached"]:
        times = [found["reached"][goal] for found in runs]
        there = [time for time in times if time is not None]
        middle = f"median {statistics.median(there):.2f} s, at most {max(there):.2f} s" if there else "never"
        print(f"{goal:>4}  {middle}, {len(there)} of {len(times)} seeds")
    last = [100 * found["test_accuracy"][-1] for found in runs]
    print(f"at the end {statistics.mean(last):.2f} %, from {min(last):.2f} to {max(last):.2f} %")

    RESULTS.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    file = RESULTS / f"time-to-accuracy-{now:%Y-%m-%d-%H%M}.json"
    document = {"command": sys.argv, "recipe": options.recipe, "machine": processor(), "versions": versions()}
    file.write_text(json.dumps(document | {"runs": runs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
