"""`lenet sweep`."""

import shlex
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.commands.options import EXIT_CODES, debug_option
from lenet.commands.outputs import write_file
from lenet.errors import LenetError, UsageError

if TYPE_CHECKING:
    from lenet.sweep.definition import Sweep
    from lenet.sweep.study import Study
    from lenet.sweep.worker import Place


@click.command(epilog=EXIT_CODES)
@click.argument("file", metavar="FILE.toml", type=click.Path(path_type=Path))
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    default="sweep",
    show_default=True,
    help="Folder of the sweep; one that is there goes on, and several machines may share it.",
)
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Data set to use instead of MNIST.")
@click.option("--jobs", type=int, metavar="N", help="Trials at a time, each on one thread.  [default: all CPUs]")
@click.option("--backend", metavar="[numpy|numba|cupy]", help="How to compute.  [default: numba]")
@debug_option
def sweep(file: Path, path: Path, data: Path | None, jobs: int | None, backend: str | None) -> int:
    """Search for better settings, judged by training images held out."""
    if find_spec("optuna") is None:
        raise LenetError('lenet sweep searches with Optuna, which is not installed: pip install "optuna>=5.0"')

    from rich.console import Console

    from lenet import terminal
    from lenet.stopping import Stop, stoppable
    from lenet.sweep import report
    from lenet.sweep.definition import read
    from lenet.sweep.trial import ranked
    from lenet.sweep.worker import Place

    wanted = read(file)
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, not {jobs}")
    _refuse_other_folder(path)
    try:
        with stoppable():
            study = _search(wanted, path, Place(data, wanted.validation, backend), jobs)
    except Stop as stop:
        options = {"--path": path, "--data": data, "--jobs": jobs, "--backend": backend}
        given = [str(part) for option, value in options.items() if value for part in (option, value)]
        again = shlex.join(["lenet", "sweep", str(file), *given])
        with suppress(OSError):  # after SIGHUP, the terminal is gone
            click.echo(f"Stopped. {path} keeps every trial that was done. Continue with: {again}", err=True)
        return stop.exit_code
    trials = study.trials()
    if not ranked(trials):
        raise LenetError(f"none of the {len(trials)} trials gave a network; {path / 'trials.csv'} says why")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    report.show(console, trials, wanted)
    click.echo()
    click.echo(
        terminal.aligned(
            {
                "saved": f"{path}  (best.toml, trials.csv, sweep.png)",
                "next": f"lenet train --settings {shlex.quote(str(path / 'best.toml'))}",
            }
        )
    )
    return 0


def _refuse_other_folder(path: Path) -> None:
    """Raise unless ``path`` is the folder of a sweep, or free to become one."""
    from lenet.sweep.machines import FOLDER
    from lenet.sweep.study import JOURNAL

    try:
        names = {file.name for file in path.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise LenetError(f"{path} is not a folder; choose another --path") from error
    except OSError as error:
        raise LenetError(f"{path}: {error.strerror}; choose another --path") from error
    if names and not names & {FOLDER, JOURNAL}:
        raise LenetError(f"{path} is not empty and holds no sweep; choose another --path")


def _search(wanted: "Sweep", path: Path, place: "Place", jobs: int | None) -> "Study":
    """Run or continue a sweep, and write what it has found, whatever ends it."""
    from rich.console import Console

    from lenet.backends import select
    from lenet.kernels.cpu.cpus import usable
    from lenet.stopping import held_back
    from lenet.sweep.machines import present
    from lenet.sweep.search import Search
    from lenet.sweep.study import Study
    from lenet.sweep.worker import load

    select("cpu" if place.backend is None else "auto", place.backend, threads=1)
    dataset = load(place)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        with present(path) as presence:
            with held_back():
                study = Study(path, wanted, dataset.sha256, presence)
            jobs = jobs or wanted.jobs or usable()
            click.echo(
                f"sweep     {wanted.trials} trials, {study.counted} done · {', '.join(s.name for s in wanted.space)}\n"
                f"data      {dataset.name} · {len(dataset.train_labels):,} training · {wanted.validation:,} held out\n"
                f"trial     {wanted.seeds} seed{'s' if wanted.seeds > 1 else ''} · {jobs} at a time, a thread each"
            )
            try:
                Search(wanted, study, presence, place, jobs, console.print).run()
            finally:
                with held_back():
                    _write(path, study, wanted)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LenetError(f"cannot save in {path}: {error.strerror or error}") from error
    return study


def _write(path: Path, study: "Study", wanted: "Sweep") -> None:
    """Write what has been found so far."""
    from lenet.sweep import chart, report
    from lenet.sweep.trial import ranked

    trials = study.trials()
    write_file(path / "trials.csv", report.to_csv(trials, wanted))
    if best := ranked(trials):
        write_file(path / "best.toml", report.best_toml(best[0], study.counted, wanted))
        write_file(path / "sweep.png", chart.draw(trials, wanted))
