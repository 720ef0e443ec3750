"""How `peers.py` tells its results: tables for the terminal, and a chart."""

import textwrap
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot

FUSED_COLOR, LENET_COLOR, OTHER_COLOR = "#0b6e6e", "#8fbfbd", "#bcc3c9"
BEST = "lenet numba fused"
COLUMNS = 2  # of panels
WIDTH = 100  # of the tables


def print_errors(errors: dict[str, dict[str, float]], reference: str, tolerance: float) -> None:
    """Print how far each contender is off the reference."""
    columns = list(next(iter(errors.values()), {}))
    print(f"\nRelative error against {reference}, at most {tolerance:.0e}; weights after 1 and 20 steps of Adam")
    print(f"{'':24}" + "".join(f"{column:>14}" for column in columns))
    for name, row in errors.items():
        verdict = "" if all(error <= tolerance for error in row.values()) else "  WRONG, left out"
        print(f"{name:24}" + "".join(f"{row[column]:14.1e}" for column in columns) + verdict)


def spread(values: list[float], digits: int) -> str:
    """Return ``median [min - max]``."""
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f} - {max(values):,.{digits}f}]"


def ratios(case: dict[str, Any]) -> tuple[str, dict[str, list[float]]]:
    """Return the first contender, and how many times as fast each one is, round by round."""
    samples: dict[str, list[float]] = case["seconds_a_call"]
    base = next(iter(samples))
    return base, {name: [b / s for b, s in zip(samples[base], row, strict=True)] for name, row in samples.items()}


def speeds(case: dict[str, Any]) -> dict[str, list[float]]:
    """Return images a second, or for a latency microseconds a call, of each contender."""
    batch = case["case"]["batch"]
    samples: dict[str, list[float]] = case["seconds_a_call"]
    if case["latency"]:
        return {name: [1e6 * seconds for seconds in row] for name, row in samples.items()}
    return {name: [batch / seconds for seconds in row] for name, row in samples.items()}


def print_case(case: dict[str, Any], operations: int) -> None:
    """Print one table: speed, ratio to the first contender and, of training, share of the peak."""
    base, factors = ratios(case)
    peak = case["peak_operations_a_second"]
    unit, digits = ("us a call", 1) if case["latency"] else ("images/s", 0)
    print(f"\n{case['title']}: median [min - max]")
    print(f"{'':24}{unit:>32}{'times ' + base:>30}" + ("   of FMA peak" if peak else ""))
    for name, row in speeds(case).items():
        share = ""
        if peak:
            share = f"{100 * median(rate * operations / top for rate, top in zip(row, peak, strict=True)):.0f} %"
        remark = case["remarks"][name]
        print(f"{name:24}{spread(row, digits):>32}{spread(factors[name], 2):>30}{share or remark:>14}".rstrip())
    if peak:
        threads = case["case"]["threads"]
        cores = "one core" if threads == 1 else f"{threads} cores together"
        print(f"FMA peak of {cores}: {spread([top / 1e9 for top in peak], 0)} GFLOP/s; ", end="")
        print(f"{operations / 1e6:.3f} MFLOP an image")
    _print_times_as_fast(case["seconds_a_call"])
    idle, others = case["cores_used_by_waiting_workers"], case["cores_used_by_other_programs"]
    print(f"Meanwhile: waiting workers used {idle:.2f} cores, other programs {others:.2f}")


def _print_times_as_fast(samples: dict[str, list[float]]) -> None:
    """Print how the fused executor compares with each of the other libraries."""
    others = {name: row for name, row in samples.items() if not name.startswith("lenet")}
    if BEST in samples and others:
        times = (
            f"{median(theirs / ours for theirs, ours in zip(row, samples[BEST], strict=True)):.2f} x {name}"
            for name, row in others.items()
        )
        print(textwrap.fill(f"{BEST} = {', '.join(times)}", WIDTH))


