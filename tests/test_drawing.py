"""Drawings and photographs become what MNIST is made of, and what is no digit is said to be none."""

import importlib.util
import io
import json
import struct
import tracemalloc
import zlib
from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import lenet
from lenet import backends
from lenet.data import Dataset, load_dataset
from lenet.drawing import (
    CANVAS,
    ERASER,
    OVERSAMPLING,
    PEN,
    PROBLEMS,
    STROKE,
    Prepared,
    Stroke,
    _components,
    _trace,
    find_digits,
    parse_strokes,
    prepare,
    prepare_image,
    read_image,
    shrink,
    unsure,
)
from lenet.errors import LenetError
from lenet.executors import Executor, State

DRAWINGS = Path(__file__).parent / "drawings"


def pen(*points: tuple[float, float]) -> Stroke:
    return Stroke(np.array(points, float))


def eraser(*points: tuple[float, float]) -> Stroke:
    return Stroke(np.array(points, float), erase=True)


def circle(x: float, y: float, rx: float, ry: float) -> Stroke:
    t = np.linspace(0, 2 * np.pi, 60)
    return Stroke(np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1))


def ink_box(image: NDArray[Any]) -> tuple[int, int]:
    """Return width and height of the box of all ink."""
    rows, columns = np.nonzero(image)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def center_of_mass(image: NDArray[Any]) -> tuple[float, float]:
    weights = image.astype(float)
    return tuple(float((weights.sum(axis=axis) * np.arange(28)).sum() / weights.sum()) for axis in (1, 0))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def drawings() -> list[dict[str, Any]]:
    return json.loads((DRAWINGS / "drawings.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return lenet.load_dataset()


@pytest.fixture(scope="module")
def executor() -> Executor:
    saved = lenet.load()
    chosen = lenet.choose(saved.network, backends.get("numpy"))
    chosen.write(State.of(saved.weights))
    return chosen


def answers(executor: Executor, found: list[Prepared]) -> list[int]:
    return executor.predict(np.stack([one.image for one in found])).argmax(axis=1).tolist()


# what MNIST is --------------------------------------------------------------------------------------------------------


def test_mnist_is_made_as_this_module_says(mnist: Dataset) -> None:
    """The numbers that the preparation rests on: 20 pixels, and index 14 to within half a pixel, so whole pixels."""
    images = mnist.test_images[:3000]
    assert sum(max(ink_box(image)) == 20 for image in images) >= 2995
    centers = np.array([center_of_mass(image) for image in images])
    assert abs(centers.mean() - 14) < 0.02
    assert np.abs(centers - 14).max() < 0.53
    assert centers.std() == pytest.approx(1 / np.sqrt(12), abs=0.01)  # uniform over one pixel


# strokes --------------------------------------------------------------------------------------------------------------


def test_strokes_are_parsed() -> None:
    drawn = {"strokes": [{"tool": "pen", "points": [[0, 0.5], [1, 2]]}, {"tool": "eraser", "points": [[-1, 0.25]]}]}
    first, second = parse_strokes(drawn)
    assert first.points.tolist() == [[0, 0.5], [1, 2]]
    assert second.points.tolist() == [[-1, 0.25]]
    assert (first.erase, second.erase) == (False, True)
    assert parse_strokes({"strokes": []}) == ()


def stroke(points: object, tool: object = "pen") -> dict[str, object]:
    return {"strokes": [{"tool": tool, "points": points}]}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "strokes",
        {},
        {"strokes": None},
        {"strokes": {}},
        {"strokes": ["pen"]},
        {"strokes": [{"tool": "pen"}]},
        stroke([[0, 0]], "brush"),
        stroke([[0, 0]], ["pen"]),
        stroke([]),
        stroke("00"),
        stroke([0, 0]),
        stroke([[0]]),
        stroke([[0, 0, 0]]),
        stroke([["0", "0"]]),
        stroke([[True, False]]),
        stroke([[None, 0]]),
        stroke([[float("nan"), 0]]),
        stroke([[0, float("inf")]]),
        stroke([[0, 2.01]]),
        stroke([[-1.01, 0]]),
        stroke([[0, 10**400]]),
        stroke([[0, 0]] * 5001),
        stroke([[0, 0], [1, 0]] * 51),
        {"strokes": stroke([[0, 0]])["strokes"] * 201},  # type: ignore[operator]
    ],
)
def test_what_is_no_drawing_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(LenetError) as caught:
        parse_strokes(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


def test_a_line_has_the_width_of_mnists_strokes_and_its_length() -> None:
    for height in (0.1, 0.3, 0.9):
        image = prepare([pen((0.3, 0.05), (0.3, 0.05 + height))]).image
        assert ink_box(image)[1] >= 18
        assert image[10:18].sum(axis=1) / 255 == pytest.approx(2.3, abs=0.08)


def test_drawings_have_the_size_and_the_place_of_mnist(drawings: list[dict[str, Any]]) -> None:
    for drawing in drawings:
        image = prepare(parse_strokes(drawing)).image
        assert max(ink_box(image)) >= 18
        assert np.abs(np.array(center_of_mass(image)) - 14).max() <= 0.5


def test_size_and_place_on_the_canvas_make_no_difference(drawings: list[dict[str, Any]]) -> None:
    for drawing in drawings[::7]:
        strokes = parse_strokes(drawing)
        points = np.concatenate([one.points for one in strokes])
        low, size = points.min(axis=0), np.ptp(points, axis=0).max()
        moved = [Stroke((one.points - low) / size * 0.4 + [0.05, 0.5]) for one in strokes]
        difference = prepare(strokes).image.astype(int) - prepare(moved).image
        assert np.abs(difference).mean() < 2.5


def test_the_box_is_that_of_the_ink_that_one_sees() -> None:
    found = prepare([pen((0.2, 0.3), (0.5, 0.9))])
    assert found.box == pytest.approx((0.2 - PEN / 2, 0.3 - PEN / 2, 0.5 + PEN / 2, 0.9 + PEN / 2))
    assert prepare([pen((0.01, 0.3), (0.5, 0.999))]).box == pytest.approx((0, 0.3 - PEN / 2, 0.5 + PEN / 2, 1))


def test_the_eraser_takes_away_what_was_drawn_before_it_and_nothing_else() -> None:
    seven = [pen((0.2, 0.2), (0.7, 0.2), (0.4, 0.9))]
    stray = pen((0.2, 0.6), (0.2, 0.9))
    swipe = eraser((0.2, 0.55), (0.2, 0.95))
    assert np.array_equal(prepare([*seven, stray, swipe]).image, prepare(seven).image)
    assert np.array_equal(prepare([swipe, *seven]).image, prepare(seven).image)
    assert not np.array_equal(prepare([*seven, swipe, stray]).image, prepare(seven).image)


def test_the_eraser_shortens_a_line_by_its_own_reach() -> None:
    box = prepare([pen((0.5, 0.1), (0.5, 0.9)), eraser((0.5, 0.9), (0.5, 0.7))]).box
    assert box is not None
    assert box[3] == pytest.approx(0.7 - ERASER / 2 + PEN / 2, abs=2 / CANVAS)


def test_ink_outside_the_canvas_is_not_seen() -> None:
    box = prepare([pen((0.5, 0.5), (1.5, 0.4)), pen((1.2, 0), (1.9, 1))]).box
    assert box is not None
    assert box[2] == 1
    assert prepare([pen((1.2, 0), (1.9, 1))]).problem == "blank"


@pytest.mark.parametrize(
    ("side", "width"), [(28, 1.0), (40, 10.0), (160, STROKE * OVERSAMPLING), (280, ERASER * CANVAS)]
)
def test_a_round_pen_leaves_what_is_near_its_line(side: int, width: float) -> None:
    for x, y in ((side / 2, side / 2), (0.5, side - 0.5), (-width / 3, side / 3)):
        rows, columns = np.indices((side, side))
        near = (rows - np.floor(y)) ** 2 + (columns - np.floor(x)) ** 2 <= width**2 / 4
        assert np.array_equal(_trace([np.array([[x, y]])], side, width), near)
    dots = np.random.default_rng(5).uniform(0, side, (9, 1, 2))
    assert np.array_equal(_trace(dots, side, width), sum(_trace([dot], side, width) for dot in dots) > 0)


def test_the_costliest_drawing_takes_little_memory() -> None:
    """Draw to and fro as long as one may; an eraser that is stamped on every pixel takes a gigabyte."""
    line = [[0.002 + 0.996 * (k % 2), 0.02 * k] for k in range(50)]
    drawn = [{"tool": tool, "points": line} for tool in ("pen", "eraser")]
    tracemalloc.start()
    prepare(parse_strokes({"strokes": drawn}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_shrinking_keeps_the_canvas_as_it_is() -> None:
    width = PEN * 28  # in pixels of the small image
    image = shrink([pen((-0.5, 0.25), (1.5, 0.25))]) / 255
    assert image.sum(axis=0) == pytest.approx(np.full(28, width), abs=0.11)
    assert np.flatnonzero(image.any(axis=1)).tolist() == [6, 7]
    assert not shrink([pen((-0.5, 0.25), (1.5, 0.25)), eraser((-0.5, 0.25), (1.5, 0.25))]).any()


# drawings by script ---------------------------------------------------------------------------------------------------


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", DRAWINGS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawings_are_those_of_their_script(drawings: list[dict[str, Any]]) -> None:
    made = maker().drawings()
    assert [(one["digit"], one["style"]) for one in made] == [(one["digit"], one["style"]) for one in drawings]
    for ours, theirs in zip(made, drawings, strict=True):
        for a, b in zip(ours["strokes"], theirs["strokes"], strict=True):
            assert np.array(a["points"]) == pytest.approx(np.array(b["points"]), abs=0.0011)


def test_drawn_digits_are_read(drawings: list[dict[str, Any]], executor: Executor) -> None:
    labels = [drawing["digit"] for drawing in drawings]
    assert min(Counter(labels).values()) >= 4
    assert len(labels) >= 40
    found = [prepare(parse_strokes(drawing)) for drawing in drawings]
    assert [one.problem for one in found] == [None] * len(found)
    right = np.mean(np.array(answers(executor, found)) == labels)
    assert right >= 0.97
    unprepared = np.stack([shrink(parse_strokes(drawing)) for drawing in drawings])
    assert np.mean(executor.predict(unprepared).argmax(axis=1) == labels) < right - 0.1  # what preparation is for


# what is said rather than guessed -------------------------------------------------------------------------------------


ONE_DIGIT = {
    "5 with its bar apart": [
        pen((0.3, 0.3), (0.28, 0.5), (0.45, 0.5), (0.5, 0.7), (0.25, 0.85)),
        pen((0.42, 0.2), (0.62, 0.18)),
    ],
    "4 whose strokes do not meet": [pen((0.3, 0.2), (0.28, 0.5), (0.45, 0.5)), pen((0.55, 0.15), (0.52, 0.85))],
    "1 with a dot above": [pen((0.5, 0.15), (0.5, 0.16)), pen((0.5, 0.32), (0.5, 0.9))],
    "1 broken in the middle": [pen((0.5, 0.1), (0.48, 0.42)), pen((0.48, 0.55), (0.45, 0.9))],
    "1 with its base apart": [pen((0.5, 0.1), (0.5, 0.75)), pen((0.35, 0.88), (0.65, 0.88))],
    "7 with a bar": [pen((0.3, 0.2), (0.7, 0.2), (0.45, 0.9)), pen((0.4, 0.5), (0.7, 0.5))],
    "8 of two circles that do not touch": [circle(0.5, 0.3, 0.12, 0.13), circle(0.5, 0.7, 0.15, 0.14)],
    "0 drawn in halves": [pen((0.45, 0.1), (0.3, 0.5), (0.45, 0.9)), pen((0.5, 0.1), (0.65, 0.5), (0.5, 0.9))],
}


@pytest.mark.parametrize("name", ONE_DIGIT)
def test_one_digit_in_several_parts_is_one(name: str) -> None:
    assert prepare(ONE_DIGIT[name]).problem is None


@pytest.mark.parametrize(
    ("problem", "strokes"),
    [
        ("blank", []),
        ("blank", [eraser((0.5, 0.5))]),
        ("blank", [pen((0.5, 0.5), (0.5, 0.6)), eraser((0.5, 0.4), (0.5, 0.7))]),
        ("several", [pen((0.2, 0.2), (0.2, 0.8)), circle(0.65, 0.5, 0.15, 0.3)]),
        ("several", [pen((0.3, 0.2), (0.25, 0.8)), pen((0.7, 0.2), (0.65, 0.8))]),
        ("several", [circle(0.5, 0.2, 0.1, 0.15), circle(0.5, 0.75, 0.1, 0.15)]),
        ("unclear", [pen((0.5, 0.5))]),
        ("unclear", [pen((0.5, 0.5), (0.505, 0.5), (0.5, 0.505))]),
        ("unclear", [pen((-0.2, 0.5), (1.2, 0.52))]),
        ("unclear", [pen(*((0.2 + 0.6 * (k % 2), 0.2 + 0.02 * k) for k in range(31)))]),
    ],
)
def test_what_is_not_one_digit_is_said(problem: str, strokes: list[Stroke]) -> None:
    found = prepare(strokes)
    assert found.problem == problem
    assert problem in PROBLEMS
    assert (found.box is None) == (problem == "blank") == (not found.image.any())


def test_a_stray_dot_is_left_out() -> None:
    seven = [pen((0.3, 0.2), (0.7, 0.2), (0.5, 0.7))]
    assert np.array_equal(prepare([*seven, pen((0.05, 0.97))]).image, prepare(seven).image)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.97, 0.02, 0.01], False),
        ([0.01, 0.59, 0.4], True),
        ([0.2, 0.2, 0.6], False),
        ([0.5, 0.25, 0.25], True),
        ([0.45, 0.1, 0.45], True),
    ],
)
def test_unsure(probabilities: list[float], expected: bool) -> None:
    assert unsure(np.array(probabilities)) is expected


