"""The three things that `lenet bench` can measure, and how each is shown."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from lenet.bench import report
from lenet.bench.measure import Report, Tell, measure, measure_primitives, scan
from lenet.bench.work import Effort


@dataclass(frozen=True)
class Mode:
    """One of them: what measures it and shows it, and how long it takes, in full and as a rehearsal."""

    measure: Callable[[Effort, int | None, Tell], Report]
    show: Callable[[Console, Report], None]
    full: Effort
    quick: Effort


PLAIN = Mode(measure, report.show, Effort(0.2, 3, sittings=3), Effort(0.03, 3))
LAYERS = Mode(measure_primitives, report.show_primitives, Effort(0.05, 7), Effort(0.01, 3))
SCAN = Mode(scan, report.show_scan, Effort(0.1, 3), Effort(0.005, 3))
