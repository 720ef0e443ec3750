"""The scripts that turn results into tables: worked by hand, and RECORDS.md held to the files it is made from."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name: str) -> ModuleType:
    """Import a script as it imports itself, from its own folder."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("accuracies", "goal", "seconds"),
    [
        ([0.96, 0.98, 0.99], 0.96, 1.0),
        ([0.96, 0.98, 0.99], 0.97, 3.0),
        ([0.96, 0.98, 0.99], 0.99, 6.0),
        ([0.96, 0.98, 0.99], 0.995, None),
        ([0.98, 0.96, 0.98], 0.97, 6.0),  # reached, lost and reached again
    ],
)
def test_when_an_accuracy_is_reached_for_good(accuracies: list[float], goal: float, seconds: float | None) -> None:
    assert script("time_to_accuracy").reached(accuracies, [1.0, 2.0, 3.0], goal) == seconds


def test_the_records_are_what_the_results_say() -> None:
    written = (BENCHMARKS / "RECORDS.md").read_text(encoding="utf-8")
    assert written == script("records").records(), "run python benchmarks/records.py"