def print_training(training: dict[str, Any], whole: int) -> None:
    """Print the seconds of the default training, and say so where only a part of it was run."""
    epochs: dict[str, list[dict[str, float]]] = training["epochs"]
    if not epochs:
        return
    count, threads = len(next(iter(epochs.values()))), training["threads"]
    scaled = f", SCALED from {count} epochs" if count < whole else ""
    print(f"\nDefault training, {max(count, whole)} epochs, {threads} thread{'s' * (threads > 1)}{scaled}")
    print(f"{'':24}{'seconds':>12}{'an epoch: median [min - max]':>34}{'times as fast':>15}{'cost':>8}{'test':>7}")
    base = None
    for name, row in epochs.items():
        seconds = [epoch["seconds"] for epoch in row]
        total = sum(seconds) * max(1.0, whole / count)
        base = base or total
        cost, test = row[-1]["cost"], 100 * row[-1]["test_accuracy"]
        print(f"{name:24}{total:12.1f}{spread(seconds, 2):>34}{base / total:15.2f}{cost:8.4f}{test:7.2f}")


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw a panel of horizontal bars for each case, with the ratio to the first contender at the end of each bar."""
    cases = document["cases"]
    rows = -(-len(cases) // COLUMNS)
    bars = max(len(case["seconds_a_call"]) for case in cases)
    figure, panels = pyplot.subplots(
        rows, COLUMNS, figsize=(11, (0.9 + 0.3 * bars) * rows + 0.9), squeeze=False, layout="constrained"
    )
    for case, panel in zip(cases, panels.flat, strict=False):
        _draw_case(panel, case)
    for panel in panels.flat[len(cases) :]:
        panel.set_axis_off()
    figure.suptitle(f"LeNet-5 on a CPU: {document['machine']['processor']}", fontsize=13, fontweight="bold")
    figure.supxlabel(
        f"median of {document['rounds']} interleaved rounds, whiskers from the slowest to the fastest; "
        "at the bars: how many times as fast as the first",
        fontsize=9,
        color="#555555",
    )
    figure.savefig(file, dpi=150, facecolor="white")
    pyplot.close(figure)


def _draw_case(panel: Any, case: dict[str, Any]) -> None:
    names, found, (_, factors) = list(case["seconds_a_call"]), speeds(case), ratios(case)
    thousands = 1 if case["latency"] else 1000
    middle = [median(found[name]) / thousands for name in names]
    low = [m - min(found[name]) / thousands for m, name in zip(middle, names, strict=True)]
    high = [max(found[name]) / thousands - m for m, name in zip(middle, names, strict=True)]
    colors = [
        FUSED_COLOR if name == BEST else LENET_COLOR if name.startswith("lenet") else OTHER_COLOR for name in names
    ]
    panel.barh(names, middle, height=0.68, color=colors, xerr=(low, high), error_kw={"lw": 0.8, "ecolor": "#555555"})
    longest = max(m + h for m, h in zip(middle, high, strict=True))
    for place, (name, m, h) in enumerate(zip(names, middle, high, strict=True)):
        value = f"{m:,.0f}" if m >= 100 else f"{m:,.1f}"
        factor = median(factors[name])
        weight = "bold" if name == BEST else "normal"
        label = f"{factor:.{int(factor < 10)}f}x  ({value}{'' if case['latency'] else 'k'})"
        panel.text(m + h + 0.015 * longest, place, label, va="center", fontsize=8.5, fontweight=weight)
    panel.invert_yaxis()
    panel.set_xlim(0, 1.27 * longest)
    panel.set_title(case["title"], fontsize=10.5, loc="left", fontweight="bold")
    panel.set_xlabel(
        "microseconds a call, less is better" if case["latency"] else "thousand images a second", fontsize=8.5
    )
    panel.tick_params(axis="y", length=0, labelsize=9)
    panel.tick_params(axis="x", labelsize=8.5, color="#999999")
    panel.grid(axis="x", color="#e5e8ea", lw=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
