"""What was tried for the recipe best and is not in the package, because it did not help: see docs/accuracy.md.

    python benchmarks/tried.py --seeds 1 2 3

Each variant trains the recipe without its teachers and with one change, made on the host before an epoch, and is judged
by training images held out, the same for all. Seeds run in parallel, each on one thread; hours, in all. A dated JSON
file goes to ``benchmarks/results``.

- best: the recipe as it is, but without its teachers
- elastic: every image bent by a smooth random field, 0.8 pixels far (Simard et al. 2003)
- thickness: strokes made fatter or thinner, by a random power of the ink
- fading: the distortions fade out over the last fifth of the epochs
- growing: batches of 64, then 128, then 256 images, a third of the epochs each
"""

import argparse
import datetime
import json
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lenet import backends
from lenet.data import hold_out, load_dataset
from lenet.evaluation import evaluate
from lenet.executors import choose
from lenet.info import processor, versions
from lenet.lenet5 import lenet5
from lenet.settings import DistortionSettings, Settings, load
from lenet.training import first_state, plan_epoch

RESULTS = Path(__file__).parent / "results"
SIDE, SPACING = 28, 5.0  # pixels of an image, and between the knots of a field
ELASTIC, THICKNESS = 0.8, 0.5

Images = NDArray[np.uint8]
Variant = Callable[[Settings, float], Settings]


def spline() -> NDArray[np.float32]:
    """Return the weights (28, knots) of the cubic B-splines at each pixel."""
    weights = np.zeros((SIDE, int(SIDE / SPACING) + 4), np.float32)
    for x in range(SIDE):
        i, f = divmod(x / SPACING, 1)
        pieces = (1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3
        weights[x, int(i) : int(i) + 4] = np.array(pieces) / 6
    return weights


@njit
def warp(images: Images, fields: NDArray[np.float32], out: Images) -> None:
    """Sample ``images`` (N, 28, 28) at each pixel plus its displacement, ``fields`` (N, 2, 28, 28), bilinearly."""
    last = np.float32(SIDE - 1.001)
    for n in range(len(images)):
        for y in range(SIDE):
            for x in range(SIDE):
                u = min(max(np.float32(x) + fields[n, 0, y, x], np.float32(0)), last)
                v = min(max(np.float32(y) + fields[n, 1, y, x], np.float32(0)), last)
                i, j = int(u), int(v)
                f, g = u - i, v - j
                upper = (1 - f) * images[n, j, i] + f * images[n, j, i + 1]
                lower = (1 - f) * images[n, j + 1, i] + f * images[n, j + 1, i + 1]
                out[n, y, x] = np.uint8((1 - g) * upper + g * lower + 0.5)


def elastic(images: Images, random: np.random.Generator) -> Images:
    """Return the images, each bent by a field of its own."""
    out, weights = np.empty_like(images), spline()
    for start in range(0, len(images), 5000):
        part = images[start : start + 5000]
        knots = random.standard_normal((len(part), 2, *2 * weights.shape[1:]), np.float32) * np.float32(ELASTIC)
        warp(part, weights @ knots @ weights.T, out[start : start + 5000])
    return out


def thickness(images: Images, random: np.random.Generator) -> Images:
    """Return the images, the ink of each raised to a power of its own."""
    powers = np.exp(random.uniform(-THICKNESS, THICKNESS, (len(images), 1)))
    table = np.rint(255 * (np.arange(256) / 255) ** powers).astype(np.uint8)
    return table[np.arange(len(images))[:, None, None], images]


def as_it_is(settings: Settings, done: float) -> Settings:
    """Change nothing."""
    return settings


def fading(settings: Settings, done: float) -> Settings:
    """Scale the distortions down, once four fifths of the epochs are done."""
    scale = min(1.0, 5 * (1 - done))
    return Settings(
        settings.network,
        settings.training,
        DistortionSettings(*(scale * each for each in astuple(settings.distortion))),
    )


def growing(settings: Settings, done: float) -> Settings:
    """Double the batch after each third of the epochs."""
    return settings.override("training", batch_size=64 << min(2, int(3 * done)))


VARIANTS: dict[str, tuple[Variant, Callable[[Images, np.random.Generator], Images] | None]] = {
    "best": (as_it_is, None),
    "elastic": (as_it_is, elastic),
    "thickness": (as_it_is, thickness),
    "fading": (fading, None),
    "growing": (growing, None),
}


def run(name: str, seed: int, epochs: int | None, validation: int) -> dict[str, Any]:
    """Train once and return the accuracy and the cost on the images held out."""
    settings = load("best").override("training", seed=seed)
    if epochs is not None:
        settings = settings.override("training", epochs=epochs)
    changed, redrawn = VARIANTS[name]
    dataset = hold_out(load_dataset(), validation)
    backend = backends.get("numba", threads=1)
    network = lenet5(settings.network, dataset.height, dataset.width, dataset.classes)
    executor = choose(network, backend, settings.training.rule(), averaging=True)
    executor.write(first_state(network, settings))
    images, labels = dataset.train_images, dataset.train_labels
    samples = executor.upload(images, labels)
    for epoch in range(1, settings.training.epochs + 1):
        if redrawn:
            samples = executor.upload(redrawn(images, np.random.default_rng([seed, epoch])), labels)
        now = changed(settings, (epoch - 1) / settings.training.epochs)
        executor.train_epoch(samples, plan_epoch(now, epoch, len(labels), dataset.height, dataset.width))
    held_out = executor.upload(dataset.validation_images, dataset.validation_labels)
    found = evaluate(executor, held_out, dataset.validation_labels)
    return {"variant": name, "seed": seed, "validation_accuracy": found.accuracy, "validation_cost": found.cost}


def main() -> None:
    """Train every variant with every seed, and print mean and standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), help=", ".join(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--validation", type=int, default=5000)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = [
            pool.submit(run, name, seed, options.epochs, options.validation)
            for name in options.variants
            for seed in options.seeds
        ]
        runs = [each.result() for each in waiting]
    print("right, % of the images held out: mean, standard deviation; cost")
    for name in options.variants:
        mine = [each for each in runs if each["variant"] == name]
        shares = [100 * each["validation_accuracy"] for each in mine]
        spread = statistics.stdev(shares) if len(shares) > 1 else float("nan")
        cost = statistics.mean(each["validation_cost"] for each in mine)
        print(f"{name:12} {statistics.mean(shares):.3f} ± {spread:.3f}   {cost:.4f}")
    RESULTS.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    document = {"command": sys.argv, "machine": processor(), "versions": versions(), "runs": runs}
    file = RESULTS / f"tried-{now:%Y-%m-%d-%H%M}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
