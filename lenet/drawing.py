"""A drawing or a photograph of digits -> the 28x28 images that the network was trained on.

MNIST was made so: the black and white digit is scaled until the longest side of its box is 20 pixels, which gives the
gray edges, and laid into 28x28 pixels with its center of mass in the middle. Whoever feeds a network with digits made
in another way gets wrong answers from a right network. `docs/drawing.md` has the measurements.

*Ink* is an array (H, W) of float32, 0 for paper and 1 for full ink.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from lenet.errors import LenetError, shortened
from lenet.files import open_plain

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
MAX_LENGTH = 100  # of all strokes together, in sides of the canvas; a digit has three
OVERSAMPLING = 8  # strokes are drawn in pixels of 1/8, then averaged

STRONG = 0.5  # ink that is certain,
THIN = 0.2  # or in a sparse picture
FAINT = 0.1  # ink where it hangs together with certain ink: a gray edge

# Shares of the height of the tallest part of a picture
SMALL = 0.5  # parts below that are no digits
GAP_BESIDE, GAP_BELOW = 0.1, 0.3  # how far a part may lie from the digit that it belongs to

# What no digit of MNIST is, by far
WIDEST = 2.5  # of the height
FULLEST = 0.8  # share of its box that is ink, unless it is narrow as a 1 is
PALEST = 0.03  # share of 20 x 20 pixels that is ink

MAX_PARTS = 400  # of a picture, the largest; what is beyond is noise
LEGIBLE = 6  # pixels, the size of the smallest digit that is looked at, and of its parts,
SPECK = 0.1  # or, in a small picture, this share of the largest part
SPARSE = 112  # pixels, the longer side of a picture up to which strokes may be thinner than a pixel
REFINED = 4  # times the pixels of a picture that is smaller than MNIST's
LARGEST = 1600  # pixels, the longer side to which a file's picture is scaled down
COARSE = 160  # pixels, the longer side of the picture in which the light on the paper is measured
FAINTEST = 0.12  # the least share of the light that ink takes away
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

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
        strokes that are longer than 100 sides of the canvas, a coordinate that is not a number from -1 to 2.
    """
    strokes = value.get("strokes") if isinstance(value, dict) else None
    if not isinstance(strokes, list):
        raise LenetError('a drawing is an object {"strokes": [...]}')
    if len(strokes) > MAX_STROKES:
        raise LenetError(f"a drawing has at most {MAX_STROKES} strokes, not {len(strokes)}")
    parsed = tuple(_parse_stroke(stroke) for stroke in strokes)
    if (count := sum(len(stroke.points) for stroke in parsed)) > MAX_POINTS:
        raise LenetError(f"a drawing has at most {MAX_POINTS} points, not {count}")
    if sum(np.hypot(*np.diff(stroke.points, axis=0).T).sum() for stroke in parsed) > MAX_LENGTH:
        raise LenetError(f"the strokes of a drawing are at most {MAX_LENGTH} times as long as the paper is wide")
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


def _trace(lines: Sequence[NDArray[np.float64]], side: int, width: float) -> Mask:
    """Return what a round pen leaves along lines, each (n, 2), on a square; all in pixels: (side, side)."""
    margin = int(width / 2) + 1
    thin = Image.new("1", (side + 2 * margin, side + 2 * margin))
    pen = ImageDraw.Draw(thin)
    for line in lines:
        pen.line([*(line + margin).ravel(), *(line[-1] + margin)], fill=1)
    # A row of the round pen is a run of pixels; running sums tell whether the line meets it, wherever the pen stands.
    sums = np.cumsum(np.pad(np.asarray(thin), ((0, 0), (1, 0))), axis=1, dtype=np.int16)
    disk = np.arange(-margin, margin + 1)
    traced = np.zeros((side, side), bool)
    for row, run in enumerate((disk**2 + disk[:, None] ** 2 <= width**2 / 4).sum(axis=1)):
        start, near = margin - run // 2, sums[row : row + side]
        traced |= near[:, start + run : start + run + side] > near[:, start : start + side]
    return traced


def _paint(strokes: Sequence[Stroke]) -> Mask:
    """Return the canvas as the one who draws sees it, (CANVAS, CANVAS)."""
    canvas = np.zeros((CANVAS, CANVAS), bool)
    for erase, group in groupby(strokes, lambda stroke: stroke.erase):
        traced = _trace([stroke.points * CANVAS for stroke in group], CANVAS, (ERASER if erase else PEN) * CANVAS)
        canvas = canvas & ~traced if erase else canvas | traced
    return canvas


