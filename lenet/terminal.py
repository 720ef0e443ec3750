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
    settings = description.settings
    network, training, distortion = settings.network, settings.training, settings.distortion
    held_out = f" · {description.validation_images:,} validation" if description.validation_images else ""
    table = "partial" if network.table == "lecun" else "full"
    rule = f"{training.optimizer} {training.learning_rate:g} {training.schedule.replace('_', '-')}"
    average = f" · average {training.average:g}" if training.average else ""
    teachers = f" · {settings.distillation.teachers} teachers" if settings.distillation.teachers else ""
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
            f"recipe    {rule} · batch {training.batch_size}{average}{teachers} · seed {training.seed}",
            f"distorted {moved}",
            f"device    {description.device} · {description.executor}",
        ]
    )


def show(console: Console, line: str, style: str | None = None) -> None:
    """Print a line as it is."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def warn(console: Console, message: str) -> None:
    """Print a warning."""
    show(console, f"warning: {message}", style="yellow")


def _live_bar(console: Console) -> Progress:
    """Return a bar that is there while something runs, with a description before it and numbers behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10 if console.width < 80 else 20),
        TextColumn("{task.fields[numbers]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        console=console,
        expand=True,
        transient=True,
        disable=not console.is_terminal,
    )


class TeacherBar:
    """A live bar over all epochs of a teacher, from ``first`` to ``last``, where stderr is a terminal.

    Use as a context manager; `watch` is told of progress within an epoch, `finish` of each epoch's result.
    """

    def __init__(self, console: Console, name: str, images: int, first: int, last: int) -> None:
        self._images, self._first, self._epoch, self._last = images, first, first, last
        self._total = (last - first + 1) * images
        self._bar = _live_bar(console)
        self._task = self._bar.add_task(name, total=self._total, numbers="")

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def watch(self, done: int, cost: float) -> None:
        """Show how far the training is: images ``done`` of the epoch and the mean cost of the latest of them."""
        done += (self._epoch - self._first) * self._images
        left = (self._total - done) * (time.monotonic() - self._started) / done
        numbers = f"epoch {self._epoch}/{self._last} · cost {cost:.4f} · left {clock(left)}"
        self._bar.update(self._task, completed=done, numbers=numbers)

    def finish(self, record: EpochRecord) -> None:
        """Go on to the next epoch."""
        self._epoch = record.epoch + 1


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
        self._bar = _live_bar(console)
        self._task = self._bar.add_task("", total=images, numbers="")

    def __enter__(self) -> Self:
        validation = f"{'validation':>12}" if self._validation else ""
        show(
            self._console,
            f"{'epoch':>7} {'rate':>9} {'cost':>8} {'train':>9}{validation} {'test':>9} {'images/s':>9} {'time':>6}",
        )
        self._bar.start()
        self._restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._bar.disable:  # some versions of rich end even a bar that never was with an empty line
            self._bar.stop()

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
        show(
            self._console,
            f"{record.epoch:>3}/{self._last:<3} {record.learning_rate:>9.6f} {record.cost:>8.4f} "
            f"{percent(record.train_accuracy):>9}{validation} {percent(record.test_accuracy):>9} "
            f"{self._images / record.seconds:>9,.0f} {clock(self._finished[-1]):>6}",
        )
        self._epoch += 1
        self._bar.update(self._task, visible=self._epoch <= self._last)
        self._restart()

    def warn(self, message: str) -> None:
        """Print a warning between the lines."""
        warn(self._console, message)


def aligned(rows: dict[str, Any]) -> str:
    """Return names and values as two columns."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
