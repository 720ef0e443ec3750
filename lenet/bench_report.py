"""What `lenet bench` shows: tables, a CSV file, a picture, and what has changed since an earlier run."""

import csv
import io
from collections.abc import Sequence
from math import log
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lenet.bench import BATCHES, EPOCHS, TOLERANCE, Report, Result, Work
from lenet.terminal import clock

COLOR, SHADES = "#0b6e6e", (0.35, 0.65, 1.0)  # of the batch sizes
DISTURBED = 0.1  # cores used by other programs, from which on the times are not good
NOISE = 3  # times the spread of both runs, beyond which a difference is called one


def _table(console: Console, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _number(value: float | None, digits: int = 0, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def _rate(result: Result, work: Work) -> str:
    """Return images a second, and the spread."""
    seconds, spread = result.seconds(work), result.spread(work)
    return "-" if seconds is None or spread is None else f"{1 / seconds:,.0f} ±{100 * spread:.0f}%"


def ratio(result: Result, reference: Result) -> float | None:
    """Return how many times as fast an epoch is; None where the results are not the same, or were not measured."""
    if not (result.agrees and result.epoch and reference.epoch):
        return None
    return reference.epoch / result.epoch


def show(console: Console, report: Report) -> None:
    """Print two tables, a line for each contender that is not in them, and whether the machine was disturbed."""
    results = report.results
    there = [result for result in results if result.samples]
    if there:
        table = _table(console, "", "start", "an epoch", "20 epochs", "memory", "times NumPy", "losses differ by")
        for result in there:
            epoch = result.epoch
            times = ratio(result, there[0])
            table.add_row(
                result.name,
                _number(result.start, 1, " s"),
                _number(epoch, 2, " s"),
                "-" if epoch is None else clock(EPOCHS * epoch),
                _number(result.memory and result.memory / 2**20, 0, " MB"),
                "wrong" if not result.agrees else _number(times, 1),
                "-" if result.difference is None else f"{result.difference:.0e}",
            )
        console.print(table)
        console.print()
        works = [Work(kind, batch) for kind in ("train", "answer") for batch in BATCHES]
        table = _table(console, "images a second", *(f"{work.kind}, batch {work.batch:,}" for work in works))
        for result in there:
            table.add_row(result.name, *(_rate(result, work) for work in works))
        console.print(table)
        console.print()
    for result in results:
        if result.problem:
            console.print(f"{result.name}: {result.problem}", highlight=False)
        elif not result.agrees:
            console.print(f"{result.name}: its losses are off by more than {TOLERANCE:g}, so its speed means nothing")
    if report.others is not None and report.others > DISTURBED:
        console.print(
            f"Other programs used {report.others:.1f} cores meanwhile: all is slower than it can be, "
            "what runs on several threads most."
        )


def to_csv(results: Sequence[Result]) -> str:
    """Return one line for each contender and work: median and spread of the seconds an image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["backend", "executor", "work", "seconds_an_image", "spread", "turns"])
    for result in results:
        for title, samples in result.samples.items():
            middle = median(samples)
            spread = median(abs(sample - middle) for sample in samples)
            writer.writerow([result.backend, result.executor, title, f"{middle:.6g}", f"{spread:.3g}", len(samples)])
    return text.getvalue()


def draw(results: Sequence[Result], device: str) -> bytes:
    """Return a PNG, 1200 x 600 pixels: training and answers at each batch size as bars, on a logarithmic axis."""
    from matplotlib.figure import Figure

    there = [result for result in results if result.agrees and result.samples]
    figure = Figure(figsize=(10, 5), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind, title in zip(panels, ("train", "answer"), ("Training steps", "Answers"), strict=True):
        for i, batch in enumerate(BATCHES):
            work = Work(kind, batch)
            rates = [1 / seconds if (seconds := result.seconds(work)) else 0.0 for result in there]
            height = 0.8 / len(BATCHES)
            places = [place - 0.4 + height * (i + 0.5) for place in range(len(there))]
            bars = axes.barh(places, rates, height * 0.9, color=COLOR, alpha=SHADES[i], label=f"batch {batch:,}")
            axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3, fontsize=7)
        axes.set(title=title, xlabel="images a second", xscale="log")
        axes.set_yticks(range(len(there)), [result.name for result in there])
        axes.margins(x=0.2)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.legend(*panels[1].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(BATCHES))
    figure.suptitle(device, fontsize=9)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def compare(console: Console, results: Sequence[Result], old: dict[str, Any]) -> None:
    """Print what has changed since ``old``, the document of an earlier run, by more than the noise of both."""
    before = {(entry["backend"], entry["executor"]): entry["samples"] for entry in old["results"]}
    table = _table(console, f"since {old['date']}", "work", "before", "now", "times as fast", "")
    for result in results:
        for title, samples in result.samples.items():
            earlier = before.get((result.backend, result.executor), {}).get(title)
            if not earlier:
                continue
            middles = median(earlier), median(samples)
            spreads = [median(abs(x - m) for x in row) / m for row, m in zip((earlier, samples), middles, strict=True)]
            times = middles[0] / middles[1]
            noisy = abs(log(times)) <= NOISE * max(sum(spreads), 0.01)
            rates = (f"{1 / middle:,.0f}/s" for middle in middles)
            verdict = "" if noisy else "faster" if times > 1 else "slower"
            table.add_row(result.name, title, *rates, f"{times:.2f}", verdict)
    console.print(table)
