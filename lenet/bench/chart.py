"""What `lenet bench` draws."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lenet.bench.work import BATCHES, KINDS, SCANNED, Result, Work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOR, SHADES = "#0b6e6e", (0.35, 0.65, 1.0)  # of the batch sizes
LINES = ("#8a8a8a", "#e08214", "#b35806", "#2c7fb8", "#0b6e6e", "#7b3294", "#c51b7d", "#4d9221")
TITLES = ("Training steps", "Answers")


def draw(results: Sequence[Result], device: str) -> bytes:
    """Return a PNG, 1200 x 600 pixels: images a second on a logarithmic axis, of those that compute right.

    Bars for a few batch sizes; curves if there are all of a scan.
    """
    from matplotlib.figure import Figure

    there = [result for result in results if result.agrees and result.samples]
    figure = Figure(figsize=(10, 5), dpi=120, layout="constrained")
    scanned = any(result.seconds(Work(KINDS[0], SCANNED[-1])) for result in there)
    (_draw_curves if scanned else _draw_bars)(figure, there)
    figure.suptitle(device, fontsize=9)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _rate(result: Result, work: Work) -> float:
    seconds = result.seconds(work)
    return 1 / seconds if seconds else 0.0


def _draw_bars(figure: "Figure", results: Sequence[Result]) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind, title in zip(panels, KINDS, TITLES, strict=True):
        shown = [rate for result in results for batch in BATCHES if (rate := _rate(result, Work(kind, batch)))]
        for i, batch in enumerate(BATCHES):
            rates = [_rate(result, Work(kind, batch)) for result in results]
            height = 0.8 / len(BATCHES)
            places = [place - 0.4 + height * (i + 0.5) for place in range(len(results))]
            bars = axes.barh(places, rates, height * 0.9, color=COLOR, alpha=SHADES[i], label=f"batch {batch:,}")
            axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3, fontsize=7)
        axes.set_xlim(min(shown, default=1) / 2, max(shown, default=1) * 4)  # room for the numbers at the bars
        axes.set(title=title, xlabel="images a second", xscale="log")
        axes.set_yticks(range(len(results)), [result.name for result in results])
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.legend(*panels[1].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(BATCHES))


def _draw_curves(figure: "Figure", results: Sequence[Result]) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind, title in zip(panels, KINDS, TITLES, strict=True):
        for i, result in enumerate(results):
            rates = [_rate(result, Work(kind, batch)) for batch in SCANNED]
            axes.plot(SCANNED, rates, marker="o", markersize=3, color=LINES[i % len(LINES)], label=result.name)
        axes.set(title=title, xlabel="batch size", ylabel="images a second", yscale="log")
        axes.set_xscale("log", base=2)
        axes.set_xticks(SCANNED, [f"{batch:,}" for batch in SCANNED], rotation=45)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[1].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    panels[1].set_ylabel("")
