"""`lenet selftest`, or `draw`, and `lenet viewtest`; and the page of `lenet train --watch`."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.commands.inputs import load_data
from lenet.commands.options import EXIT_CODES, Command
from lenet.commands.outputs import refuse_unwritable, write_file
from lenet.errors import LenetError, UsageError

if TYPE_CHECKING:
    from lenet.data import Dataset
    from lenet.executors import Executor
    from lenet.storage import Description, Saved
    from lenet.studio.server import Server
    from lenet.studio.session import Session
    from lenet.studio.watch import View


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


@click.command(epilog=EXIT_CODES)
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


@click.command(epilog=EXIT_CODES)
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
        refuse_unwritable(png)
    answered = session.model.gallery.get()
    found = answered.select(label=label, answer=answer, wrong=wrong)
    if text:
        shown = gallery.as_text(answered, found[: count or 12], get_terminal_size().columns)
        click.echo("\n\n".join(filter(None, [shown, f"{len(found):,} of {len(answered.images):,} test images"])))
    if png:
        write_file(png, gallery.contact_sheet(answered, found[: count or 100]))
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
    return Session(Model(path, saved, load_data(data, saved)), drawings, threads)


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
def watch_page(
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
