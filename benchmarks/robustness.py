"""How a network does beyond the test images as they are: moved, thin and thick digits, other people's, calibration.

    python benchmarks/robustness.py                        # the pretrained network
    python benchmarks/robustness.py DIR DIR ...            # saved networks, say one for each seed

Each set is answered twice: as it is, and prepared as MNIST was made (`lenet.drawing`). The sets are

- test: the 10,000 test images; first and last: 5,000 of them each
- shifted by up to 4 pixels, rotated by up to 20 degrees, scaled from 0.7 to 1.25: the test images, drawn by seed
- thin, thick: the test images, their strokes half a pixel narrower or wider on each side
- optdigits: 1,797 digits of 8 x 8 pixels, by other writers (UCI, as scikit-learn ships it; left out without that)
- drawings: the scripted drawings of the tests

A dated JSON file with every count goes to ``benchmarks/results``.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import backends, drawing, storage
from lenet.data import load_dataset
from lenet.evaluation import PART, probabilities
from lenet.executors import Executor, State, choose
from lenet.info import processor, versions

RESULTS = Path(__file__).parent / "results"
DRAWINGS = Path(__file__).parents[1] / "tests" / "drawings" / "drawings.json"
BINS = 15  # of confidence, for the calibration error
CENTER = (drawing.SIDE - 1) / 2

Images = NDArray[np.uint8]


def moved(images: Images, shift: float = 0, rotation: float = 0, scale: tuple[float, float] = (1, 1)) -> Images:
    """Return the images shifted, rotated and scaled at random, within limits."""
    random, count = np.random.default_rng(0), len(images)
    by = random.uniform(-shift, shift, (count, 2))
    angle, factor = np.deg2rad(random.uniform(-rotation, rotation, count)), random.uniform(*scale, count)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / factor
    transforms = np.empty((count, 2, 3), np.float32)
    transforms[:, :, :2] = np.moveaxis(turn, -1, 0)
    transforms[:, :, 2] = CENTER - np.einsum("nij,nj->ni", transforms[:, :, :2], CENTER + by)
    backend = backends.get("numba")
    out = backend.empty((count, 1, drawing.SIDE, drawing.SIDE))
    backend.distort(images, None, transforms, out)
    return np.rint(255 * out[:, 0]).astype(np.uint8)


def stroked(images: Images, extreme: Any) -> Images:
    """Return the images with strokes half a pixel wider on each side (``np.maximum``), or narrower (``np.minimum``)."""
    fine = images.repeat(2, axis=1).repeat(2, axis=2)
    padded = np.pad(fine, ((0, 0), (1, 1), (1, 1)))
    neighbors = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    for neighbor in neighbors:
        fine = extreme(fine, neighbor)
    parts = fine.reshape(len(images), drawing.SIDE, 2, drawing.SIDE, 2)
    return np.rint(parts.mean(axis=(2, 4))).astype(np.uint8)


def prepared(images: Images) -> Images:
    """Return the images made anew, as MNIST was; the darkest pixel is full ink, as in a picture that is read."""
    inks = (images / images.max(axis=(1, 2), keepdims=True)).astype(np.float32)
    return np.stack([drawing.prepare_image(ink).image for ink in inks])


def sets() -> Iterator[tuple[str, Images, Images, NDArray[np.int32]]]:
    """Yield name, images, prepared images and labels of each set."""
    data = load_dataset()
    images, labels = data.test_images, data.test_labels
    variants = {
        "test": images,
        "shifted": moved(images, shift=4),
        "rotated": moved(images, rotation=20),
        "scaled": moved(images, scale=(0.7, 1.25)),
        "thin": stroked(images, np.minimum),
        "thick": stroked(images, np.maximum),
    }
    for name, variant in variants.items():
        yield name, variant, prepared(variant), labels
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("optdigits are left out: pip install scikit-learn", file=sys.stderr)
    else:
        digits = load_digits()
        small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        rows = (np.arange(drawing.SIDE) * 8) // drawing.SIDE
        yield "optdigits", small[:, rows][:, :, rows], prepared(small), digits.target.astype(np.int32)
    drawn = json.loads(DRAWINGS.read_text(encoding="utf-8"))
    strokes = [drawing.parse_strokes(each) for each in drawn]
    plain = np.stack([drawing.shrink(each) for each in strokes])
    made = np.stack([drawing.prepare(each).image for each in strokes])
    yield "drawings", plain, made, np.array([each["digit"] for each in drawn], np.int32)


def calibration_error(shares: NDArray[Any], labels: NDArray[np.int32]) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy, over bins of confidence."""
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(np.sum(confidence[bins == b]) - np.sum(right[bins == b])) for b in range(BINS)]
    return float(sum(gaps) / len(labels))


def main() -> None:
    """Answer all sets with all networks, and print mean and standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, default=[storage.PRETRAINED])
    options = parser.parse_args()

    executors: list[Executor] = []
    for path in options.networks:
        saved = storage.load(path)
        executor = choose(saved.network, backends.get("numba"))
        executor.write(State.of(saved.weights))
        executors.append(executor)

    found: dict[str, dict[str, list[Any]]] = {}
    print(f"right, %: mean and standard deviation over {len(executors)} networks")
    print(f"{'':12}{'images':>8}{'as they are':>18}{'prepared':>18}")
    for name, plain, made, labels in sets():
        logits = [
            [executor.predict(np.ascontiguousarray(images)) for executor in executors] for images in (plain, made)
        ]
        right = [[np.mean(each.argmax(axis=1) == labels) for each in row] for row in logits]
        found[name] = {"images": [len(labels)], "as_they_are": right[0], "prepared": right[1]}
        cells = (f"{100 * np.mean(row):.2f} ± {100 * np.std(row, ddof=len(row) > 1):.2f}" for row in right)
        print(f"{name:12}{len(labels):8,}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
        if name == "test":
            shares = [probabilities(each.astype(np.float64)) for each in logits[0]]
            answers = [each.argmax(axis=1) for each in logits[0]]
            found["first"] = {"as_they_are": [np.mean((each == labels)[:PART]) for each in answers]}
            found["last"] = {"as_they_are": [np.mean((each == labels)[-PART:]) for each in answers]}
            found["calibration_error"] = {"as_they_are": [calibration_error(each, labels) for each in shares]}
            found["digits"] = {
                str(digit): [np.mean(each[labels == digit] == digit) for each in answers] for digit in range(10)
            }
    for name in ("first", "last", "calibration_error"):
        values = 100 * np.array(found[name]["as_they_are"])
        print(f"{name.replace('_', ' '):20}{values.mean():18.2f} ± {values.std(ddof=len(values) > 1):.2f}")
    for digit, accuracies in found["digits"].items():
        print(f"digit {digit}             {100 * np.mean(accuracies):18.2f}")

    now = datetime.datetime.now(datetime.UTC)
    file = RESULTS / f"robustness-{now:%Y-%m-%d-%H%M}.json"
    networks = [path.resolve().name for path in options.networks]
    document = {"command": sys.argv, "machine": processor(), "versions": versions(), "networks": networks}
    file.write_text(json.dumps(document | {"found": found}, indent=1, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
