"""What training looks like in a terminal: a header, one line an epoch, a live bar in between."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from lenet.storage import Description, EpochRecord


def clock(seconds: float) -> str:
    """Return minutes and seconds, 1:05, or hours, 2:00:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(share: float | None) -> str:
    """Return a share as a percentage with two decimals, which is one image in 10 000."""
    return "-" if share is None else f"{100 * share:.2f} %"


def header(description: Description, parameters: int, test_images: int) -> str:
    """Return the lines that say what is about to be trained, on what and how."""
    network, training, distortion = (
        description.settings.network,
        description.settings.training,
        description.settings.distortion,
    )
    held_out = f" · {description.validation_images:,} validation" if description.validation_images else ""
    table = "partial" if network.table == "lecun" else "full"
    rule = f"{training.optimizer} {training.learning_rate:g} {training.schedule.replace('_', '-')}"
    average = f" · average {training.average:g}" if training.average else ""
    smoothing = f" · labels smoothed by {training.label_smoothing:g}" if training.label_smoothing else ""
    moved = (
        f"shift {distortion.shift:g} px · zoom {distortion.zoom:.0%} · rotation {distortion.rotation:g} degrees"
        + (f" · shear {distortion.shear:g}" if distortion.shear else "")
        + (f" · aspect {distortion.aspect:.0%}" if distortion.aspect else "")
        if distortion.active
        else "none"
    )
    return "\n".join(
        [
            f"data      {description.dataset} · {description.train_images:,} training{held_out} · {test_images:,} test",
            f"network   LeNet-5 · {parameters:,} parameters · {network.activation}, {network.pool} pooling, {table} C3",
            f"recipe    {rule} · batch {training.batch_size}{average}{smoothing} · seed {training.seed}",
            f"distorted {moved}",
            f"device    {description.device} · {description.executor}",
        ]
    )


class EpochLines:
    """One line an epoch on stderr and, where stderr is a terminal, a live bar below them.

    Use as a context manager; `watch` is told of progress within an epoch, `finish` of each epoch's result.
    """

    def __init__(self, console: Console, images: int, first: int, last: int, *, validation: bool) -> None:
        self._console = console
        self._images = images
        self._epoch, self._last = first, last
        self._validation = validation
        self._started = time.monotonic()
        self._finished: list[float] = []
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10 if console.width < 80 else 20),
            TextColumn("{task.fields[numbers]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=images, numbers="")

    def __enter__(self) -> Self:
        validation = f"{'validation':>12}" if self._validation else ""
        self._print(
            f"{'epoch':>7} {'rate':>9} {'cost':>8} {'train':>9}{validation} {'test':>9} {'images/s':>9} {'time':>6}"
        )
        self._bar.start()
        self._restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._bar.disable:  # some versions of rich end even a bar that never was with an empty line
            self._bar.stop()

    def _print(self, line: str, style: str | None = None) -> None:
        self._console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

    def _restart(self) -> None:
        self._began = time.monotonic()
        self._bar.reset(self._task, description=f"{self._epoch:>3}/{self._last:<3}", numbers="")

    def watch(self, done: int, cost: float) -> None:
        """Show how far the epoch is: images ``done`` and the mean cost of the latest of them."""
        elapsed = time.monotonic() - self._began
        rate = done / elapsed
        left = (self._images - done) / rate
        whole = sum(self._finished) / len(self._finished) if self._finished else self._images / rate
        run = left + (self._last - self._epoch) * whole
        numbers = f"cost {cost:.4f} · {rate:,.0f} images/s · left {clock(left)}, all {clock(run)}"
        self._bar.update(self._task, completed=done, numbers=numbers)

    def finish(self, record: EpochRecord) -> None:
        """Print the line of an epoch."""
        self._finished.append(time.monotonic() - self._began)
        validation = f"{percent(record.validation_accuracy):>12}" if self._validation else ""
        self._print(
            f"{record.epoch:>3}/{self._last:<3} {record.learning_rate:>9.6f} {record.cost:>8.4f} "
            f"{percent(record.train_accuracy):>9}{validation} {percent(record.test_accuracy):>9} "
            f"{self._images / record.seconds:>9,.0f} {clock(self._finished[-1]):>6}"
        )
        self._epoch += 1
        self._bar.update(self._task, visible=self._epoch <= self._last)
        self._restart()

    def warn(self, message: str) -> None:
        """Print a warning between the lines."""
        self._print(f"warning: {message}", style="yellow")


def aligned(rows: dict[str, Any]) -> str:
    """Return names and values as two columns."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
