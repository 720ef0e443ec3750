"""Options that several commands have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = """\b
Exit codes: 0 done; 1 expected failure; 2 wrong usage; 3 the requested device is unusable;
4 --min-accuracy missed; 130 stopped by Ctrl-C (143 by SIGTERM, 129 by SIGHUP), with everything saved.
"""


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
