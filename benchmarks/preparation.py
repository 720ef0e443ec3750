"""What the preparation of drawings and pictures is worth: the tables of docs/drawing.md. Takes a minute.

Run ``python benchmarks/preparation.py``.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import lenet
from lenet import backends
from lenet.drawing import Stroke, parse_strokes, prepare, prepare_image, shrink
from lenet.executors import Executor, State

DRAWINGS = Path(__file__).parent.parent / "tests" / "drawings" / "drawings.json"
IMAGES = 2000


def pretrained() -> Executor:
    """Return the network that ships, ready to answer."""
    saved = lenet.load()
    executor = lenet.choose(saved.network, backends.get("numpy"))
    executor.write(State.of(saved.weights))
    return executor


def moved(image: NDArray[np.uint8], scale: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a digit, scaled, anywhere on a canvas twice as large."""
    side = round(28 * scale)
    canvas = np.zeros((2 * side, 2 * side), np.uint8)
    top, left = rng.integers(0, side, 2)
    scaled = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    canvas[top : top + side, left : left + side] = np.asarray(scaled)
    return canvas


def round_trips(executor: Executor) -> None:
    """Print how many answers stay the same when test digits are moved and scaled, with preparation and without."""
    digits = lenet.load_dataset()
    images, labels = digits.test_images[:IMAGES], digits.test_labels[:IMAGES]
    before = executor.predict(images).argmax(axis=1)
    print(f"as they are: {np.mean(before == labels):.2%} right")
    for scale in (0.8, 1, 1.5, 2.5, 5, 10):
        rng = np.random.default_rng(1)
        canvases = [moved(image, scale, rng) for image in images]
        found = [prepare_image(canvas / np.float32(255)) for canvas in canvases]
        after = executor.predict(np.stack([one.image for one in found])).argmax(axis=1)
        plain = [np.asarray(Image.fromarray(canvas).resize((28, 28), Image.Resampling.BOX)) for canvas in canvases]
        naive = executor.predict(np.stack(plain)).argmax(axis=1)
        refused = sum(one.problem is not None for one in found)
        print(
            f"scale {scale:>4}: {np.mean(after == before):.2%} same answer, {np.mean(after == labels):.2%} right, "
            f"{refused} not taken for one digit; only scaled down: {np.mean(naive == labels):.2%} right"
        )


def off_center(executor: Executor) -> None:
    """Print what a digit in a wrong place costs."""
    digits = lenet.load_dataset()
    images, labels = digits.test_images[:IMAGES], digits.test_labels[:IMAGES]
    for pixels in range(1, 5):
        shifts = [(pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)]
        answers = [executor.predict(np.roll(images, shift, axis=(1, 2))).argmax(axis=1) for shift in shifts]
        print(f"{pixels} pixels off: {np.mean(np.array(answers) == labels):.2%} right")


def drawn(strokes: Sequence[Stroke], width: float) -> NDArray[np.bool_]:
    """Return a picture of strokes 600 pixels high, with a pen of a width that becomes ``width`` pixels of 28."""
    points = np.concatenate([stroke.points for stroke in strokes])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 600 / (high - low).max()
    picture = Image.new("1", (1000, 1000))
    pen = ImageDraw.Draw(picture)
    radius = 600 * width / (20 - width) / 2
    for stroke in strokes:
        places = (stroke.points - (low + high) / 2) * scale + 500
        steps = np.linspace(0, len(places) - 1, 40 * len(places))
        for x, y in zip(*(np.interp(steps, np.arange(len(places)), places[:, axis]) for axis in (0, 1)), strict=True):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(picture)


def drawings(executor: Executor) -> None:
    """Print how many scripted drawings are read, and how wide a pen may be where it is not normalized."""
    recorded = json.loads(DRAWINGS.read_text(encoding="utf-8"))
    labels = np.array([drawing["digit"] for drawing in recorded])
    strokes = [parse_strokes(drawing) for drawing in recorded]

    def right(images: list[NDArray[np.uint8]]) -> str:
        return f"{np.mean(executor.predict(np.stack(images)).argmax(axis=1) == labels):.0%} of {len(labels)} right"

    print(f"drawings, prepared: {right([prepare(one).image for one in strokes])}")
    print(f"drawings, only scaled down: {right([shrink(one) for one in strokes])}")
    for width in (0.4, 0.6, 1.0, 1.5, 2.3, 3.0, 4.0, 5.0):
        pictures = [prepare_image(drawn(one, width).astype(np.float32)) for one in strokes]
        print(f"in a picture, with a pen of {width} pixels: {right([one.image for one in pictures])}")


if __name__ == "__main__":
    network = pretrained()
    round_trips(network)
    off_center(network)
    drawings(network)
