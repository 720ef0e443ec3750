"""What a sweep searches: a TOML file, read and checked."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from lenet.errors import UsageError, shown
from lenet.files import open_plain
from lenet.settings import MAX_SEED, DistillationSettings, Settings, load

MAX_TRIALS = 1_000_000
DIGITS = 6
"""Significant digits of a number that is drawn from a range: what is trained is what ``best.toml`` says."""


@dataclass(frozen=True)
class Range:
    """All numbers, or every ``step``-th one, from ``low`` to ``high``; ``log``: evenly by their logarithm."""

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def value(self, drawn: float) -> float:
        """Return the value that a setting has where ``drawn`` was drawn."""
        return int(drawn) if self.whole else min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """One of several values, each under the text by which it is drawn."""

    values: Mapping[str, Any]

    def value(self, drawn: str) -> Any:
        """Return the value that a setting has where ``drawn`` was drawn."""
        return self.values[drawn]


@dataclass(frozen=True)
class Setting:
    """A setting that is searched."""

    section: str
    name: str
    space: Range | Choices

    @property
    def key(self) -> str:
        """Section and name."""
        return f"{self.section}.{self.name}"


@dataclass(frozen=True)
class Pruning:
    """When a trial is given up: below the median of the others, once so many have ended and after so many epochs."""

    trials: int = 5
    epochs: int = 3


@dataclass(frozen=True)
class Sweep:
    """A search over settings.

    Attributes
    ----------
    start : the settings that every trial has but for those that are searched
    space : the settings that are searched
    trials : how many shall be tried, on all machines together
    validation : training images held out, whose accuracy decides
    seeds : runs of a trial, with the seeds 1, 2, ...; their mean decides
    seed : decides what is tried
    jobs : trials at a time on a machine; None for one on each CPU
    pruning : None for no trial given up
    """

    start: Settings
    space: tuple[Setting, ...]
    trials: int
    validation: int = 5000
    seeds: int = 1
    seed: int = 1
    jobs: int | None = None
    pruning: Pruning | None = None

    def settings(self, drawn: Mapping[str, Any]) -> Settings:
        """Return the settings of a trial, from what was drawn for each key."""
        settings = self.start
        for setting in self.space:
            settings = settings.override(setting.section, **{setting.name: setting.space.value(drawn[setting.key])})
        return settings

    def identity(self) -> dict[str, Any]:
        """Return, as plain values, what makes trials comparable: all but how many there are and where they run."""
        spaces = {}
        for setting in self.space:
            space = setting.space
            spaces[setting.key] = list(space.values) if isinstance(space, Choices) else vars(space)
        pruning = vars(self.pruning) if self.pruning else None
        return {
            "recipe": self.start.to_dict(),
            "space": spaces,
            "validation": self.validation,
            "seeds": self.seeds,
            "seed": self.seed,
            "pruning": pruning,
        }


def read(file: Path) -> Sweep:
    """Read the file of a sweep.

    Raises
    ------
    UsageError
        When there is no such file, or when it is not valid; in one line that names file and key.
    """
    try:
        with open_plain(file) as stream:
            text = stream.read().decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a UTF-8 text"
        raise UsageError(f"{file}: {reason}; name the TOML file of a sweep") from None
    return parse(text, str(file))


def parse(text: str, where: str) -> Sweep:
    """Return the sweep that a TOML text describes; ``where`` is the file that error messages name.

    Raises
    ------
    UsageError
        When it is not valid.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not a valid TOML file: {error}") from None
    try:
        return _sweep(document)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _sweep(document: dict[str, Any]) -> Sweep:
    _refuse_unknown("the sweep", document, {"recipe", *(field.name for field in fields(Sweep))} - {"start"})
    if "trials" not in document or "space" not in document:
        raise UsageError("a sweep has trials = N and a section [space.training], [space.distortion] or [space.network]")
    highest = {"trials": MAX_TRIALS, "validation": 2**31, "seeds": 1000, "seed": MAX_SEED, "jobs": 4096}
    numbers = {
        name: _whole_number(name, document[name], 0 if name == "seed" else 1, high)
        for name, high in highest.items()
        if name in document
    }
    recipe = document.get("recipe", "default")
    if not isinstance(recipe, str) or "\0" in recipe:
        raise UsageError(f"recipe must be the name of a recipe or of a file of settings, not {shown(recipe)}")
    start = replace(load(recipe), distillation=DistillationSettings())
    pruning = _pruning(document["pruning"]) if "pruning" in document else None
    return Sweep(start=start, space=_space(start, document["space"]), pruning=pruning, **numbers)


