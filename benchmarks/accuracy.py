"""What a recipe reaches: train it with several seeds and tabulate mean and spread.

    python benchmarks/accuracy.py default original --seeds 1 2 3
    python benchmarks/accuracy.py default benchmarks/candidates/*.toml --seeds 1 2 3 --validation 5000

Recipes are names or TOML files, as for ``lenet train --settings``. With ``--validation`` the choice between recipes is
made on training images that are held out; test accuracies are then left out of the table, so that they cannot choose.
Each run is ``lenet train`` in a process of its own; a dated JSON file goes to ``benchmarks/results``.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lenet import storage
from lenet.info import processor, versions

RESULTS = Path(__file__).parent / "results"


def run(recipe: str, seed: int, validation: int, path: Path) -> dict[str, Any]:
    """Train once and return what was reached."""
    options = ["--settings", recipe, "--seed", str(seed), "--path", str(path), "--validation", str(validation)]
    command = [sys.executable, "-m", "lenet", "train", "--threads", "1", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    saved = storage.load(path)
    last = saved.history[-1]
    return {
        "recipe": Path(recipe).stem,
        "seed": seed,
        "validation_accuracy": last.validation_accuracy,
        "test_accuracy": None if validation else last.test_accuracy,
        "train_accuracy": last.train_accuracy,
        "epochs": last.epoch,
        "training_seconds": sum(record.seconds for record in saved.history),
        "settings": saved.description.settings.to_dict(),
        "device": saved.description.device,
    }


def main() -> None:
    """Run all recipes with all seeds, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--validation", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the networks there, as RECIPE-SEED")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        keep = options.keep or Path(folder)
        waiting = [
            pool.submit(run, recipe, seed, options.validation, keep / f"{Path(recipe).stem}-{seed}")
            for seed in options.seeds
            for recipe in options.recipes
        ]
        runs = [each.result() for each in waiting]

    measure = "validation_accuracy" if options.validation else "test_accuracy"
    print(f"{measure.replace('_', ' ')}, %: mean, standard deviation, each of the seeds {options.seeds}")
    for recipe in options.recipes:
        mine = [r for r in runs if r["recipe"] == Path(recipe).stem]
        shares = [100 * r[measure] for r in mine]
        spread = statistics.stdev(shares) if len(shares) > 1 else float("nan")
        each = " ".join(f"{share:.2f}" for share in shares)
        print(f"{Path(recipe).stem:24} {statistics.mean(shares):.3f} ± {spread:.3f}   {each}")

    RESULTS.mkdir(exist_ok=True)
    kind = "validation" if options.validation else "test"
    file = RESULTS / f"accuracy-{kind}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H%M}.json"
    document = {"command": sys.argv, "machine": processor(), "versions": versions(), "runs": runs}
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
