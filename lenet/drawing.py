"""A drawing or a photograph of digits -> the 28x28 images that the network was trained on.

MNIST was made so: the black and white digit is scaled until the longest side of its box is 20 pixels, which gives the gray
edges, and laid into 28x28 pixels with its center of mass in the middle. Whoever feeds a network with digits made in another
way gets wrong answers from a right network. `docs/drawing.md` has the measurements.

*Ink* is an array (H, W) of float32, 0 for paper and 1 for full ink.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from lenet.errors import LenetError

Ink = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

SIDE = 28
LONGEST = 20  # pixels, the longest side of a digit's box in MNIST
CENTER = 14  # the index of the pixel that the center of mass lies on, in rows and columns
STROKE = 2.3  # pixels, the median width of MNIST's strokes

CANVAS = 280
"""Side of the picture that strokes are painted into, in pixels, when they are not prepared."""
PEN, ERASER = 0.07, 0.14
"""Width of the pen and of the eraser, as shares of the canvas."""

MAX_STROKES, MAX_POINTS = 200, 5000
OVERSAMPLING = 8  # strokes are drawn in pixels of 1/8, then averaged

PROBLEMS = {
    "blank": "draw a digit",
    "several": "one digit at a time",
    "unclear": "this does not look like a digit",
}
"""What to tell a person who draws."""


@dataclass(frozen=True)
class Stroke:
    """A movement of the pen or of the eraser.

    Attributes
    ----------
    points : (n, 2), n >= 1; x to the right and y down, the canvas being the unit square; they may lie outside
    erase : whether it takes ink away
    """

    points: NDArray[np.float64]
    erase: bool = False


@dataclass(frozen=True)
class Prepared:
    """A digit as MNIST would have it.

    Attributes
    ----------
    image : (28, 28) uint8, 255 for full ink
    box : of the ink, in the units of what was prepared; None when there is none
    problem : a key of `PROBLEMS`; None when the image is worth an answer
    """

    image: NDArray[np.uint8]
    box: Box | None
    problem: str | None


BLANK = Prepared(np.zeros((SIDE, SIDE), np.uint8), None, "blank")


def unsure(probabilities: NDArray[np.floating]) -> bool:
    """Return whether probabilities (K,) are too low, or too close to each other, for the answer to be believed."""
    second, first = np.sort(probabilities)[-2:]
    return bool(first < 0.6 or first - second < 0.2)


# strokes --------------------------------------------------------------------------------------------------------------


def parse_strokes(value: object) -> tuple[Stroke, ...]:
    """Return the strokes of a parsed JSON object ``{"strokes": [{"tool": "pen", "points": [[x, y], ...]}, ...]}``.

    Raises
    ------
    LenetError
        If it is anything else: another shape, another tool than pen and eraser, more than 200 strokes or 5000 points,
        a coordinate that is not a number from -1 to 2.
    """
    strokes = value.get("strokes") if isinstance(value, dict) else None
    if not isinstance(strokes, list):
        raise LenetError('a drawing is an object {"strokes": [...]}')
    if len(strokes) > MAX_STROKES:
        raise LenetError(f"a drawing has at most {MAX_STROKES} strokes, not {len(strokes)}")
    parsed = tuple(_parse_stroke(stroke) for stroke in strokes)
    if (count := sum(len(stroke.points) for stroke in parsed)) > MAX_POINTS:
        raise LenetError(f"a drawing has at most {MAX_POINTS} points, not {count}")
    return parsed


def _parse_stroke(value: object) -> Stroke:
    """Return one stroke, or raise LenetError."""
    if not isinstance(value, dict) or value.get("tool") not in ("pen", "eraser"):
        raise LenetError('a stroke is an object {"tool": "pen" or "eraser", "points": [[x, y], ...]}')
    points = value.get("points")
    if not isinstance(points, list) or not points or not all(map(_is_point, points)):
        raise LenetError("the points of a stroke are one or more pairs [x, y] of numbers from -1 to 2")
    return Stroke(np.array(points, np.float64), erase=value["tool"] == "eraser")


def _is_point(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(x, int | float) and not isinstance(x, bool) and -1 <= x <= 2 for x in value)
    )


def _trace(points: NDArray[np.float64], side: int, width: float) -> Mask:
    """Return what a round pen of ``width`` leaves along ``points`` (n, 2) on a square, all in pixels: (side, side)."""
    margin = int(width / 2) + 1
    line = Image.new("1", (side + 2 * margin, side + 2 * margin))
    ImageDraw.Draw(line).line([*(points + margin).ravel(), *(points[-1] + margin)], fill=1)
    disk = np.arange(-margin, margin + 1)
    y, x = np.nonzero(disk**2 + disk[:, None] ** 2 <= width**2 / 4)
    rows, columns = np.nonzero(np.asarray(line))
    traced = np.zeros((side + 4 * margin, side + 4 * margin), bool)
    traced[rows[:, None] + y, columns[:, None] + x] = True
    return traced[2 * margin : 2 * margin + side, 2 * margin : 2 * margin + side]


def _paint(strokes: Sequence[Stroke]) -> Mask:
    """Return the canvas as the one who draws sees it, (CANVAS, CANVAS)."""
    canvas = np.zeros((CANVAS, CANVAS), bool)
    for stroke in strokes:
        if stroke.erase:
            canvas &= ~_trace(stroke.points * CANVAS, CANVAS, ERASER * CANVAS)
        else:
            canvas |= _trace(stroke.points * CANVAS, CANVAS, PEN * CANVAS)
    return canvas


def _cut(strokes: Sequence[Stroke]) -> list[NDArray[np.float64]]:
    """Return what the eraser and the edge of the canvas have left of the center lines of the pen, each (n, 2)."""
    gone = np.zeros((CANVAS, CANVAS), bool)
    lines = []
    for stroke in reversed(strokes):
        if stroke.erase:
            gone |= _trace(stroke.points * CANVAS, CANVAS, ERASER * CANVAS)
        else:
            line = _densify(stroke.points)
            column, row = np.floor(line * CANVAS).astype(np.intp).T
            left = (0 <= row) & (row < CANVAS) & (0 <= column) & (column < CANVAS)
            left[left] = ~gone[row[left], column[left]]
            ends = np.flatnonzero(np.diff(left)) + 1
            lines += [part for part, stays in zip(np.split(line, ends), left[[0, *ends]], strict=True) if stays]
    return lines


def _densify(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the line along ``points`` (n, 2) in steps of a pixel of the canvas at most."""
    distance = np.cumsum([0, *np.hypot(*np.diff(points, axis=0).T)])
    steps = np.linspace(0, distance[-1], int(np.ceil(distance[-1] * CANVAS)) + 1)
    return np.stack([np.interp(steps, distance, points[:, axis]) for axis in (0, 1)], axis=1)


