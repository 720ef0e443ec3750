"""`lenet train`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet.commands.inputs import load_data, select_backend
from lenet.commands.options import EXIT_CODES, debug_option, device_options
from lenet.commands.studio import Place, serving_options, watch_page
from lenet.errors import LenetError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from lenet.data import Dataset
    from lenet.distillation import Teachers
    from lenet.executors import Executor
    from lenet.settings import Settings
    from lenet.storage import Description, Saved

PREPARING = "preparing the kernels (compiled once, then cached) ..."
SLOW_START = 4.0  # seconds after which the user is told that it was the compiler, and only this time


@click.command(epilog=EXIT_CODES)
@click.option(
    "--path", type=click.Path(path_type=Path), default="network", show_default=True, help="Folder to save in."
)
@device_options
@click.option("--epochs", type=int, metavar="N", help="Passes over the training images.  [default: 20]")
@click.option("--optimizer", metavar="[adam|momentum|gd]", help="Update rule.  [default: adam]")
@click.option("--lr", type=float, metavar="RATE", help="Learning rate, at its highest.  [default: 0.01]")
@click.option("--schedule", metavar="[constant|cosine|one_cycle]", help="Its course.  [default: constant]")
@click.option("--batch-size", type=int, metavar="N", help="Images a step.  [default: 64]")
@click.option("--seed", type=int, metavar="N", help="Decides everything random.  [default: 1]")
@click.option("--no-distort", is_flag=True, help="Train on the images as they are, not moved or turned.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Data set to use instead of MNIST.")
@click.option("--settings", "recipe", metavar="NAME|FILE.toml", help="Start from this recipe or file of settings.")
@click.option("--validation", type=int, metavar="N", help="Hold N training images out, to choose by.  [default: 0]")
@click.option("--resume", is_flag=True, help="Continue the run saved in --path.")
@click.option("--overwrite", is_flag=True, help="Replace the network saved in --path.")
@click.option("--print-settings", is_flag=True, help="Print all settings as a commented TOML file and stop.")
@click.option("--watch", is_flag=True, help="Show curves and kernels live in the browser.")
@serving_options
@debug_option
def train(
    path: Path,
    device: str | None,
    backend: str | None,
    threads: int | None,
    data: Path | None,
    recipe: str | None,
    validation: int | None,
    resume: bool,
    overwrite: bool,
    print_settings: bool,
    watch: bool,
    host: str,
    port: int,
    no_browser: bool,
    **options: Any,
) -> int:
    """Train a network and save it."""
    from contextlib import nullcontext

    from lenet import storage
    from lenet.lock import locked
    from lenet.settings import Settings, load
    from lenet.stopping import Stop, stoppable

    if resume and (overwrite or recipe):
        raise UsageError("--resume continues a saved run; it does not go with --overwrite or --settings")
    try:
        with stoppable(), nullcontext() if print_settings else locked(path):
            saved = storage.load(path, with_state=True) if resume else None
            if saved:
                settings, held_out = _resumed_settings(saved, options), saved.description.validation_images
                if validation is not None and validation != held_out:
                    raise UsageError(f"--resume: the run holds {held_out} images out; that stays")
            else:
                settings, held_out = _override(load(recipe) if recipe else Settings(), options), validation or 0
            if print_settings:
                click.echo(settings.to_toml(), nl=False)
                return 0
            if not resume and not overwrite:
                _refuse_to_overwrite(path)
            place = Place(host, port, browser=not no_browser) if watch else None
            return _train(path, settings, saved, overwrite, device, backend, threads, data, held_out, place)
    except Stop as stop:
        click.echo("Stopped.", err=True)
        return stop.exit_code


def _override(settings: "Settings", options: dict[str, Any]) -> "Settings":
    """Return the settings with what the command line says instead."""
    settings = settings.override(
        "training",
        epochs=options["epochs"],
        optimizer=options["optimizer"],
        learning_rate=options["lr"],
        schedule=options["schedule"],
        batch_size=options["batch_size"],
        seed=options["seed"],
    )
    return settings.undistorted() if options["no_distort"] else settings


def _resumed_settings(saved: "Saved", options: dict[str, Any]) -> "Settings":
    """Return the saved settings, perhaps for more epochs; nothing else may change within a run."""
    before, done = saved.description.settings, len(saved.history)
    settings = _override(before, options)
    if settings.override("training", epochs=before.training.epochs) != before:
        raise UsageError("--resume continues with the saved settings; only --epochs can change")
    if settings.training.epochs < done:
        raise UsageError(f"--epochs {settings.training.epochs}: the saved run has {done} epochs already")
    return settings


def _refuse_to_overwrite(path: Path) -> None:
    """Raise unless the folder ``path`` is free to be written."""
    from lenet import storage

    if storage.is_network(path):
        raise LenetError(f"{path} holds a network already; --resume continues it, --overwrite replaces it")
    if not storage.is_free(path):
        raise LenetError(f"{path} is not empty and holds no network; choose another --path, or --overwrite to add one")


def _train(
    path: Path,
    settings: "Settings",
    saved: "Saved | None",
    overwrite: bool,
    device: str | None,
    backend_name: str | None,
    threads: int | None,
    data: Path | None,
    validation: int,
    watched_at: "Place | None",
) -> int:
    """Train with the settings at hand, report, and return the exit code."""
    import time
    from contextlib import closing, nullcontext, suppress

    import numpy as np
    from rich.console import Console

    from lenet import terminal, training
    from lenet.data import hold_out
    from lenet.executors import choose
    from lenet.executors.check import self_check
    from lenet.lenet5 import lenet5
    from lenet.stopping import Stop

    started = time.monotonic()
    if saved and device is None and backend_name is None:
        backend_name = saved.description.backend
    dataset = load_data(data, saved)
    if saved and dataset.sha256 != saved.description.dataset_sha256:
        raise LenetError(
            f"--resume: {dataset.name} is not the data set that {path} was trained on ({saved.description.dataset})"
        )
    if validation:
        dataset = hold_out(dataset, validation)
    network = lenet5(settings.network, dataset.height, dataset.width, dataset.classes)
    backend = select_backend(device, backend_name, threads)
    executor = choose(network, backend, settings.training.rule(), averaging=settings.training.average > 0)
    description = training.describe(settings, dataset, executor)
    done, last = len(saved.history) if saved else 0, settings.training.epochs
    if done == last:
        click.echo(
            f"{path} is trained: all {last} epochs are done. More: lenet train --resume --path {path} --epochs N"
        )
        return 0
    click.echo(terminal.header(description, network.size, len(dataset.test_labels)))

    console = Console(stderr=True)
    preparing = time.monotonic()
    with console.status(PREPARING):
        self_check(executor, distorted=settings.distortion.active)
    seconds = time.monotonic() - preparing
    if seconds > SLOW_START:
        kept = "kept for later runs, if a folder can be written"
        console.print(f"kernels   compiled in {seconds:.0f} s; {kept}", highlight=False)
    lines = terminal.EpochLines(
        console, len(dataset.train_labels), done + 1, last, validation=len(dataset.validation_labels) > 0
    )
    record, trained = None, 0.0
    np.seterr(over="ignore", invalid="ignore")  # a run that diverges is told by its cost, in one line
    page = watch_page(watched_at, path, description, dataset, executor, saved) if watched_at else nullcontext()
    try:
        teachers = _teachers(path, description, executor, dataset, console, saved is not None, overwrite)
        with page as view, lines:

            def watch(images: int, cost: float) -> None:
                lines.watch(images, cost)
                if view:
                    view.watch(images, cost)

            run = training.train(executor, dataset, path, description, resume=saved, teachers=teachers, watch=watch)
            with closing(run):  # else its last save would be the garbage collector's, which can only print what fails
                for record in run:
                    lines.finish(record)
                    if view:
                        view.finish(record)
                    trained += record.seconds
                    if training.on_plateau(record, dataset.classes):
                        lines.warn(
                            "still no better than chance; another --seed, a lower --lr or a longer warmup may help"
                        )
    except Stop as stop:
        with suppress(OSError):  # after SIGHUP, the terminal is gone
            click.echo(_stopped(path, description, resumed=saved is not None), err=True)
        return stop.exit_code
    assert record is not None, "there was at least one epoch to train"
    click.echo(
        terminal.aligned(
            {
                "test": f"{terminal.percent(record.test_accuracy)} of {len(dataset.test_labels):,} test images right",
                "time": f"{trained:.1f} s of training, {time.monotonic() - started:.1f} s in all",
                "saved": f"{path}  (network.json, weights, history.csv, curves.png)",
                "next": f"lenet test --path {path}",
            }
        )
    )
    return 0


def _teachers(
    path: Path,
    description: "Description",
    executor: "Executor",
    dataset: "Dataset",
    console: "Console",
    resumed: bool,
    overwrite: bool,
) -> "Teachers | None":
    """Return the teachers of the network, after training what is not trained yet; None where it has none."""
    import time
    from contextlib import closing

    from lenet import storage, terminal, training
    from lenet.distillation import Teachers, find_teacher, teacher_description, teacher_folder

    wanted = description.settings.distillation
    if not wanted.teachers:
        return None
    weights = []
    for number in range(1, wanted.teachers + 1):
        folder, started, saved = teacher_folder(path, number), time.monotonic(), None
        try:
            saved = find_teacher(path, number, description, resumed=resumed)
        except LenetError:
            if not overwrite:
                raise
        own = saved.description if saved else teacher_description(description, number)
        done, last = len(saved.history) if saved else 0, own.settings.training.epochs
        name, how = f"teacher   {number} of {wanted.teachers}", "found"
        if done < last:
            bar = terminal.TeacherBar(console, name, len(dataset.train_labels), done + 1, last)
            run = training.train(executor, dataset, folder, own, resume=saved, watch=bar.watch)
            with bar, closing(run):
                for record in run:
                    bar.finish(record)
            how = f"in {terminal.clock(time.monotonic() - started)}"
        saved = storage.load(folder)
        record = saved.history[-1]
        reached = f"{terminal.percent(record.test_accuracy)} of the test images right"
        terminal.show(console, f"{name} · {last} epochs · {reached} · {how}")
        if training.on_plateau(record, dataset.classes):
            terminal.warn(console, "this teacher is no better than chance; another --seed or a longer warmup may help")
        weights.append(saved.weights)
    with console.status(PREPARING):
        return Teachers(executor.network, executor.backend, weights, wanted.temperature)


def _stopped(path: Path, description: "Description", *, resumed: bool) -> str:
    """Return the line that ends a run which was stopped: what the folder holds, as it is found there."""
    from lenet import storage

    if storage.is_network(path):
        found = storage.load(path)
        if resumed or found.description == description:  # else it is the network that would have been replaced
            again = shlex.join(["lenet", "train", "--resume", "--path", str(path)])
            return f"Stopped. {path} holds epoch {len(found.history)}. Continue: {again}"
    if (path / storage.TEACHERS).is_dir():
        return f"Stopped. {path / storage.TEACHERS} holds what is done. Continue: the same command once more"
    return "Stopped. No epoch was finished; nothing was written."
