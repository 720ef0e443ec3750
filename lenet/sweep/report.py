"""What a sweep prints and writes: a line a trial, the table of the best, ``trials.csv`` and ``best.toml``."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lenet.sweep.definition import Setting, Sweep
from lenet.sweep.trial import Trial, ranked
from lenet.terminal import clock, percent

SHOWN = 10


def progress(trials: Sequence[Trial], number: int, sweep: Sweep) -> str:
    """Return the line of a trial that has ended."""
    counted = sum(trial.counted for trial in trials)
    trial = trials[number]
    match trial.outcome:
        case "complete":
            reached = f"{percent(trial.accuracy)}{_plus_minus(trial)}"
        case "pruned":
            reached = f"given up at {percent(trial.last)} after epoch {trial.epochs}"
        case _:
            reached = trial.note
    best = next((f"best {percent(best.accuracy)} (trial {best.number})" for best in ranked(trials)), "")
    drawn = "  ".join(f"{setting.name} {_text(setting, trial)}" for setting in sweep.space)
    parts = (f"{counted:>4}/{sweep.trials}", f"trial {number}", reached, best, clock(trial.seconds or 0.0), drawn)
    return "   ".join(filter(None, parts))


def show(console: Console, trials: Sequence[Trial], sweep: Sweep) -> None:
    """Print the table of the best trials."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    searched = [setting.name for setting in sweep.space]
    for name in ("trial", *searched, "validation", "spread", "epochs run", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in ranked(trials)[:SHOWN]:
        table.add_row(
            str(trial.number),
            *(_text(setting, trial) for setting in sweep.space),
            percent(trial.accuracy),
            percent(trial.spread),
            str(trial.epochs),
            f"{trial.seconds or 0.0:.1f}",
        )
    console.print(table)


def to_csv(trials: Sequence[Trial], sweep: Sweep) -> bytes:
    """Return a line for each trial, those that do not count too."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    keys = [setting.key for setting in sweep.space]
    rows.writerow(
        ["trial", "outcome", *keys, "validation_accuracy", "spread", "last", "epochs", "seconds", "machine", "note"]
    )
    for trial in trials:
        values = [_text(setting, trial) for setting in sweep.space]
        reached = (trial.accuracy, trial.spread, trial.last, trial.epochs, trial.seconds)
        rows.writerow([trial.number, trial.outcome, *values, *reached, trial.machine, trial.note])
    return text.getvalue().encode()


def best_toml(best: Trial, counted: int, sweep: Sweep) -> bytes:
    """Return the settings of the best trial, as ``lenet train --settings`` takes them."""
    head = (
        f"# The best of {counted} trials of a sweep, trial {best.number}: {percent(best.accuracy)}{_plus_minus(best)} "
        f"on {sweep.validation:,} training images held out,\n"
        f"# {len(best.accuracies)} seed{'s' if len(best.accuracies) > 1 else ''}. It was chosen for this figure, which "
        "is therefore a little too high.\n\n"
    )
    return (head + sweep.settings(best.drawn).to_toml()).encode()


def _plus_minus(trial: Trial) -> str:
    return "" if trial.spread is None else f" ± {percent(trial.spread)}"


def _text(setting: Setting, trial: Trial) -> str:
    """Return the value that a trial has for a setting; nothing where it ended before it was drawn."""
    return str(_value(setting, trial)) if setting.key in trial.drawn else ""


def _value(setting: Setting, trial: Trial) -> Any:
    drawn: Any = trial.drawn[setting.key]
    return setting.space.value(drawn)