def _average(picture: NDArray[Any], factor: int) -> Ink:
    """Return the mean of each square of ``factor`` x ``factor`` pixels."""
    side = len(picture) // factor
    return picture.reshape(side, factor, side, factor).mean(axis=(1, 3), dtype=np.float32)


def _place(digit: Ink) -> NDArray[np.uint8]:
    """Return a digit (20, 20) in an image (28, 28), moved by whole pixels until its center of mass is in the middle."""
    top, left = (
        round(CENTER - float(np.average(np.arange(LONGEST), weights=digit.sum(axis=1 - axis)))) for axis in (0, 1)
    )
    top, left = (min(max(start, 0), SIDE - LONGEST) for start in (top, left))
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + LONGEST, left : left + LONGEST] = np.rint(255 * digit)
    return image


def shrink(strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
    """Return the canvas as it is, scaled down to (28, 28): what a program without preparation would feed its network."""
    return np.rint(255 * _average(_paint(strokes), CANVAS // SIDE)).astype(np.uint8)


def prepare(strokes: Sequence[Stroke]) -> Prepared:
    """Prepare a drawing, with a pen of the width that MNIST has; the box is in shares of the canvas."""
    lines = _cut(strokes)
    if not lines:
        return BLANK
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (LONGEST - STROKE) / max(*(high - low), PEN) * OVERSAMPLING
    side = LONGEST * OVERSAMPLING
    drawn = np.zeros((side, side), bool)
    for line in lines:
        drawn |= _trace((line - (low + high) / 2) * scale + side / 2, side, STROKE * OVERSAMPLING)
    image = _place(_average(drawn, OVERSAMPLING))
    left, top, right, bottom = np.clip([*(low - PEN / 2), *(high + PEN / 2)], 0, 1).tolist()
    return Prepared(image, (left, top, right, bottom), None)


FAINT, STRONG = 0.1, 0.5
SPECK = 0.3
A, R, G = 0.2, 0.65, 0.1

# pictures -------------------------------------------------------------------------------------------------------------


def _components(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the connected parts of a mask (H, W); pixels that touch at a corner are connected.

    Returns
    -------
    labels : (H, W), 0 outside the mask, 1..n in its parts
    boxes : (n, 4), left, top, right, bottom of each part, in pixels
    """
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edges == 1)  # runs of ink, row by row
    end = np.nonzero(edges == -1)[1]
    # Positions in one long line in which rows lie apart, so that a run finds those below it by binary search.
    pitch = width + 2
    first = np.searchsorted(row * pitch + end, (row + 1) * pitch + start, side="left")
    last = np.searchsorted(row * pitch + start, (row + 1) * pitch + end, side="right")
    above = np.repeat(np.arange(len(row)), last - first)
    below = np.arange(len(above)) + np.repeat(first - np.cumsum(last - first) + (last - first), last - first)
    root = np.arange(len(row))
    while (root[above] != root[below]).any():
        lower = np.minimum(root[above], root[below])
        np.minimum.at(root, root[above], lower)
        np.minimum.at(root, root[below], lower)
        while (root[root] != root).any():
            root = root[root]
    part = np.unique(root, return_inverse=True)[1]
    count = int(part.max(initial=-1)) + 1
    boxes = np.tile(np.array([width, height, 0, 0]), (count, 1))
    for axis, values, extreme in (
        (0, start, np.minimum),
        (1, row, np.minimum),
        (2, end, np.maximum),
        (3, row + 1, np.maximum),
    ):
        extreme.at(boxes[:, axis], part, values)
    labels = np.zeros(mask.shape, np.intp)
    labels[mask] = np.repeat(part + 1, end - start)
    return labels, boxes


def _group(boxes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Say which parts of ink, with boxes (n, 4), make up a digit each; from left to right."""
    groups = [[k] for k in range(len(boxes))]
    tallest = int((boxes[:, 3] - boxes[:, 1]).max(initial=0))
    while pair := next(
        (
            (a, b)
            for a in groups
            for b in groups
            if a is not b and _belong(_extent(boxes[a]), _extent(boxes[b]), tallest)
        ),
        None,
    ):
        groups.remove(pair[0])
        pair[1].extend(pair[0])
    extents = {k: _extent(boxes[group]) for k, group in enumerate(groups)}
    digits = [k for k, box in extents.items() if max(box[2:] - box[:2]) >= SPECK * tallest]
    return [np.array(groups[k]) for k in sorted(digits, key=lambda k: extents[k][0])]


def _belong(small: NDArray[np.intp], large: NDArray[np.intp], tallest: int) -> bool:
    """Return whether two parts of ink are parts of one digit, rather than two digits."""
    size = small[2:] - small[:2]
    overlap = np.minimum(small[2:], large[2:]) - np.maximum(small[:2], large[:2])  # negative: a gap
    if overlap[0] >= 0.5 * min(size[0], large[2] - large[0]):  # one above the other
        return bool(overlap[1] >= -A * tallest)
    return bool(size[1] < R * tallest and overlap[0] >= -G * tallest and overlap[1] >= -A * tallest)


def _extent(boxes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the box around boxes (n, 4)."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _scale(ink: Ink, box: NDArray[np.intp]) -> Ink:
    """Return the square around a box, scaled to (20, 20) with gray edges."""
    left, top, right, bottom = box.tolist()
    side = max(right - left, bottom - top)
    margin = side  # the square may reach over the edge
    picture = Image.fromarray(np.pad(ink, margin))
    x, y = margin + (left + right - side) // 2, margin + (top + bottom - side) // 2
    scaled = picture.resize((LONGEST, LONGEST), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
    return np.clip(np.asarray(scaled), 0, 1)


def _prepare(ink: Ink, box: NDArray[np.intp], problem: str | None) -> Prepared:
    left, top, right, bottom = box.tolist()
    return Prepared(_place(_scale(ink, box)), (left, top, right, bottom), problem)


def _grow(labels: NDArray[np.intp], mask: Mask) -> NDArray[np.intp]:
    """Return labels (H, W) with the pixels of a mask that hang together with labeled ones, ring by ring."""
    grown = np.pad(labels, 1)
    width = grown.shape[1]
    flat = grown.ravel()
    around = np.array([-1, 1, -width, width, -width - 1, -width + 1, width - 1, width + 1])
    open_ = np.flatnonzero(np.pad(mask & (labels == 0), 1))
    while len(open_):
        nearest = flat[open_[:, None] + around].max(axis=1)
        if not nearest.any():
            break
        flat[open_] = nearest
        open_ = open_[nearest == 0]
    return grown[1:-1, 1:-1]


def find_digits(ink: Ink) -> list[Prepared]:
    """Return the digits of a row, left to right; the boxes are in pixels."""
    labels, boxes = _components(ink > STRONG)
    groups = _group(boxes)
    labels = _grow(labels, ink > FAINT)
    found = []
    for group in groups:
        own = np.isin(labels, group + 1)
        rows, columns = np.nonzero(own)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        found.append(_prepare(np.where(own, ink, np.float32(0)), box, None))
    return found


def prepare_image(ink: Ink) -> Prepared:
    """Prepare the one digit in an image of ink; the box is in pixels."""
    found = find_digits(ink)
    if not found:
        return BLANK
    if len(found) == 1:
        return found[0]
    boxes = np.array([digit.box for digit in found], np.intp)
    return _prepare(ink, _extent(boxes), "several")


def read_image(path: Path) -> Ink:
    """Return the ink in an image file."""
    raise NotImplementedError
