"""The picture of a sweep: accuracy over the trials, and against each setting that was searched."""

import io
import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING

from lenet.sweep.definition import Choices, Setting, Sweep
from lenet.sweep.trial import Trial, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
COLORS = {"complete": "#0072b2", "given up": "#999999", "below the axis": "#999999", "best": "#d55e00"}
ROOM = 4
"""The axes reach so many times as far below the best trial as the median does; what is worse sits on the edge."""


def draw(trials: Sequence[Trial], sweep: Sweep) -> bytes:
    """Return a PNG of the trials that count, of which one at least is complete."""
    from matplotlib.figure import Figure

    best, *_ = ranked(trials)
    shown = [trial for trial in trials if trial.counted]
    floor = _floor(shown)
    rows = math.ceil(len(sweep.space) / COLUMNS)
    figure = Figure(figsize=(12, 3.6 + 2.8 * rows), dpi=100, layout="constrained")
    grid = figure.add_gridspec(rows + 1, COLUMNS)

    over = figure.add_subplot(grid[0, :])
    _dots(over, [trial.number for trial in shown], shown, floor)
    complete = [trial for trial in shown if trial.accuracy is not None]
    so_far = list(accumulate((max(_percent(trial), floor) for trial in complete), max))
    over.step([trial.number for trial in complete], so_far, where="post", color=COLORS["best"], label="best so far")
    over.plot(best.number, _percent(best), "*", color=COLORS["best"], markersize=12, label=f"best: trial {best.number}")
    over.set(xlabel="trial", ylabel="right, % of the images held out")
    over.locator_params(axis="x", integer=True)
    for place, setting in enumerate(sweep.space):
        axes = figure.add_subplot(grid[1 + place // COLUMNS, place % COLUMNS])
        _against(axes, setting, shown, best, floor)
    for axes in figure.axes:
        axes.set_ylim(floor - 0.05 * (_percent(best) - floor), _percent(best) + 0.1 * (_percent(best) - floor))
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*over.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=6)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _percent(trial: Trial) -> float:
    """Return the accuracy a trial ended with; that of one with none is 0."""
    return 100 * (trial.accuracy if trial.accuracy is not None else trial.last or 0.0)


def _floor(shown: Sequence[Trial]) -> float:
    """Return where the axes begin: what counts is among the good ones, however bad the worst are."""
    reached = [_percent(trial) for trial in shown if trial.accuracy is not None]
    return max(min(map(_percent, shown)) - 0.01, max(reached) - ROOM * max(max(reached) - median(reached), 0.01))


def _dots(axes: "Axes", places: Sequence[float], shown: Sequence[Trial], floor: float) -> None:
    """Draw a mark for each trial; those below the floor on it."""
    marks: dict[str, list[tuple[float, float]]] = {"complete": [], "given up": [], "below the axis": []}
    for place, trial in zip(places, shown, strict=True):
        height = _percent(trial)
        kind = "complete" if trial.outcome == "complete" else "given up"
        marks[kind if height > floor else "below the axis"].append((place, max(height, floor)))
    for (kind, points), marker, face in zip(marks.items(), "oov", (None, "none", "none"), strict=True):
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=COLORS[kind], markerfacecolor=face, label=kind, ms=5)


def _against(axes: "Axes", setting: Setting, shown: Sequence[Trial], best: Trial, floor: float) -> None:
    """Draw the accuracies against one setting."""
    if isinstance(setting.space, Choices):
        texts = list(setting.space.values)
        places = [texts.index(trial.drawn[setting.key]) for trial in shown]
        axes.set_xticks(range(len(texts)), texts)
        axes.set_xlim(-0.5, len(texts) - 0.5)
        spot = texts.index(best.drawn[setting.key])
    else:
        places = [trial.drawn[setting.key] for trial in shown]
        spot = best.drawn[setting.key]
        if setting.space.log:
            axes.set_xscale("log")
        elif setting.space.whole:
            axes.locator_params(axis="x", integer=True)
    _dots(axes, places, shown, floor)
    axes.plot(spot, _percent(best), "*", color=COLORS["best"], markersize=12)
    axes.set_xlabel(setting.key)
