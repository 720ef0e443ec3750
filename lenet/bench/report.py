"""What `lenet bench` prints: tables, a CSV file, and what has changed since an earlier run."""

import csv
import io
from collections.abc import Sequence
from math import log
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lenet.bench.ceilings import SIZES, Roofline, ceiling_names
from lenet.bench.measure import Report
from lenet.bench.primitives import BACKWARD, FORWARD
from lenet.bench.work import BATCH_SIZE, BATCHES, EPOCHS, KINDS, SCANNED, STEP, TOLERANCE, Result, Work
from lenet.terminal import clock

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
    """Print two tables: what a training takes, and how many images a second there are."""
    there = [result for result in report.results if result.samples]
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
        works = [Work(kind, batch) for kind in KINDS for batch in BATCHES]
        table = _table(console, "images a second", *(f"{work.kind}, batch {work.batch:,}" for work in works))
        for result in there:
            table.add_row(result.name, *(_rate(result, work) for work in works))
        console.print(table)
        console.print()
    _remarks(console, report)


def _remarks(console: Console, report: Report) -> None:
    """Print a line for each contender that is not in the tables, and whether the machine was disturbed."""
    for result in report.results:
        if result.problem:
            console.print(f"{result.name}: {result.problem}", highlight=False)
        elif not result.agrees:
            console.print(f"{result.name}: its losses are off by more than {TOLERANCE:g}, so its speed means nothing")
    if report.others is not None and report.others > DISTURBED:
        console.print(
            f"Other programs used {report.others:.1f} cores meanwhile: all is slower than it can be, "
            "what runs on several threads most."
        )


# primitives and ceilings ---------------------------------------------------------------------------------------------


def show_primitives(console: Console, report: Report) -> None:
    """Print, for each backend, what every primitive takes, beside the least that the machine allows."""
    for result in report.results:
        if result.amounts and not result.problem:
            _show_roofline(console, result, [other for other in report.results if other.backend == result.backend])
    _remarks(console, report)


def _show_roofline(console: Console, result: Result, executors: Sequence[Result]) -> None:
    calls = {name: BATCH_SIZE * (result.seconds(Work(name, BATCH_SIZE)) or 0) for name in result.amounts}
    roofline = Roofline({name: max(result.amounts[name]) / calls[name] for name in ceiling_names()})
    named = [name for name in result.amounts if name not in ceiling_names()]
    bare = [name.removesuffix(f" {FORWARD}").removesuffix(f" {BACKWARD}") for name in named]
    columns = [column for way in (FORWARD, BACKWARD) for column in (f"{way}, us", "GFLOP/s", "GB/s", "share")]
    table = _table(console, f"batch {BATCH_SIZE}", *columns)

    def cells(name: str) -> list[str]:
        if name not in calls:
            return [""] * 4
        (operations, traffic), seconds = result.amounts[name], calls[name]
        rates = f"{1e-9 * operations / seconds:,.1f}" if operations else "-", f"{1e-9 * traffic / seconds:,.1f}"
        return [f"{1e6 * seconds:,.1f}", *rates, f"{roofline.seconds(operations, traffic) / seconds:.0%}"]

    for name in dict.fromkeys(bare):
        first = name if name in calls else f"{name} {FORWARD}"
        table.add_row(name, *cells(first), *cells(f"{name} {BACKWARD}"))
    console.print(f"{result.name}: every primitive by itself, and its share of what the machine allows")
    console.print(table)
    operations = sum(result.amounts[name][0] for name in named)
    least = sum(roofline.seconds(*result.amounts[name]) for name in named)
    console.print(
        f"All of it {1e6 * sum(calls[name] for name in named):,.0f} us, the ceilings allow {1e6 * least:,.0f} us: "
        f"{1e-9 * roofline.operations:,.0f} GFLOP/s of multiply-adds, "
        + ", ".join(f"{1e-9 * roofline.bytes(size):,.0f} GB/s of {_size(size)}" for size in (SIZES[0], SIZES[-1]))
    )
    for other in executors:
        step = other.seconds(STEP)
        if step:
            share = operations / (BATCH_SIZE * step) / roofline.operations
            console.print(
                f"A training step of {other.name}: {1e6 * BATCH_SIZE * step:,.0f} us, {share:.0%} of the multiply-adds"
            )
    console.print()


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"


# batch sizes ---------------------------------------------------------------------------------------------------------


def show_scan(console: Console, report: Report) -> None:
    """Print images a second at each batch size, and where one contender overtakes another."""
    there = [result for result in report.results if result.agrees and result.samples]
    for kind, title in zip(KINDS, ("training, images a second", "answers, images a second"), strict=True):
        table = _table(console, title, *(result.name for result in there))
        for batch in SCANNED:
            rates = [result.seconds(Work(kind, batch)) for result in there]
            best = min(filter(None, rates), default=None)
            cells = ("-" if rate is None else f"{'[b]' if rate == best else ''}{1 / rate:,.0f}" for rate in rates)
            table.add_row(f"batch {batch:,}", *cells)
        console.print(table)
        for line in overtakings(there, kind):
            console.print(line)
        console.print()
    _remarks(console, report)


def overtakings(results: Sequence[Result], kind: str) -> list[str]:
    """Say at which batch size one contender overtakes another, both before and after by more than the noise."""
    lines = []
    for slower in results:
        for faster in results:
            gains = [_gain(faster, slower, Work(kind, batch)) for batch in SCANNED]
            below = max((i for i, gain in enumerate(gains) if gain < 0), default=None)
            above = [i for i, gain in enumerate(gains) if gain > 0 and below is not None and i > below]
            if above:
                lines.append(f"{faster.name} overtakes {slower.name} at batch {SCANNED[above[0]]:,}")
    return lines


def _gain(result: Result, other: Result, work: Work) -> int:
    """Return 1 where a contender is faster than another, -1 where it is slower, 0 where that is not certain."""
    mine, its = result.seconds(work), other.seconds(work)
    if mine is None or its is None:
        return 0
    noise = NOISE * max((result.spread(work) or 0) + (other.spread(work) or 0), 0.01)
    return 0 if abs(log(its / mine)) <= noise else 1 if mine < its else -1


# files and earlier runs ----------------------------------------------------------------------------------------------


def to_csv(results: Sequence[Result]) -> str:
    """Return one line for each contender and work: median and spread of the seconds an image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["backend", "executor", "threads", "work", "seconds_an_image", "spread", "turns"])
    for result in results:
        for title, samples in result.samples.items():
            middle = median(samples)
            spread = median(abs(sample - middle) for sample in samples)
            numbers = f"{middle:.6g}", f"{spread:.3g}", len(samples)
            writer.writerow([result.backend, result.executor, result.threads or "", title, *numbers])
    return text.getvalue()


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["backend"], entry["executor"], entry.get("threads")


def compare(console: Console, results: Sequence[Result], old: dict[str, Any]) -> None:
    """Print what has changed since ``old``, the document of an earlier run, by more than the noise of both."""
    before = {_key(entry): entry["samples"] for entry in old["results"]}
    table = _table(console, f"since {old['date']}", "work", "before", "now", "times as fast", "")
    for result in results:
        for title, samples in result.samples.items():
            earlier = before.get(result.key, {}).get(title)
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