def _cut(strokes: Sequence[Stroke]) -> list[NDArray[np.float64]]:
    """Return what the eraser and the edge of the canvas have left of the center lines of the pen, each (n, 2)."""
    gone = np.zeros((CANVAS, CANVAS), bool)
    lines = []
    for erase, group in groupby(reversed(strokes), lambda stroke: stroke.erase):
        if erase:
            gone |= _trace([stroke.points * CANVAS for stroke in group], CANVAS, ERASER * CANVAS)
            continue
        for stroke in group:
            line = _densify(stroke.points)
            column, row = np.floor(line * CANVAS).astype(np.intp).T
            inside = (line >= 0) & (line < 1)
            left = inside[:, 0] & inside[:, 1]
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
    """Return the canvas as it is, scaled down to (28, 28): what a network gets without preparation."""
    return np.rint(255 * _average(_paint(strokes), CANVAS // SIDE)).astype(np.uint8)


def prepare(strokes: Sequence[Stroke]) -> Prepared:
    """Prepare a drawing, with a pen of the width that MNIST has; the box is in shares of the canvas."""
    lines = _cut(strokes)
    if not lines:
        return BLANK
    labels, boxes = _components(_trace([line * CANVAS for line in lines], CANVAS, PEN * CANVAS))
    digits = _group(boxes)
    if len(digits) == 1:  # without specks
        starts = [np.floor(line[0] * CANVAS).astype(np.intp) for line in lines]
        lines = [line for line, (x, y) in zip(lines, starts, strict=True) if labels[y, x] - 1 in digits[0]]
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (LONGEST - STROKE) / max(*(high - low), PEN) * OVERSAMPLING
    side = LONGEST * OVERSAMPLING
    centered = [(line - (low + high) / 2) * scale + side / 2 for line in lines]
    digit = _average(_trace(centered, side, STROKE * OVERSAMPLING), OVERSAMPLING)
    left, top, right, bottom = np.clip([*(low - PEN / 2), *(high + PEN / 2)], 0, 1).tolist()
    problem = "several" if len(digits) > 1 else _judge(digit, high - low + STROKE * OVERSAMPLING / scale)
    return Prepared(_place(digit), (left, top, right, bottom), problem)


# pictures -------------------------------------------------------------------------------------------------------------


def _join(count: int, a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the group of each of ``count`` things, from 0 on, where things ``a[i]`` and ``b[i]`` belong together."""
    root = np.arange(count)
    while (root[a] != root[b]).any():
        lower = np.minimum(root[a], root[b])
        np.minimum.at(root, root[a], lower)
        np.minimum.at(root, root[b], lower)
        while (root[root] != root).any():
            root = root[root]
    return np.unique(root, return_inverse=True)[1]


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
    count = np.searchsorted(row * pitch + start, (row + 1) * pitch + end, side="right") - first
    above = np.repeat(np.arange(len(row)), count)
    below = np.arange(len(above)) + np.repeat(first - (np.cumsum(count) - count), count)
    part = _join(len(row), above, below)
    boxes = np.tile(np.array([width, height, 0, 0]), (part.max(initial=-1) + 1, 1))
    for side, values in enumerate((start, row, end, row + 1)):
        extreme = np.minimum if side < 2 else np.maximum
        extreme.at(boxes[:, side], part, values)
    labels = np.zeros(mask.shape, np.intp)
    labels[mask] = np.repeat(part + 1, end - start)
    return labels, boxes


def _group(boxes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Say which parts of ink, with boxes (n, 4), are a digit together; digits in reading order.

    Tall parts are digits. Two of them one above the other are one, in two pieces. A small part belongs to the nearest
    digit, as the bar of a 5 does, or to none, as a speck.
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    tallest = sizes[:, 1].max(initial=0)
    tall = (sizes[:, 1] >= SMALL * tallest) & (sizes[:, 0] <= WIDEST * tallest)
    shared = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])  # < 0: a gap
    narrower = np.minimum(sizes[:, None, 0], sizes[:, 0])
    near = shared[..., 1] >= -GAP_BELOW * tallest
    links = near & (shared[..., 0] >= narrower / 2) & tall & tall[:, None]
    distance = np.maximum(-shared, 0).sum(axis=2)
    near_tall = near & (shared[..., 0] >= -GAP_BESIDE * tallest) & tall
    for part in np.flatnonzero(~tall & (sizes[:, 0] <= WIDEST * tallest) & near_tall.any(axis=1)):
        links[part, np.where(near_tall[part], distance[part], np.inf).argmin()] = True
    group = _join(len(boxes), *np.nonzero(links))
    return _in_reading_order([np.flatnonzero(group == number) for number in np.unique(group[tall])], boxes)


def _in_reading_order(digits: list[NDArray[np.intp]], boxes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return digits, each some of the parts with boxes (n, 4), from left to right, upper rows first."""
    top = np.array([boxes[parts, 1].min() for parts in digits])
    bottom = np.array([boxes[parts, 3].max() for parts in digits])
    shared = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    heights = bottom - top
    row = _join(len(digits), *np.nonzero(shared >= np.minimum(heights[:, None], heights) / 2))
    order = sorted(range(len(digits)), key=lambda k: (top[row == row[k]].min(), boxes[digits[k], 0].min()))
    return [digits[k] for k in order]


def _grow(labels: NDArray[np.intp], mask: Mask) -> NDArray[np.intp]:
    """Return labels (H, W) with the pixels of a mask that hang together with labeled ones, ring by ring."""
    grown = np.pad(labels, 1)
    width = grown.shape[1]
    flat = grown.ravel()
    around = np.array([-1, 1, -width, width, -width - 1, -width + 1, width - 1, width + 1])
    near = np.flatnonzero(np.pad(mask & (labels == 0), 1))
    while len(near):
        nearest = flat[near[:, None] + around].max(axis=1)
        if not nearest.any():
            break
        flat[near] = nearest
        near = near[nearest == 0]
    return grown[1:-1, 1:-1]


def _refine(ink: Ink) -> tuple[Ink, int]:
    """Return a picture with a margin of one pixel, and how many finer pixels each of them now is.

    In a picture smaller than MNIST's, the edges of a digit lie within pixels; this is how they are found there.
    """
    framed = np.pad(ink, 1)
    if max(ink.shape) >= SIDE:
        return framed, 1
    height, width = framed.shape
    fine = Image.fromarray(framed).resize((width * REFINED, height * REFINED), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(fine), 0, 1), REFINED


def _judge(digit: Ink, size: NDArray[Any]) -> str | None:
    """Return "unclear" for a digit (20, 20), whose box had this width and height, that can be none."""
    width, height = size
    amount = digit.mean() * max(size) / min(size)  # ink in the box, at most 1
    lying = width > WIDEST * height
    blot = amount > FULLEST and width > height / 2
    return "unclear" if lying or blot or digit.mean() < PALEST else None


def _prepare_pixels(ink: Ink, where: tuple[NDArray[np.intp], ...], problem: str | None) -> Prepared:
    """Prepare the ink in some pixels (rows, columns) as one digit."""
    rows, columns = where
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    side = max(right - left, bottom - top)
    square = np.zeros((side, side), np.float32)
    square[rows - (top + bottom - side) // 2, columns - (left + right - side) // 2] = ink[where]
    scaled = Image.fromarray(square).resize((LONGEST, LONGEST), Image.Resampling.BICUBIC)
    digit = np.clip(np.asarray(scaled), 0, 1)
    size = np.array([right - left, bottom - top])
    box = (float(left), float(top), float(right), float(bottom))
    return Prepared(_place(digit), box, problem or _judge(digit, size))


def find_digits(ink: Ink) -> list[Prepared]:
    """Return the digits in an image, from left to right, upper rows first, without specks; the boxes are in pixels.

    Digits whose ink touches are taken for one.
    """
    fine, fineness = _refine(ink)
    labels, boxes = _components(fine > (THIN if max(ink.shape) <= SPARSE else STRONG))
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / fineness
    large = np.sort(np.argsort(-longest, kind="stable")[:MAX_PARTS])
    if longest.max(initial=0) < LEGIBLE:
        return []
    large = large[longest[large] >= min(LEGIBLE, SPECK * longest.max())]
    digits = _group(boxes[large])
    if not digits:  # nothing but lines
        return [_prepare_pixels(ink, np.nonzero(ink > FAINT), "unclear")]
    digit_of = np.full(len(boxes) + 1, -1)
    for number, parts in enumerate(digits):
        digit_of[large[parts] + 1] = number
    labels = _grow(labels, fine > FAINT)
    rows, columns = np.nonzero(labels)
    owner = digit_of[labels[rows, columns]]
    found = [_prepare_pixels(fine, (rows[owner == k], columns[owner == k]), None) for k in range(len(digits))]
    height, width = ink.shape
    boxes_found = np.clip(np.array([each.box for each in found]) / fineness - 1, 0, (width, height) * 2)
    return [replace(each, box=tuple(box)) for each, box in zip(found, boxes_found.tolist(), strict=True)]


def prepare_image(ink: Ink) -> Prepared:
    """Prepare the one digit in an image of ink; the box is in pixels."""
    found = find_digits(ink)
    if not found:
        return BLANK
    return found[0] if len(found) == 1 else _prepare_pixels(ink, np.nonzero(ink > FAINT), "several")


# files ----------------------------------------------------------------------------------------------------------------


def read_image(path: Path) -> tuple[Ink, float]:
    """Read the ink in an image file, dark on light or light on dark.

    Returns
    -------
    ink : (H, W); the longer side has at most 1600 pixels
    zoom : how many pixels of the file one of them is

    Raises
    ------
    LenetError
        If the file cannot be read, is no image, is broken, or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_plain(path) as file, Image.open(file, formats=FORMATS) as picture:
                size = max(picture.size)
                picture.draft("L", (LARGEST, LARGEST))  # JPEG only: decodes a smaller picture
                gray = Image.fromarray(_flatten(ImageOps.exif_transpose(picture)))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LenetError(f"{path} is too large an image: more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise LenetError(f"{path} is no image that can be read here; save it as PNG or JPEG") from error
    except Exception as error:  # decoders raise all sorts of errors on broken files
        if isinstance(error, OSError) and error.strerror:  # the file system's
            raise LenetError(f"cannot read {path}: {error.strerror}") from error
        raise LenetError(f"{path} is a broken image ({shortened(str(error))})") from error
    gray.thumbnail((LARGEST, LARGEST))
    return _extract(np.asarray(gray)), size / max(gray.size)


def _flatten(picture: Image.Image) -> NDArray[np.float32]:
    """Return a picture of any mode as gray, 0..255, with paper where it is transparent."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are not finite")
        values = np.maximum(values, 0)
        return 255 * (values / (values.max() or 1))
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB").convert("L"), np.float32)
    picture = picture.convert("RGBA")
    gray = np.asarray(picture.convert("L"), np.float32)
    alpha = np.asarray(picture.getchannel("A"), np.float32) / 255
    if alpha.mean() < 0.5:  # ink on nothing
        seen = float((gray * alpha).sum()) / max(float(alpha.sum()), 1)
        paper = 255.0 if seen < 128 else 0.0
    else:  # a picture with transparent parts
        paper = float(np.median(gray[alpha >= 0.5]))
    return (paper + (gray - paper) * alpha).astype(np.float32)


def _extract(gray: NDArray[np.float32]) -> Ink:
    """Return the ink of a gray picture (H, W), however the light falls on the paper."""
    height, width = gray.shape
    small = Image.fromarray(gray)
    small.thumbnail((COARSE, COARSE), Image.Resampling.BOX)
    coarse = np.asarray(small)
    if _light_on_dark(coarse):
        gray, coarse = 255 - gray, 255 - coarse
    paper = Image.fromarray(_close(coarse)).resize((width, height), Image.Resampling.BICUBIC)
    darkness = 1 - gray / np.maximum(np.asarray(paper), 1)
    low, high = np.quantile(darkness, (0.05, 0.2))  # both are of paper, as ink takes less than four fifths
    noise = high + 5 * (high - low) / 0.8  # normal quantiles 0.05 and 0.2 are 0.8 standard deviations apart
    some = darkness[darkness > max(noise, FAINTEST)]
    if not len(some):
        return np.zeros_like(gray)
    full = np.median(some[some >= _otsu(some)])
    return np.clip((darkness - noise) / (full - noise), 0, 1).astype(np.float32)


def _light_on_dark(gray: NDArray[np.float32]) -> bool:
    """Return whether ink is lighter than paper: ink is rare; where nothing is, it is what the border lacks."""
    height, width = gray.shape
    light = Image.fromarray(gray).resize((4, 4), Image.Resampling.BOX).resize((width, height), Image.Resampling.BICUBIC)
    flat = gray - np.asarray(light)
    flat -= flat.mean()
    skewness = float((flat**3).mean() / max(float(flat.std()) ** 3, 1e-9))
    if abs(skewness) > 1:
        return skewness > 0
    border = np.median(np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]]))
    return bool(border < gray.mean() and border < gray.max() / 2)


def _otsu(values: NDArray[np.float32]) -> float:
    """Return the threshold that tells two kinds of values apart best: Otsu 1979, the largest variance between them."""
    counts, edges = np.histogram(values.astype(np.float64), bins=256)  # float32 has no bins between close values
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centers)
    means = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * means**2)])


def _close(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return gray (H, W) without what is dark and narrow: a morphological closing, which keeps the edges of shadows."""
    reach = max(gray.shape) // 6
    closed = np.pad(gray, 2 * reach, mode="edge")
    for spread in (np.max, np.min):
        for axis in (0, 1):
            closed = spread(sliding_window_view(closed, 2 * reach + 1, axis), axis=-1)
    return closed
