"""The command line: dispatch, and turn what goes wrong into one line and an exit code."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from lenet import __version__
from lenet.commands import bench, info, predict, studio, sweep, test, train
from lenet.commands.options import EXIT_CODES
from lenet.errors import LenetError, in_one_line

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows ? for what it lacks
    # Results must not depend on the number of threads, so NumPy's matrix products stay on one. Read at NumPy's import.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if os.environ.get("COLUMNS") == "0":  # as some schedulers say that there is no terminal
        del os.environ["COLUMNS"]
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it cannot keep its cache of fonts
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
        click.echo(f"Error: {in_one_line(text)}", err=True)
        sys.exit(error.exit_code if isinstance(error, LenetError) else 1)


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="lenet %(version)s")
def cli() -> None:
    """LeNet-5 from scratch: train it on handwritten digits, then see what it thinks."""


for command in (
    train.train,
    test.test,
    predict.predict,
    studio.selftest,
    studio.draw,
    studio.viewtest,
    bench.bench,
    sweep.sweep,
    info.info,
):
    cli.add_command(command)
