"""Take the pictures of the studio that the documents show, into ``docs/pictures/``: wide and narrow, light and dark.

Needs Chromium and ``pip install ".[browser]"``, as the tests in a browser do, and uses their hands. Run
``python docs/screenshots.py`` after a change to the pages, and look at what has changed.
"""

import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from driver import Server, find_chromium, missing  # noqa: E402
from studio_page import StudioPage, recorded  # noqa: E402

PICTURES = Path(__file__).with_name("pictures")
WIDE, NARROW = (1280, 860), (390, 844)
COLORS = 256  # of a picture, which makes a third of the file


@dataclass(frozen=True)
class Shot:
    """One picture: a page, what is done on it, and how it is looked at."""

    name: str
    path: str
    size: tuple[int, int]
    theme: str
    act: Callable[[StudioPage], None]
    whole: bool = False  # the whole page, not only the window


def draw(page: StudioPage) -> None:
    """Draw a 3."""
    page.draw(recorded(3))
    page.page.evaluate("document.activeElement.blur()")


def take_apart(page: StudioPage) -> None:
    """Draw a 2 and look into a unit of C3."""
    page.draw(recorded(2))
    tile = page.page.locator("[data-layer=C3] .tile").nth(4)
    box = tile.bounding_box()
    tile.click(position={"x": box["width"] * 0.55, "y": box["height"] * 0.3})
    page.settle()
    page.page.locator("#step").fill("20")


def rest(page: StudioPage) -> None:
    """Leave the page as it comes."""
    page.settle()


def train(page: StudioPage) -> None:
    """Train for twelve epochs."""
    page.wait_for("#training", 1)
    page.page.locator("#epochs").fill("12")
    page.page.get_by_role("button", name="Train").click()
    page.page.locator("#training[data-state=done]").wait_for(timeout=300_000)


SHOTS = (
    *(Shot(f"studio-wide-{theme}", "/", WIDE, theme, draw) for theme in ("light", "dark")),
    *(Shot(f"studio-narrow-{theme}", "/", NARROW, theme, draw) for theme in ("light", "dark")),
    Shot("unit-wide-light", "/", WIDE, "light", take_apart, whole=True),
    Shot("unit-narrow-dark", "/", NARROW, "dark", take_apart, whole=True),
    Shot("tests-wide-light", "/tests?wrong=1", WIDE, "light", rest),
    Shot("tests-narrow-dark", "/tests?wrong=1", NARROW, "dark", rest),
    Shot("training-wide-dark", "/training", WIDE, "dark", train, whole=True),
    Shot("training-narrow-light", "/training", NARROW, "light", train, whole=True),
)


def main() -> None:
    """Take all pictures, or those whose names are given."""
    from playwright.sync_api import sync_playwright

    if reason := missing():
        sys.exit(reason)
    PICTURES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or [shot.name for shot in SHOTS]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder), "selftest", "--no-browser", "--port", "0")
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            for shot in SHOTS:
                if shot.name not in wanted:
                    continue
                width, height = shot.size
                page = chromium.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme=shot.theme,
                    device_scale_factor=2,
                    reduced_motion="reduce",
                )
                studio = StudioPage(page)
                studio.goto(server.address + shot.path)
                studio.settle()
                shot.act(studio)
                picture = Image.open(io.BytesIO(page.screenshot(full_page=shot.whole))).convert("RGB")
                file = PICTURES / f"{shot.name}.png"
                picture.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)
                print(f"{file.relative_to(ROOT)}  {file.stat().st_size // 1024} KiB")
                page.close()
        finally:
            chromium.close()
            server.stop()


if __name__ == "__main__":
    main()
