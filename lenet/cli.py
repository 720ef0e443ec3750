"""The command line: parse, dispatch, and turn what goes wrong into one line and an exit code.

Only click is imported here; everything else is loaded by the command that needs it, so that ``--help`` answers at once.
"""

import copy
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from lenet import __version__
from lenet.errors import LenetError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet.backends import Backend
    from lenet.data import Dataset
    from lenet.evaluation import Evaluation
    from lenet.executors import Executor
    from lenet.settings import Settings
    from lenet.storage import Description, Saved
    from lenet.studio.server import Server
    from lenet.studio.session import Session
    from lenet.studio.watch import View

INTERRUPTED = 130
ACCURACY_MISSED = 4

SLOW_START = 4.0  # seconds after which the user is told that it was the compiler, and only this time

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = """\b
Exit codes: 0 done; 1 expected failure; 2 wrong usage; 3 the requested device is unusable;
4 --min-accuracy missed; 130 stopped by Ctrl-C (143 by SIGTERM, 129 by SIGHUP), with everything saved.
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows ? for what it lacks
    # Results must not depend on the number of threads, so NumPy's matrix products stay on one. Read at NumPy's import.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(variable, "1")
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(cli.main(args=arguments, prog_name="lenet", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has left, as in `lenet test | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        expected = isinstance(error, LenetError)
        text = str(error) if expected else f"unexpected {type(error).__name__}: {error} (run again with --debug)"
        click.echo("Error: " + " ".join(text.split()), err=True)
        sys.exit(error.exit_code if isinstance(error, LenetError) else 1)


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="lenet %(version)s")
def cli() -> None:
    """LeNet-5 from scratch: train it on handwritten digits, then see what it thinks."""


def debug_option(command: Command) -> Command:
    """Add --debug, which `main` looks for."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails.")(
        command
    )


def device_options(command: Command) -> Command:
    """Add the options that say where to compute."""
    for option in (
        click.option("--threads", type=int, metavar="N", help="CPU threads.  [default: all CPUs]"),
        click.option("--backend", metavar="[numpy|numba|cupy]", help="How to compute; overrides --device."),
        click.option(
            "--device", metavar="[auto|cpu|gpu]", help="Where to compute; auto takes the fastest.  [default: auto]"
        ),
    ):
        command = option(command)
    return command


