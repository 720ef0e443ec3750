"""Drawing and looking: every tool, every device, every answer that the page can give."""

import base64
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from driver import missing
from studio_page import StudioPage, moved, recorded


def test_a_browser_takes_part(request: pytest.FixtureRequest) -> None:
    if reason := missing():
        (pytest.fail if request.config.getoption("--require-browser") else pytest.skip)(reason)


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_drawn_with_the_mouse_is_read(studio: StudioPage, digit: int) -> None:
    studio.draw(recorded(digit, 2))
    assert studio.digit == str(digit)
    assert studio.said == f"It reads {digit}."
    shares = studio.page.locator("#bars li").evaluate_all("rows => rows.map(row => row.className)")
    assert shares == ["answer" if label == digit else "" for label in range(10)]


def test_a_finger_draws_and_the_page_stays_where_it_is(open_page: Callable[..., StudioPage], shared: Any) -> None:
    phone = open_page(shared.address, 390, 844, has_touch=True, is_mobile=True, device_scale_factor=2)
    phone.settle()
    kinds = "() => new Promise(told => addEventListener('pointerdown', event => told(event.pointerType), {once: true}))"
    handle = phone.page.evaluate_handle(f"() => ({{ kind: ({kinds})() }})")
    phone.touch(recorded(5))
    assert phone.digit == "5"
    assert handle.evaluate("({kind}) => kind") == "touch"
    assert phone.page.evaluate("scrollY") == 0


def test_a_stroke_that_leaves_the_paper_goes_on(studio: StudioPage) -> None:
    studio.draw([[(0.5, 0.1), (0.5, 1.3)]])
    assert studio.digit == "1"


def test_empty_paper_has_no_answer(studio: StudioPage) -> None:
    assert studio.digit == ""
    assert studio.said == "Draw a digit."
    assert studio.page.locator(".layer.empty").count() == 7
    assert studio.page.locator("#clear").is_disabled()
    assert studio.page.locator("#undo").is_disabled()


def test_undo_redo_and_clear(studio: StudioPage) -> None:
    studio.draw(recorded(1))
    one = studio.pixels("#seen")
    studio.draw([[(0.2, 0.5), (0.8, 0.5)]])
    both = studio.pixels("#seen")
    assert one != both

    def then(act: Callable[[], None]) -> list[int]:
        act()
        studio.settle()
        return studio.pixels("#seen")

    keys = studio.page.keyboard
    assert then(lambda: studio.click("#undo")) == one
    assert then(lambda: studio.click("#redo")) == both
    assert then(lambda: keys.press("Control+z")) == one
    assert then(lambda: keys.press("Control+Shift+Z")) == both
    assert len(set(then(lambda: studio.click("#clear")))) == 1
    assert studio.said == "Draw a digit."
    assert then(lambda: studio.click("#undo")) == both  # clearing can be undone
    studio.draw([[(0.2, 0.9), (0.8, 0.9)]])
    assert studio.page.locator("#redo").is_disabled()  # another drawing has begun


def test_the_eraser_takes_one_of_two_digits_away(studio: StudioPage) -> None:
    studio.draw(moved(recorded(7), 0.45, 0, 0.2) + moved(recorded(3), 0.45, 0.52, 0.2))
    assert studio.digit == ""
    assert studio.said == "One digit at a time."
    studio.click("#eraser")
    studio.draw([[(x, y) for y in (0.05, 0.95)] for x in (0.55, 0.65, 0.75, 0.85, 0.95)])
    assert studio.digit == "7"


def test_without_preparation_the_paper_is_merely_shrunk(studio: StudioPage) -> None:
    studio.draw(moved(recorded(4), 0.4, 0, 0))
    prepared = studio.pixels("#seen")
    assert studio.digit == "4"
    studio.page.get_by_role("switch", name="Prepare as MNIST was made").press("Space")
    studio.settle()
    shrunk = studio.pixels("#seen")
    paper = max(prepared)
    lower_right = [value for row in range(14, 28) for value in shrunk[28 * row + 14 : 28 * row + 28]]
    assert set(lower_right) == {paper}
    assert any(value < paper for row in range(14, 28) for value in prepared[28 * row + 14 : 28 * row + 28])
    assert studio.said != "It reads 4."


