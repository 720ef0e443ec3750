"""For everybody: small windows, dark and light, keyboards, screen readers, color blindness, calm."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from studio_page import StudioPage, recorded

PAGES = ("/", "/tests", "/training")
FOCUSABLE = "a[href], button:not(:disabled), input:not(:disabled), summary, [tabindex='0']"


def ready(page: StudioPage) -> StudioPage:
    page.settle()
    if page.page.locator("#training").count():
        page.wait_for("#training", 1)
    return page


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1280, 1920])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_its_window(
    open_page: Callable[..., StudioPage], shared: Any, path: str, width: int
) -> None:
    page = ready(open_page(shared.address + path, width))
    if path == "/":
        page.draw(recorded(2))
        page.page.locator("[data-layer=C3] .tile").nth(15).click()
        page.page.locator("[data-layer=F6] .tile").click()
        page.settle()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", PAGES)
def test_everything_has_a_name_and_a_place(open_page: Callable[..., StudioPage], shared: Any, path: str) -> None:
    page = ready(open_page(shared.address + path)).page
    ids = page.locator("[id]").evaluate_all("all => all.map(each => each.id)")
    assert len(ids) == len(set(ids))
    for attribute in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
        named = page.locator(f"[{attribute}]").evaluate_all(
            "(all, attribute) => all.flatMap(each => each.getAttribute(attribute).split(' '))", attribute
        )
        assert set(named) <= set(ids)
    nameless = page.locator("a, button, input, [role=img], [role=application]").evaluate_all(
        """all => all.filter(each => ![each.getAttribute('aria-label'), each.textContent,
          ...[...each.labels ?? []].map(label => label.textContent)]
          .some(name => name?.trim())).map(each => each.outerHTML)"""
    )
    assert nameless == []
    levels = [0, *page.locator("h1, h2, h3").evaluate_all("all => all.map(each => Number(each.tagName[1]))")]
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert page.locator("html").get_attribute("lang") == "en"
    for landmark in ("main", "header", "nav"):
        assert page.locator(f"body > {landmark}, body > header > {landmark}").count() == 1


def test_the_tab_key_goes_through_the_page_in_the_order_of_reading(studio: StudioPage) -> None:
    studio.draw(recorded(2))
    page = studio.page
    page.evaluate("document.activeElement.blur()")
    expected = page.locator(FOCUSABLE).evaluate_all(
        "all => all.filter(each => each.checkVisibility()).map(each => each.id || each.textContent.trim().slice(0, 20))"
    )
    page.locator(".skip").focus()
    passed = []
    for _ in expected:
        passed.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 20)")
        )
        outline = page.evaluate(
            """() => { const at = document.activeElement;
              return [at, at.nextElementSibling].some(one => one && getComputedStyle(one).outlineStyle !== 'none'); }"""
        )
        assert outline, passed[-1]  # one sees where one is
        page.keyboard.press("Tab")
    assert passed == expected


def test_the_answer_is_told_to_screen_readers_once(studio: StudioPage) -> None:
    page = studio.page
    page.evaluate(
        """() => { window.told = []; new MutationObserver(() => told.push(document.getElementById('said').textContent))
          .observe(document.getElementById('said'), {childList: true, characterData: true, subtree: true}); }"""
    )
    assert page.locator("#said").get_attribute("aria-live") == "polite"
    studio.draw(recorded(0))
    told = page.evaluate("told")
    assert told[-1] == "It reads 0."
    assert all(earlier != later for earlier, later in pairwise(told))


@pytest.mark.parametrize("path", PAGES)
def test_fingers_meet_their_targets(open_page: Callable[..., StudioPage], shared: Any, path: str) -> None:
    page = ready(open_page(shared.address + path, 390, 844, has_touch=True, is_mobile=True)).page
    small = page.locator(FOCUSABLE).evaluate_all(
        """all => all.filter(each => each.checkVisibility() && !each.matches('.skip, .switch input'))
          .map(each => [each.id || each.className || each.textContent, each.getBoundingClientRect()])
          .filter(([, box]) => box.width < 24 || box.height < 24).map(([name]) => name)"""
    )
    assert small == []  # WCAG 2.2, 2.5.8


# colors ---------------------------------------------------------------------------------------------------------------

RESOLVE = """names => { const probe = document.body.appendChild(document.createElement('i'));
  const found = names.map(name => { probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number); });
  probe.remove(); return found; }"""


def linear(colors: Any) -> Any:
    """sRGB, 0..255 -> linear light, 0..1."""
    share = np.asarray(colors) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one: Any, other: Any) -> float:
    """Return the contrast of two colors, WCAG 2."""
    dark, bright = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (one, other))
    return (bright + 0.05) / (dark + 0.05)


TEXTS = [
    *((text, ground) for text in ("text", "muted") for ground in ("ground", "surface", "sunken")),
    *((text, ground) for text in ("accent",) for ground in ("ground", "surface", "soft")),
    ("on-accent", "accent"),
    ("warn", "warn-soft"),
    ("warn", "ground"),
    ("muted", "paper"),
    ("ink", "paper"),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_written_can_be_read(open_page: Callable[..., StudioPage], shared: Any, theme: str) -> None:
    page = open_page(shared.address, color_scheme=theme).page
    for text, ground in TEXTS:
        assert contrast(*page.evaluate(RESOLVE, [text, ground])) >= 4.5, (text, ground)
    for edge, ground in (("edge", "ground"), ("edge", "surface"), ("accent", "sunken")):
        assert contrast(*page.evaluate(RESOLVE, [edge, ground])) >= 3, (edge, ground)


# Machado, Oliveira and Fernandes 2009, severity 1: what is left of linear light
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(light: Any) -> Any:
    """Linear light -> CIE L*a*b* under D65."""
    x, y, z = np.cbrt(np.clip(TO_XYZ @ np.clip(light, 0, 1) / [0.9505, 1, 1.089], 216 / 24389, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", BLINDNESS)
def test_signs_are_told_apart_in_color_blindness(
    open_page: Callable[..., StudioPage], shared: Any, kind: str, theme: str
) -> None:
    page = open_page(shared.address, color_scheme=theme).page
    names = ["neg-3", "neg-2", "neg-1", "zero", "pos-1", "pos-2", "pos-3"]
    scale = [lab(np.array(BLINDNESS[kind]) @ linear(color)) for color in page.evaluate(RESOLVE, names)]
    for step in (1, 2, 3):  # the same size, the other sign
        assert np.linalg.norm(scale[3 - step] - scale[3 + step]) > 15, step
    lightness = [float(color[0]) for color in scale]
    down, up = lightness[3::-1], lightness[3:]
    for branch in (down, up):  # the larger a number, the farther from zero
        steps = [later - earlier for earlier, later in pairwise(branch)]
        assert all(step > 3 for step in steps) or all(step < -3 for step in steps)


def test_the_theme_is_switched_and_remembered(studio: StudioPage) -> None:
    page = studio.page
    studio.draw(recorded(2))
    light = studio.pixels("#seen")
    studio.click("#theme")
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    dark = studio.pixels("#seen")
    assert light[0] > 200 > 50 > dark[0]  # paper
    page.reload()
    studio.settle()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    studio.click("#theme")
    assert page.locator("html").get_attribute("data-theme") == "light"


def test_reduced_motion_is_honored(open_page: Callable[..., StudioPage], shared: Any) -> None:
    def moving(page: StudioPage) -> list[str]:
        return list(
            page.page.locator("*").evaluate_all(
                "all => all.filter(one => parseFloat(getComputedStyle(one).transitionDuration)).map(one => one.id)"
            )
        )

    assert moving(ready(open_page(shared.address)))
    assert moving(ready(open_page(shared.address, reduced_motion="reduce"))) == []