# pictures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.1, 0.3, 0.45, 0.6, 0.9])
def test_connected_parts_are_those_of_a_flood(density: float) -> None:
    mask = np.random.default_rng(7).random((31, 44)) < density
    expected = np.zeros(mask.shape, int)
    count = 0
    for start in zip(*np.nonzero(mask), strict=True):
        if expected[start]:
            continue
        count += 1
        todo = [start]
        while todo:
            y, x = todo.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not expected[y, x]:
                expected[y, x] = count
                todo += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    labels, boxes = _components(mask)
    assert np.array_equal(labels, expected)
    for number, box in enumerate(boxes, start=1):
        rows, columns = np.nonzero(expected == number)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_line_that_winds_is_one_part() -> None:
    mask = np.zeros((41, 30), bool)
    mask[::4] = True
    for turn, row in enumerate(range(0, 40, 4)):
        mask[row : row + 4, -(turn % 2)] = True
    labels, boxes = _components(mask)
    assert boxes.tolist() == [[0, 0, 30, 41]]
    assert np.array_equal(labels, mask)


def enlarge(image: NDArray[np.uint8], scale: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return ink with a digit, enlarged, anywhere on a canvas that is half as large again."""
    side = round(28 * scale)
    big = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    canvas = np.zeros((side * 3 // 2, side * 3 // 2), np.float32)
    top, left = rng.integers(0, side // 2, 2)
    canvas[top : top + side, left : left + side] = big
    return canvas


@pytest.mark.parametrize("scale", [0.8, 2.3, 5])
def test_a_round_trip_keeps_the_networks_answers(scale: float, mnist: Dataset, executor: Executor) -> None:
    images = mnist.test_images[:2000]
    before = executor.predict(images).argmax(axis=1)
    rng = np.random.default_rng(1)
    found = [prepare_image(enlarge(image, scale, rng)) for image in images]
    same = np.mean(np.array(answers(executor, found)) == before)
    assert same >= 0.985
    assert sum(one.problem is not None for one in found) <= 10


def test_a_tight_cut_is_read(mnist: Dataset, executor: Executor, tmp_path: Path) -> None:
    """Of a digit cut out along its box, half may be ink: neither polarity nor paper may be taken from that."""
    images, labels = clean(mnist, 40)
    found = []
    for number, image in enumerate(images):
        rows, columns = np.nonzero(image)
        cut = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        cut = np.kron(cut if number % 2 else 255 - cut, np.ones((4, 4), np.uint8))
        found += find_digits(read_image(save(cut, tmp_path / "cut.png"))[0])
    assert np.mean(np.array(answers(executor, found)) == labels) >= 0.97


def test_a_moved_digit_comes_back_to_its_pixels(mnist: Dataset) -> None:
    rng = np.random.default_rng(2)
    exact = 0
    for image in mnist.test_images[:300]:
        solid = np.where(image > 25, image, 0).astype(np.uint8)  # fainter pixels are not looked at
        canvas = np.zeros((60, 50), np.float32)
        top, left = rng.integers(0, 32), rng.integers(0, 22)
        canvas[top : top + 28, left : left + 28] = solid / np.float32(255)
        found = prepare_image(canvas)
        exact += np.array_equal(found.image, solid)
    assert exact >= 285  # others had a faint edge or a speck


def composed(images: list[NDArray[np.uint8]], scale: int, gap: int) -> NDArray[np.float32]:
    """Return ink with digits in a row, ``gap`` pixels between their boxes."""
    crops = []
    for image in images:
        rows, columns = np.nonzero(image > 25)
        crops.append(
            np.kron(image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], np.ones((scale, scale)))
        )
    height = max(len(crop) for crop in crops)
    blank = np.zeros((height, gap))
    parts = [part for crop in crops for part in (np.pad(crop, ((0, height - len(crop)), (0, 0))), blank)]
    return np.pad(np.hstack(parts[:-1]), 4 * scale).astype(np.float32) / 255


def clean(mnist: Dataset, count: int) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """Return test digits of one connected part."""
    whole = (k for k, image in enumerate(mnist.test_images) if len(_components(image > 127)[1]) == 1)
    chosen = list(islice(whole, count))
    return [mnist.test_images[k] for k in chosen], mnist.test_labels[chosen].tolist()


@pytest.mark.parametrize("gap", [2, 10, 40])
def test_a_row_is_read_from_left_to_right(gap: int, mnist: Dataset, executor: Executor) -> None:
    images, labels = clean(mnist, 60)
    read = []
    for start in range(0, 60, 6):
        found = find_digits(composed(images[start : start + 6], 4, gap))
        lefts = [one.box[0] for one in found if one.box]
        assert lefts == sorted(lefts)
        assert len(found) == 6
        read += answers(executor, found)
    assert np.mean(np.array(read) == labels) >= 0.98


def drawn(*strokes: Stroke, side: int = 400) -> NDArray[np.float32]:
    """Return ink with strokes, on a canvas of another size than that of the page."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    for one in strokes:
        small = Image.fromarray(shrink([one])).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
        canvas = Image.fromarray(np.maximum(canvas, small))
    return np.asarray(canvas.resize((side, side)), np.float32) / 255


def test_slanted_digits_whose_boxes_overlap_are_two(executor: Executor) -> None:
    ones = [pen((0.45, 0.2), (0.2, 0.8)), pen((0.67, 0.2), (0.42, 0.8))]
    found = find_digits(drawn(*ones))
    boxes = [one.box for one in found if one.box]
    assert len(boxes) == 2
    assert boxes[1][0] < boxes[0][2]  # the second begins before the first ends
    assert answers(executor, found) == [1, 1]


def test_rows_are_read_one_after_the_other(mnist: Dataset, executor: Executor) -> None:
    images, labels = clean(mnist, 8)
    rows = [composed(images[:4], 3, 12), composed(images[4:], 3, 20)]
    width = max(row.shape[1] for row in rows)
    page = np.vstack([np.pad(row, ((10, 10), (0, width - row.shape[1]))) for row in rows])
    assert answers(executor, find_digits(page)) == labels


def test_a_ruled_line_and_specks_are_no_digits(mnist: Dataset, executor: Executor) -> None:
    images, labels = clean(mnist, 4)
    row = np.pad(composed(images, 4, 16), ((20, 40), (0, 0)))
    row[-20:-17] = 1
    row[3:6, 3:6] = row[5, 200] = 1
    assert answers(executor, find_digits(row)) == labels


def test_pictures_of_no_digit() -> None:
    empty = np.zeros((50, 40), np.float32)
    assert prepare_image(empty).problem == "blank"
    assert find_digits(empty) == []
    dot, line, block = empty.copy(), empty.copy(), empty.copy()
    dot[20, 20] = line[20:23, 3:37] = block[5:40, 5:35] = 1
    assert find_digits(dot) == []
    assert [one.problem for one in find_digits(line)] == ["unclear"]
    assert [one.problem for one in find_digits(block)] == ["unclear"]
    assert prepare_image(np.ones((28, 28), np.float32)).problem == "unclear"


def test_two_digits_in_an_image_of_one_are_said(mnist: Dataset) -> None:
    images, _ = clean(mnist, 2)
    assert prepare_image(composed(images, 4, 30)).problem == "several"


# files ----------------------------------------------------------------------------------------------------------------


def save(picture: Image.Image | NDArray[Any], file: Path, **options: Any) -> Path:
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, **options)
    return file