def test_a_test_image_is_shown_with_its_label(open_page: Callable[..., StudioPage], shared: Any) -> None:
    page = open_page(f"{shared.address}/?test=0")  # the first one is a 7
    page.settle()
    assert page.said == "It reads 7. Right: it is labeled 7."
    assert page.text("#source") == "Test image 0"
    seen = base64.b64decode(page.ask("/api/think", {"test": 0})["pixels"])
    shown = page.pixels("#seen")
    paper, ink = max(shown), min(shown)
    assert [255 * (paper - value) / (paper - ink) for value in shown] == pytest.approx(list(seen), abs=1)
    page.click("#random-test")
    page.settle()
    number = int(page.text("#source").removeprefix("Test image "))
    assert f"labeled {page.ask('/api/think', {'test': number})['label']}." in page.said
    page.draw(recorded(1))  # a stroke begins on empty paper
    assert page.digit == "1"
    assert page.page.locator("#source").is_hidden()


# with the keyboard alone ----------------------------------------------------------------------------------------------


def test_a_digit_is_drawn_with_keys(studio: StudioPage) -> None:
    keys = studio.page.keyboard
    studio.page.locator("#canvas").focus()
    for key in ["ArrowUp"] * 6 + ["Space"] + ["ArrowDown"] * 12 + ["Space"]:
        keys.press(f"Shift+{key}" if key.startswith("Arrow") else key)
    studio.settle()
    assert studio.digit == "1"
    keys.press("Delete")
    studio.settle()
    assert studio.said == "Draw a digit."
    keys.press("e")
    assert studio.page.locator("#eraser").get_attribute("aria-pressed") == "true"


def test_the_layers_are_walked_with_keys(studio: StudioPage) -> None:
    studio.draw(recorded(8))
    keys, page = studio.page.keyboard, studio.page
    page.locator("[data-layer=C1] .tiles").focus()
    for _ in range(24):  # over the right edge of the first map into the second one
        keys.press("ArrowRight")
    assert studio.text("#unit-said").startswith("C1, map 2, row 1, column 1:")
    keys.press("Enter")
    studio.settle()
    assert studio.text("#explain-title").startswith("C1, map 2, row 1, column 1:")
    page.locator("#explain-close").focus()
    keys.press("Escape")
    assert page.locator("#explain").is_hidden()
    assert page.evaluate("document.activeElement.closest('.layer').dataset.layer") == "C1"


# a unit, taken apart --------------------------------------------------------------------------------------------------