def _pruning(table: Any) -> Pruning:
    _refuse_unknown("[pruning]", table, {"trials", "epochs"})
    return Pruning(**{name: _whole_number(f"[pruning] {name}", value, 1, MAX_TRIALS) for name, value in table.items()})


def _space(start: Settings, sections: Any) -> tuple[Setting, ...]:
    known = {name: settings for name, settings in start.to_dict().items() if name != "distillation"}
    _refuse_unknown("[space]", sections, known)
    space = []
    for section, settings in sections.items():
        _refuse_unknown(f"[space.{section}]", settings, known[section])
        kinds = {field.name: field.type for field in fields(getattr(start, section))}
        for name, wanted in settings.items():
            try:
                if (section, name) == ("training", "seed"):
                    raise UsageError("seeds are not searched but averaged over: seeds = N")
                made = _range(kinds[name], wanted) if isinstance(wanted, dict) else _choices(wanted)
                ends = made.values.values() if isinstance(made, Choices) else (made.low, made.high)
                for value in ends:
                    start.override(section, **{name: value})
            except UsageError as error:
                raise UsageError(f"[space.{section}] {name}: {error}") from None
            space.append(Setting(section, name, made))
    if not space:
        raise UsageError("[space] names no setting to search")
    return tuple(space)


def _range(kind: Any, table: dict[str, Any]) -> Range:
    _refuse_unknown("a range", table, {"low", "high", "step", "log"})
    if kind not in (int, float):
        raise UsageError("it is not a number: list its values instead, [a, b]")
    if "low" not in table or "high" not in table:
        raise UsageError("a range needs low and high")
    low, high, step = (_number(name, table.get(name), kind) for name in ("low", "high", "step"))
    log = table.get("log", False)
    if not isinstance(log, bool):
        raise UsageError(f"log must be true or false, not {shown(log)}")
    assert low is not None, "it is in the table"
    assert high is not None, "it is in the table"
    if not low < high:
        raise UsageError(f"low must be below high, not {low:g} and {high:g}")
    if log and low <= 0:
        raise UsageError(f"log needs low above 0, not {low:g}")
    if step is not None and log:
        raise UsageError("log and step do not go together")
    if step is not None and not 0 < step <= high - low:
        raise UsageError(f"step must be above 0 and at most high - low, not {step:g}")
    if step is not None and (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
        raise UsageError(f"steps of {step:g} do not lead from {low:g} to {high:g}")
    return Range(low, high, step, log, whole=kind is int)


def _choices(wanted: Any) -> Choices:
    if not isinstance(wanted, list) or len(wanted) < 2:
        raise UsageError(f"write a range {{low = a, high = b}}, or two or more values [a, b], not {shown(wanted)}")
    values = {_text(value): tuple(value) if isinstance(value, list) else value for value in wanted}
    if len(values) < len(wanted):
        raise UsageError("a value is listed twice")
    return Choices(values)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _number(name: str, value: Any, kind: Any) -> float | None:
    """Return a number of ``kind``, or None where there is none."""
    if value is None:
        return None
    if kind is int:
        return _whole_number(name, value, -(2**53), 2**53)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= 1e38:
        raise UsageError(f"{name} must be a number, not {shown(value)}")
    return float(value)


def _whole_number(name: str, value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}, not {shown(value)}")
    return value


def _refuse_unknown(place: str, table: Any, known: Any) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"{place} is not a section but {shown(table)}")
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise UsageError(f"{place} has no {shown(unknown[0])}; there are {', '.join(sorted(known))}")