def cutout(ink: Image.Image, tone: int) -> Image.Image:
    """Return ink of one tone on nothing."""
    picture = Image.new("LA", ink.size, tone)
    picture.putalpha(ink)
    return picture


def marked(ink: Image.Image) -> Image.Image:
    """Return dark ink on a yellow note whose corners are cut off, as a sticker."""
    note = Image.composite(Image.new("RGB", ink.size, (20, 30, 90)), Image.new("RGB", ink.size, (250, 240, 150)), ink)
    alpha = Image.new("L", ink.size, 255)
    alpha.paste(0, (0, 0, 20, 20))
    note.putalpha(alpha)
    return note


KINDS = {
    "light on dark": lambda ink: ink,
    "dark on light": lambda ink: ink.point(lambda v: 255 - v),
    "gray on gray": lambda ink: ink.point(lambda v: 160 - v // 3),
    "blue on white": lambda ink: Image.composite(
        Image.new("RGB", ink.size, (30, 60, 160)), Image.new("RGB", ink.size, "white"), ink
    ),
    "chalk on green": lambda ink: Image.composite(
        Image.new("RGB", ink.size, (220, 225, 215)), Image.new("RGB", ink.size, (20, 70, 40)), ink
    ),
    "black on nothing": lambda ink: cutout(ink, 0),
    "white on nothing": lambda ink: cutout(ink, 255).convert("RGBA"),
    "a note with a corner missing": marked,
    "palette": lambda ink: ink.point(lambda v: 255 - v).convert("P"),
    "black and white": lambda ink: ink.point(lambda v: 255 * (v < 128)).convert("1"),
    "16 bits": lambda ink: Image.fromarray(65535 - np.asarray(ink).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_gives_the_same_digit(
    kind: str, mnist: Dataset, executor: Executor, tmp_path: Path
) -> None:
    images, labels = clean(mnist, 10)
    for image, label in zip(images, labels, strict=True):
        ink = Image.fromarray((enlarge(image, 5, np.random.default_rng(label)) * 255).astype(np.uint8))
        ink = Image.fromarray(np.pad(np.asarray(ink), 12))
        (found,) = find_digits(read_image(save(KINDS[kind](ink), tmp_path / "digit.png"))[0])
        assert found.problem is None
        assert answers(executor, [found]) == [label]
        assert np.abs(found.image.astype(int) - image).mean() < 18


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_turned_back(orientation: int, mnist: Dataset, tmp_path: Path) -> None:
    upright = Image.fromarray(255 - np.pad(np.kron(mnist.test_images[0], np.ones((6, 4), np.uint8)), 10))
    stored_by = {  # what undoes the turn that each value of the EXIF tag asks for
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(stored_by[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected, _ = read_image(save(upright, tmp_path / "upright.png"))
    turned, _ = read_image(save(stored, tmp_path / "turned.png", exif=exif))
    assert turned.shape == expected.shape
    assert np.abs(turned - expected).max() < 1e-6


def photograph(ink: NDArray[np.float32], light: NDArray[np.float64], noise: float) -> bytes:
    """Return a JPEG of ink on paper under this light."""
    pixels = 235 * light * (1 - 0.7 * ink) + np.random.default_rng(11).normal(0, noise, ink.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return file.getvalue()


def light_of(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    return {
        "from the left": 1 - 0.6 * x,
        "dark corners": 1 - 0.5 * (np.hypot(x - 0.5, y - 0.5) / 0.7) ** 2,
        "a soft shadow": 1 - 0.45 / (1 + np.exp(-(x + 0.4 * y - 0.8) / 0.03)),
    }[name]


@pytest.mark.parametrize("light", ["from the left", "dark corners", "a soft shadow"])
def test_photographs_in_uneven_light_are_read(light: str, mnist: Dataset, executor: Executor, tmp_path: Path) -> None:
    images, labels = clean(mnist, 15)
    read = []
    for start in range(0, 15, 5):
        row = np.pad(composed(images[start : start + 5], 5, 30), 80)
        file = tmp_path / "photo.jpg"
        file.write_bytes(photograph(row, light_of(light, row.shape), noise=5))
        found = find_digits(read_image(file)[0])
        assert len(found) == 5
        read += answers(executor, found)
    assert sum(a == b for a, b in zip(read, labels, strict=True)) >= 14


@pytest.mark.parametrize("light", ["from the left", "dark corners", "a soft shadow"])
def test_empty_paper_is_empty(light: str, tmp_path: Path) -> None:
    paper = np.zeros((500, 700), np.float32)
    file = tmp_path / "paper.jpg"
    file.write_bytes(photograph(paper, light_of(light, paper.shape), noise=4))
    assert find_digits(read_image(file)[0]) == []


@pytest.mark.parametrize("tone", [0, 128, 255])
def test_a_picture_of_one_tone_is_empty(tone: int, tmp_path: Path) -> None:
    for size in ((1, 1), (1, 300), (40, 30)):
        ink, _ = read_image(save(Image.new("L", size, tone), tmp_path / "flat.png"))
        assert not ink.any()
        assert find_digits(ink) == []
    ink, _ = read_image(save(Image.new("RGBA", (40, 30), (tone, tone, tone, 0)), tmp_path / "nothing.png"))
    assert not ink.any()


def test_a_large_picture_is_scaled_down(tmp_path: Path) -> None:
    pixels = np.full((1000, 4000), 250, np.uint8)
    pixels[300:700, 2000:2060] = 20
    ink, zoom = read_image(save(pixels, tmp_path / "large.png"))
    assert ink.shape == (400, 1600)
    assert zoom == 2.5
    (found,) = find_digits(ink)
    assert [zoom * side for side in found.box or ()] == pytest.approx([2000, 300, 2060, 700], abs=5)


def bomb(side: int) -> bytes:
    """Return a small PNG file that says it has ``side`` x ``side`` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_files_that_are_no_picture_are_refused_in_one_line(mnist: Dataset, tmp_path: Path) -> None:
    good = save(np.kron(mnist.test_images[0], np.ones((9, 9), np.uint8)), tmp_path / "good.jpg").read_bytes()
    contents = {
        "text.png": b"no picture",
        "empty.png": b"",
        "cut.jpg": good[: len(good) // 2],
        "cut.png": bomb(40),
        "bomb.png": bomb(12_000),
        "worse.png": bomb(100_000),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    }
    for name, content in contents.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(LenetError) as caught:
            read_image(file)
        assert str(caught.value).startswith(str(file))
        assert ("too large" in str(caught.value)) == (name in ("bomb.png", "worse.png"))
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(LenetError, match="cannot read"):
            read_image(path)


def test_a_damaged_file_raises_nothing_else(tmp_path: Path, mnist: Dataset) -> None:
    rng = np.random.default_rng(4)
    picture = Image.fromarray(np.kron(mnist.test_images[1], np.ones((5, 5), np.uint8)))
    for kind in ("png", "jpeg", "gif", "tiff", "bmp", "webp"):
        content = np.frombuffer(save(picture, tmp_path / f"whole.{kind}").read_bytes(), np.uint8)
        for _ in range(15):
            damaged = content.copy()
            damaged[rng.integers(0, len(content), 6)] = rng.integers(0, 256, 6)
            file = tmp_path / f"damaged.{kind}"
            file.write_bytes(damaged.tobytes())
            with suppress(LenetError):
                find_digits(read_image(file)[0])


def test_a_digit_in_a_small_picture_loses_no_ink() -> None:
    """Its strokes are broken by the pixels, and the pieces are small; one in a thousand loses a tenth of its ink."""
    images = load_dataset().test_images[:1000]
    kept = [prepare_image((image / 255).astype(np.float32)).image.sum() / image.sum() for image in images]
    assert np.count_nonzero(np.array(kept) < 0.9) <= 1


def test_thin_strokes_of_a_small_picture_hold_together(mnist: Dataset) -> None:
    """Of test images whose strokes lose half a pixel on each side, one in ten fell to pieces before."""
    fine = mnist.test_images[:500].repeat(2, axis=1).repeat(2, axis=2)
    padded = np.pad(fine, ((0, 0), (1, 1), (1, 1)))
    neighbors = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    thin = np.minimum.reduce([fine, *neighbors]).reshape(500, 28, 2, 28, 2).mean(axis=(2, 4), dtype=np.float32)
    broken = [prepare_image(image / image.max()).problem for image in thin]
    assert sum(problem is not None for problem in broken) <= 15


def test_a_picture_smaller_than_those_of_mnist() -> None:
    ink = np.zeros((8, 8), np.float32)
    ink[1:7, 3:5] = 1
    (bar,) = find_digits(ink)
    assert bar.box == pytest.approx((3, 1, 5, 7), abs=0.5)
    assert np.count_nonzero(bar.image.max(axis=1) > 127) >= 18
    (corner,) = find_digits(np.roll(ink, (-1, -3), axis=(0, 1)))
    assert corner.box == pytest.approx((0, 0, 2, 6), abs=0.5)
    assert corner.box is not None
    assert min(corner.box) == 0  # no box reaches beyond the picture
    difference = np.abs(corner.image.astype(int) - bar.image)  # the margin around a picture is narrow
    assert difference.sum() < 0.05 * bar.image.sum()


def test_small_pictures_are_read(mnist: Dataset, executor: Executor) -> None:
    small = mnist.test_images[:500].reshape(500, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32)
    found = [prepare_image(image / image.max()) for image in small]
    right = np.array(answers(executor, found)) == mnist.test_labels[:500]
    assert [each.problem for each in found] == [None] * 500
    assert np.mean(right) > 0.98