def spoken(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def numbers(page: Any, selector: str) -> list[float]:
    return [float(value) for value in page.locator(selector).evaluate_all("all => all.map(cell => cell.dataset.value)")]


@pytest.mark.parametrize(
    ("layer", "tile", "maps"),
    [("C1", 4, 1), ("C3", 1, 3), ("C3", 16, 6)],  # after the paper's Table I: its first and its last map
)
def test_the_parts_of_a_convolution_add_up(studio: StudioPage, layer: str, tile: int, maps: int) -> None:
    studio.draw(recorded(2))
    studio.page.locator(f"[data-layer={layer}] .tile").nth(tile - 1).click()
    studio.settle()
    page = studio.page
    assert page.locator(".term").count() == maps
    patches = numbers(page, ".term .product .grid:first-child .cell")
    kernels = numbers(page, ".term .product .grid:not(:first-child) .cell")
    assert len(patches) == len(kernels) == 25 * maps
    products = [patch * kernel for patch, kernel in zip(patches, kernels, strict=True)]
    sums = [spoken(text) for text in page.locator(".term .sum").all_inner_texts()]
    assert sums == pytest.approx([sum(products[i : i + 25]) for i in range(0, len(products), 25)], abs=0.006)
    bias = spoken(re.search(r"bias (\S+)\)", studio.text("#formula"))[1])  # type: ignore[index]
    value = float(page.locator("#explain").get_attribute("data-value"))
    assert value == pytest.approx(1 / (1 + math.exp(-(sum(products) + bias))), abs=0.002)
    if layer == "C1":
        row, column = (int(part) - 1 for part in re.findall(r"(?:row|column) (\d+)", studio.text("#explain-title")))
        seen = studio.pixels("#seen")
        paper, ink = max(seen), min(seen)
        seen = [(paper - value) / (paper - ink) for value in seen]
        window = [seen[28 * (row + i) + column + j] for i in range(5) for j in range(5)]
        assert window == pytest.approx(patches, abs=0.01)


def test_a_sum_is_shown_step_by_step(studio: StudioPage) -> None:
    studio.draw(recorded(2))
    studio.page.locator("[data-layer=C1] .tile").nth(0).click()
    studio.settle()
    page = studio.page
    assert studio.text("#step-said") == studio.text("#formula")
    page.locator("#step").fill("0")
    assert studio.text("#step-said") == "Nothing summed up yet."
    cells = numbers(page, ".grid .cell")
    patches, kernels = cells[:25], cells[25:]
    for step in range(1, 26):
        studio.click("#step-on")
        so_far = sum(a * b for a, b in zip(patches[:step], kernels[:step], strict=True))
        assert spoken(studio.text("#step-said").rpartition(" ")[2]) == pytest.approx(so_far, abs=0.006)
        assert page.locator(".cell.lit").count() == 2
    studio.click("#step-on")
    studio.click("#step-on")
    assert page.locator("#step-on").is_disabled()
    page.locator("#step").fill("0")
    studio.click("#step-play")
    page.locator("#step-play[aria-pressed=false]").wait_for()  # it stops by itself, at the end
    assert studio.text("#step-said") == studio.text("#formula")


def test_the_parts_of_a_pooling_and_of_dense_units_add_up(studio: StudioPage) -> None:
    studio.draw(recorded(2))
    page = studio.page
    page.locator("[data-layer=S2] .tile").nth(1).click()
    studio.settle()
    values = numbers(page, ".term .cell")
    assert len(values) == 4
    assert float(page.locator("#explain").get_attribute("data-value")) == pytest.approx(sum(values) / 4, abs=1e-6)
    for layer, squashed in (("F5", True), ("output", False)):
        page.locator(f"[data-layer={layer}] .tile").click()
        studio.settle()
        products = [spoken(text) for text in page.locator(".contributions .sum").all_inner_texts()]
        assert len(products) == 13  # the twelve largest, and the rest
        bias = spoken(re.search(r"bias ([^)\s]+)", studio.text("#formula"))[1])  # type: ignore[index]
        total = sum(products) + bias
        expected = 1 / (1 + math.exp(-total)) if squashed else total
        value = float(page.locator("#explain").get_attribute("data-value"))
        assert value == pytest.approx(expected, abs=0.1)  # thirteen numbers of two decimals


def test_pointing_enlarges_a_map_and_shows_where_it_looks(studio: StudioPage) -> None:
    studio.draw(recorded(2))
    page = studio.page
    page.locator("[data-layer=C3] .tile").nth(0).hover()  # sees maps 1, 2, 3 of S2
    assert page.locator("#loupe").is_visible()
    marked = page.locator("[data-layer=S2] .field").evaluate_all("all => all.map(mark => mark.style.display)")
    assert [display == "block" for display in marked] == [True] * 3 + [False] * 3
    assert page.locator(".links .lit").count() == 3
    page.mouse.move(5, 5)
    assert page.locator("#loupe").is_hidden()


# why ------------------------------------------------------------------------------------------------------------------


def test_steps_toward_another_digit_change_the_answer(studio: StudioPage) -> None:
    studio.draw(recorded(3))
    page = studio.page
    assert page.locator("#neighbors li").count() == 5
    assert page.locator("#neighbors li").all_inner_texts() == ["3"] * 5
    studio.click("#toward button:nth-child(9)")
    studio.settle()
    assert page.locator("#toward button[aria-pressed=true]").inner_text() == "8"
    for steps in range(1, 9):
        studio.click("#take-step")
        studio.settle()
        assert studio.text("#source") == f"Your drawing after {steps} step{'s' if steps > 1 else ''}"
        if studio.digit == "8":
            break
    assert studio.digit == "8"
    studio.click("#steps-back")
    studio.settle()
    assert studio.digit == "3"
    assert page.locator("#source").is_hidden()