def serving_options(command: Command) -> Command:
    """Add the options that say where a page is served."""
    for option in (
        click.option("--no-browser", is_flag=True, help="Print the address only; do not open the browser."),
        click.option(
            "--host",
            metavar="ADDRESS",
            default="127.0.0.1",
            show_default=True,
            help="Listen there; for others than this machine, the address gets a secret token.",
        ),
        click.option("--port", type=click.IntRange(0, 65535), default=0, help="Listen there.  [default: any free one]"),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Place:
    """Where a page is served, and how."""

    host: str
    port: int
    browser: bool
    debug: bool = False


@cli.command(epilog=EXIT_CODES)
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
            return _train(path, settings, saved, device, backend, threads, data, held_out, place)
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
    dataset = _dataset(data, saved)
    if saved and dataset.sha256 != saved.description.dataset_sha256:
        raise LenetError(
            f"--resume: {dataset.name} is not the data set that {path} was trained on ({saved.description.dataset})"
        )
    if validation:
        dataset = hold_out(dataset, validation)
    network = lenet5(settings.network, dataset.height, dataset.width, dataset.classes)
    backend = _select(device, backend_name, threads)
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
    with console.status("preparing the kernels (compiled once, then cached) ..."):
        self_check(executor, distorted=settings.distortion.active)
    seconds = time.monotonic() - preparing
    if seconds > SLOW_START:
        console.print(f"kernels   compiled in {seconds:.0f} s; later runs begin at once", highlight=False)
    lines = terminal.EpochLines(
        console, len(dataset.train_labels), done + 1, last, validation=len(dataset.validation_labels) > 0
    )
    record, trained = None, 0.0
    np.seterr(over="ignore", invalid="ignore")  # a run that diverges is told by its cost, in one line
    page = _watch_page(watched_at, path, description, dataset, executor, saved) if watched_at else nullcontext()
    try:
        with page as view, lines:

            def watch(images: int, cost: float) -> None:
                lines.watch(images, cost)
                if view:
                    view.watch(images, cost)

            run = training.train(executor, dataset, path, description, resume=saved, watch=watch)
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


def _stopped(path: Path, description: "Description", *, resumed: bool) -> str:
    """Return the line that ends a run which was stopped: what the folder holds, as it is found there."""
    from lenet import storage

    if storage.is_network(path):
        found = storage.load(path)
        if resumed or found.description == description:  # else it is the network that would have been replaced
            again = shlex.join(["lenet", "train", "--resume", "--path", str(path)])
            return f"Stopped. {path} holds epoch {len(found.history)}. Continue: {again}"
    return "Stopped. No epoch was finished; nothing was written."


def _dataset(data: Path | None, saved: "Saved | None") -> "Dataset":
    """Load the data set: the one that is named, else the one a saved network was trained on, else MNIST."""
    from lenet.data import load_dataset

    if saved is None:
        return load_dataset(data)
    trained_on = saved.description
    if data is None and trained_on.dataset_source:
        data = Path(trained_on.dataset_source)
        if not data.is_dir():
            raise LenetError(f"the network was trained on {data}, which is not there; say where it is with --data DIR")
    dataset = load_dataset(data)
    if (dataset.height, dataset.width) != (trained_on.height, trained_on.width):
        raise LenetError(
            f"{dataset.name} has images of {dataset.height} x {dataset.width} pixels, "
            f"the network takes {trained_on.height} x {trained_on.width}"
        )
    if dataset.classes > trained_on.classes:
        raise LenetError(f"{dataset.name} has {dataset.classes} classes, the network {trained_on.classes}")
    return dataset


def _select(device: str | None, backend: str | None, threads: int | None) -> "Backend":
    """Return the backend asked for, and say so where the user left it open and it is not the fastest."""
    from lenet import backends

    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be 1 or more, not {threads}")
    chosen = backends.select(device or "auto", backend, threads)
    if backend is None and chosen.name == "numpy":  # only for want of anything faster
        reason = backends.probe("numba").reason
        click.echo(f"warning: running on {chosen.name}, many times slower: {reason}", err=True)
    return chosen


@cli.command("test", epilog=EXIT_CODES)
@click.option("--path", type=click.Path(path_type=Path), help="Folder of the network.  [default: the pretrained one]")
@device_options
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="Data set to use instead of the network's."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.option("--min-accuracy", type=float, metavar="SHARE", help="Exit with code 4 below this accuracy, 0 to 1.")
@debug_option
def test(
    path: Path | None,
    device: str | None,
    backend: str | None,
    threads: int | None,
    data: Path | None,
    as_json: bool,
    min_accuracy: float | None,
) -> int:
    """Measure a network on the test images."""
    import json

    from lenet import storage
    from lenet.evaluation import evaluate
    from lenet.executors import State, choose

    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise UsageError(f"--min-accuracy is a share from 0 to 1, not {min_accuracy:g}")
    path = path or storage.PRETRAINED
    saved = storage.load(path)
    dataset = _dataset(data, saved)
    executor = choose(saved.network, _select(device, backend, threads))
    executor.write(State.of(saved.weights))
    labels = dataset.test_labels
    result = evaluate(executor, executor.upload(dataset.test_images, labels), labels)
    if as_json:
        click.echo(json.dumps({"path": str(path), "dataset": dataset.name, **result.to_dict()}))
    else:
        click.echo(_test_report(path, saved, dataset, result))
    if min_accuracy is not None and result.accuracy < min_accuracy:
        click.echo(f"Error: accuracy {result.accuracy:.4f} is below --min-accuracy {min_accuracy:g}", err=True)
        return ACCURACY_MISSED
    return 0


def _test_report(path: Path, saved: "Saved", dataset: "Dataset", result: "Evaluation") -> str:
    """Return the lines that `lenet test` prints."""
    from lenet.terminal import aligned, percent

    description = saved.description
    digits = range(result.classes)
    confused = "   ".join(f"{label} as {answer}: {count}" for label, answer, count in result.most_confused(5))
    rows = {
        "network": f"{path}  ({len(saved.history)} epochs on {description.dataset}, {description.backend})",
        "test": f"{percent(result.accuracy)}   {result.correct:,} of {len(result.labels):,} right",
        "cost": f"{result.cost:.4f}",
        "first 5,000": percent(result.first_part),
        "last 5,000": percent(result.last_part),
        "class": " ".join(f"{k:>6}" for k in digits),
        "right, %": " ".join("     -" if a is None else f"{100 * a:>6.2f}" for a in result.class_accuracy),
        "mistaken": confused or "nothing",
    }
    if len(result.labels) < 5000:
        del rows["first 5,000"], rows["last 5,000"]
    if dataset.name != description.dataset:
        rows["network"] += f", tested on {dataset.name}"
    return aligned(rows)


@cli.command(epilog=EXIT_CODES)
@click.option("--layers", is_flag=True, help="Each layer by itself, and how close it is to what the machine can do.")
@click.option("--scan", is_flag=True, help="Batches of 1 to 4096, and several numbers of threads.")
@click.option("--quick", is_flag=True, help="A rehearsal in a few seconds, less exact.")
@click.option("--threads", type=int, help="Threads of the Numba backend.  [default: all]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all samples there.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE", help="Write medians there.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw a chart there.")
@click.option(
    "--compare", type=click.Path(path_type=Path), metavar="OLD.json", help="Show what changed since that run."
)
@debug_option
def bench(
    layers: bool,
    scan: bool,
    quick: bool,
    threads: int | None,
    json_file: Path | None,
    csv_file: Path | None,
    plot: Path | None,
    compare: Path | None,
) -> int:
    """Time every backend on the same work, side by side."""
    import json

    from rich.console import Console

    from lenet.bench import chart, document, modes, report

    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be 1 or more, not {threads}")
    if layers and scan:
        raise UsageError("--layers and --scan measure different things; choose one")
    if layers and plot:
        raise UsageError("--layers prints tables; --plot goes with --scan, or with neither")
    for file in filter(None, (json_file, csv_file, plot)):
        _refuse_unwritable(file)
    old = _earlier_run(compare) if compare else None
    mode = modes.LAYERS if layers else modes.SCAN if scan else modes.PLAIN
    effort = mode.quick if quick else mode.full
    with Console(stderr=True).status("measuring ...") as status:
        found = mode.measure(effort, threads, lambda text: status.update(f"{text} ..."))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    mode.show(console, found)
    if old:
        report.compare(console, found.results, old)
    written = document(found, effort, ["lenet", *sys.argv[1:]])
    if json_file:
        _write(json_file, json.dumps(written, indent=1).encode() + b"\n")
    if csv_file:
        _write(csv_file, report.to_csv(found.results).encode())
    if plot:
        _write(plot, chart.draw(found.results, written["machine"]["processor"]))
    return 0


def _refuse_unwritable(file: Path) -> None:
    """Raise where a file could not be written, before minutes of work for it."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise LenetError(f"cannot write {file}: no such folder, or no permission")


def _earlier_run(file: Path) -> dict[str, Any]:
    """Read what an earlier ``lenet bench --json`` wrote."""
    import json

    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        medians = [entry["samples"] for entry in found["results"]]
        if not all(isinstance(samples, dict) for samples in medians) or not isinstance(found["date"], str):
            raise ValueError("no samples")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LenetError(f"--compare: {file} is no result of lenet bench --json ({error})") from error
    return found


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise LenetError(f"cannot write {file}: {error.strerror or error}") from error


@cli.command(epilog=EXIT_CODES)
@click.option("--path", type=click.Path(path_type=Path), help="Folder of the network.  [default: the pretrained one]")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="Data set to use instead of the network's."
)
@click.option(
    "--drawings",
    type=click.Path(path_type=Path),
    default="drawings",
    show_default=True,
    metavar="DIR",
    help="Folder that labeled drawings are collected in; lenet train --data reads it.",
)
@click.option("--threads", type=int, metavar="N", help="CPU threads to train with.  [default: all CPUs]")
@serving_options
@click.option("--debug", is_flag=True, help="Print every request, and a traceback when something fails.")
def selftest(
    path: Path | None,
    data: Path | None,
    drawings: Path,
    threads: int | None,
    host: str,
    port: int,
    no_browser: bool,
    debug: bool,
) -> None:
    """Draw digits and watch the network think. In the browser; Ctrl-C ends it."""
    session = _session(path, data, drawings, threads)
    session.collection.open()
    _serve(session, "/", Place(host, port, not no_browser, debug))


draw = copy.copy(selftest)
draw.name, draw.short_help = "draw", "The same as selftest."
cli.add_command(draw)


@cli.command(epilog=EXIT_CODES)
@click.option("--path", type=click.Path(path_type=Path), help="Folder of the network.  [default: the pretrained one]")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="Data set to use instead of the network's."
)
@click.option("--wrong", is_flag=True, help="Only those that the network gets wrong.")
@click.option("--label", type=int, metavar="D", help="Only images of this digit.")
@click.option("--answer", type=int, metavar="D", help="Only images that are taken for this digit.")
@click.option("--text", is_flag=True, help="Show them in the terminal.")
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Put them on a contact sheet.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="So many.  [default: 12 as text, 100 on a sheet]")
@serving_options
@click.option("--debug", is_flag=True, help="Print every request, and a traceback when something fails.")
def viewtest(
    path: Path | None,
    data: Path | None,
    wrong: bool,
    label: int | None,
    answer: int | None,
    text: bool,
    png: Path | None,
    count: int | None,
    host: str,
    port: int,
    no_browser: bool,
    debug: bool,
) -> None:
    """Look at the test images and their answers. In the browser, as text or as a picture."""
    from shutil import get_terminal_size
    from urllib.parse import urlencode

    from lenet import gallery

    session = _session(path, data, Path("drawings"))
    classes = session.model.saved.network.classes
    for option, digit in (("--label", label), ("--answer", answer)):
        if digit is not None and not 0 <= digit < classes:
            raise UsageError(f"{option} is from 0 to {classes - 1}, not {digit}")
    if not text and png is None:
        query = {"label": label, "answer": answer, "wrong": 1 if wrong else None}
        chosen = urlencode({name: value for name, value in query.items() if value is not None})
        return _serve(session, f"/tests?{chosen}".rstrip("?"), Place(host, port, not no_browser, debug))
    if png:
        _refuse_unwritable(png)
    answered = session.model.gallery.get()
    found = answered.select(label=label, answer=answer, wrong=wrong)
    if text:
        shown = gallery.as_text(answered, found[: count or 12], get_terminal_size().columns)
        click.echo("\n\n".join(filter(None, [shown, f"{len(found):,} of {len(answered.images):,} test images"])))
    if png:
        _write(png, gallery.contact_sheet(answered, found[: count or 100]))
    return None


def _session(path: Path | None, data: Path | None, drawings: Path, threads: int | None = None) -> "Session":
    """Open what the studio shows."""
    from lenet import storage
    from lenet.studio.model import Model
    from lenet.studio.session import Session

    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be 1 or more, not {threads}")
    path = path or storage.PRETRAINED
    saved = storage.load(path)
    return Session(Model(path, saved, _dataset(data, saved)), drawings, threads)


def _serve(session: "Session", page: str, place: Place) -> None:
    """Serve the studio until Ctrl-C, with ``page`` in the browser."""
    from lenet.studio.app import create_app
    from lenet.studio.security import Guard
    from lenet.studio.server import Server

    guard = Guard(place.host)
    app = create_app(session, guard, debug=place.debug)
    server = Server(app, guard, place.host, place.port, debug=place.debug)
    _announce(server, page, place)
    try:
        server.serve()
    finally:
        session.close()


def _announce(server: "Server", page: str, place: Place) -> None:
    """Tell the address, and open the browser there."""
    from lenet.studio.server import open_browser

    address = server.address(page)
    click.echo(f"lenet is at {address}  (Ctrl-C ends it)")
    if place.browser:
        open_browser(address)


@contextmanager
def _watch_page(
    place: Place,
    path: Path,
    description: "Description",
    dataset: "Dataset",
    executor: "Executor",
    saved: "Saved | None",
) -> Iterator["View"]:
    """Serve a page that shows a training, as long as it runs."""
    from lenet.studio.app import create_watch_app
    from lenet.studio.model import describe_network
    from lenet.studio.security import Guard
    from lenet.studio.server import Server
    from lenet.studio.watch import View

    view, guard = View(), Guard(place.host)
    network = describe_network(path, executor.network, description, dataset, accuracy=None)
    server = Server(create_watch_app(view, network, guard), guard, place.host, place.port)
    _announce(server, "/training", place)
    history = saved.history if saved else ()
    view.begin(executor, len(dataset.train_labels), description.settings.training.epochs, history)
    server.start()
    try:
        yield view
        view.end("done", f"saved in {path}")
    except KeyboardInterrupt:
        view.end("stopped", "")
        raise
    except LenetError as error:
        view.end("failed", str(error))
        raise
    finally:
        view.wait_until_seen()
        server.stop()


@cli.command(epilog=EXIT_CODES)
@click.argument("images", metavar="IMAGE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--path", type=click.Path(path_type=Path), help="Folder of the network.  [default: the pretrained one]")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
@debug_option
def predict(
    images: Sequence[Path],
    path: Path | None,
    device: str | None,
    backend: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Read the handwritten digits in image files, each with one digit or a row of them."""
    import json

    from lenet import storage
    from lenet.drawing import SIDE, read_image
    from lenet.executors import State, choose

    path = path or storage.PRETRAINED
    saved = storage.load(path)
    height, width = saved.description.height, saved.description.width
    if (height, width) != (SIDE, SIDE):
        raise LenetError(f"{path} takes images of {height} x {width} pixels; digits are prepared as {SIDE} x {SIDE}")
    executor = choose(saved.network, _select(device, backend, threads))
    executor.write(State.of(saved.weights))
    answers: list[tuple[str, list[dict[str, Any]]]] = []
    for file in images:
        try:
            ink, zoom = read_image(file)
        except LenetError as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            continue
        answers.append((str(file), _read_digits(executor, ink, zoom)))
    if as_json:
        click.echo(json.dumps([{"file": name, "digits": digits} for name, digits in answers], indent=1))
    else:
        for name, digits in answers:
            click.echo(f"{name}  {'   '.join(map(_digit_text, digits)) or 'blank: no ink to be seen'}")
    return 0 if len(answers) == len(images) else 1


def _read_digits(executor: "Executor", ink: "NDArray[np.float32]", zoom: float) -> list[dict[str, Any]]:
    """Return what ``lenet predict --json`` says of each digit in one file; no digit where there is none to be seen."""
    import numpy as np

    from lenet.drawing import find_digits, unsure
    from lenet.evaluation import probabilities

    found = find_digits(ink)
    if not found:
        return []
    shares = probabilities(executor.predict(np.stack([digit.image for digit in found])).astype(np.float64))
    return [
        {
            "digit": None if digit.problem else int(share.argmax()),
            "confidence": None if digit.problem else round(float(share.max()), 4),
            "unsure": digit.problem is not None or unsure(share),
            "box": [round(zoom * side) for side in digit.box or ()],
        }
        for digit, share in zip(found, shares, strict=True)
    ]


def _digit_text(found: dict[str, Any]) -> str:
    """Return what `lenet predict` says of one digit."""
    if found["digit"] is None:
        return "? (not a digit)"
    share = "> 99%" if found["confidence"] > 0.99 else f"{found['confidence']:.0%}"  # a softmax is never certain
    return f"{found['digit']} ({share}{', unsure' if found['unsure'] else ''})"


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@debug_option
def info(as_json: bool) -> None:
    """Show versions, machine and backends: what a bug report needs."""
    import json

    from lenet.info import collect
    from lenet.terminal import aligned

    found = collect()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n\n".join(f"{section}\n{aligned(rows)}" for section, rows in found.items()))
