"""What a person does with the studio's pages, and sees on them."""

import json
from pathlib import Path
from typing import Any

Stroke = list[tuple[float, float]]

_recorded = json.loads((Path(__file__).parents[1] / "drawings" / "drawings.json").read_text(encoding="utf-8"))

SETTLED = """async (patience) => {
  const isSettled = (region) => region.dataset.asked === region.dataset.seq;
  const started = performance.now();
  while (![document.body, ...document.querySelectorAll("[data-asked]")].every(isSettled)) {
    if (performance.now() - started > patience) throw new Error("the page does not settle");
    await new Promise(requestAnimationFrame);
  }
}"""
COUNTED = """async ([selector, seq, patience]) => {
  const started = performance.now();
  while (Number(document.querySelector(selector).dataset.seq ?? 0) < seq) {
    if (performance.now() - started > patience) throw new Error(`${selector} does not come to ${seq}`);
    await new Promise(requestAnimationFrame);
  }
}"""
PATIENCE = 60_000  # milliseconds after which a test gives up; the first reasons take seconds


def recorded(digit: int, number: int = 0) -> list[Stroke]:
    """Return a recorded drawing of a digit: its strokes, in shares of the paper."""
    drawing = [each for each in _recorded if each["digit"] == digit][number]
    return [[(x, y) for x, y in stroke["points"]] for stroke in drawing["strokes"]]


def moved(strokes: list[Stroke], scale: float, dx: float, dy: float) -> list[Stroke]:
    """Return strokes scaled about the upper left corner, then shifted."""
    return [[(scale * x + dx, scale * y + dy) for x, y in stroke] for stroke in strokes]


class StudioPage:
    """A page of the studio.

    Attributes
    ----------
    complaints : what the page has said on the console, or failed to load
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def goto(self, address: str) -> None:
        self.page.goto(address)

    def settle(self) -> None:
        """Wait until every question that the page has asked is answered and shown."""
        self.page.evaluate(SETTLED, PATIENCE)

    def seq(self, selector: str) -> int:
        return int(self.page.locator(selector).get_attribute("data-seq") or 0)

    def wait_for(self, selector: str, seq: int) -> None:
        """Wait until a region has counted that far."""
        self.page.evaluate(COUNTED, [selector, seq, PATIENCE])

    def click(self, selector: str) -> None:
        self.page.locator(selector).click()

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text()).replace("\N{NO-BREAK SPACE}", " ")

    # drawing ---------------------------------------------------------------------------------------------------------

    def places(self, stroke: Stroke) -> Stroke:
        """Return the points of a stroke in pixels of the window."""
        box = self.page.locator("#canvas").bounding_box()
        return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]

    def draw(self, strokes: list[Stroke]) -> None:
        """Draw with the mouse, and wait for the answer."""
        mouse = self.page.mouse
        for stroke in strokes:
            first, *others = self.places(stroke)
            mouse.move(*first)
            mouse.down()
            for place in others:
                mouse.move(*place)
            mouse.up()
        self.settle()

    def touch(self, strokes: list[Stroke]) -> None:
        """Draw with a finger, and wait for the answer."""
        session = self.page.context.new_cdp_session(self.page)

        def send(kind: str, places: Stroke) -> None:
            points = [{"x": x, "y": y} for x, y in places]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        for stroke in strokes:
            first, *others = self.places(stroke)
            send("touchStart", [first])
            for place in [*others[::3], others[-1]]:
                send("touchMove", [place])
            send("touchEnd", [])
        self.settle()

    # what there is to see --------------------------------------------------------------------------------------------

    @property
    def digit(self) -> str:
        """The answer; empty if there is none."""
        return self.text("#digit")

    @property
    def said(self) -> str:
        """What a screen reader says of the answer."""
        return self.text("#said")

    def pixels(self, selector: str) -> list[int]:
        """Return the red of every pixel of a canvas, row by row."""
        return list(
            self.page.locator(selector).evaluate(
                """canvas => {
                  const copy = canvas.cloneNode();
                  const context = copy.getContext("2d", {willReadFrequently: true});
                  context.drawImage(canvas, 0, 0);
                  return [...context.getImageData(0, 0, copy.width, copy.height).data].filter((_, i) => i % 4 === 0);
                }"""
            )
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the server, as the page would."""
        return self.page.evaluate(
            """async ([path, body]) => (await fetch(path, body && {
              method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)
            })).json()""",
            [path, body],
        )
