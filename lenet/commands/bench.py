"""`lenet bench`."""

import sys
from pathlib import Path
from typing import Any

import click

from lenet.commands.options import EXIT_CODES, debug_option
from lenet.commands.outputs import refuse_unwritable, write_file
from lenet.errors import LenetError, UsageError, shortened
from lenet.files import open_plain


@click.command(epilog=EXIT_CODES)
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
        refuse_unwritable(file)
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
        write_file(json_file, json.dumps(written, indent=1).encode() + b"\n")
    if csv_file:
        write_file(csv_file, report.to_csv(found.results).encode())
    if plot:
        write_file(plot, chart.draw(found.results, written["machine"]["processor"]))
    return 0


def _earlier_run(file: Path) -> dict[str, Any]:
    """Read what an earlier ``lenet bench --json`` wrote."""
    import json

    try:
        with open_plain(file) as stream:
            found = json.load(stream)
        medians = [entry["samples"] for entry in found["results"]]
        if not all(isinstance(samples, dict) for samples in medians) or not isinstance(found["date"], str):
            raise ValueError("no samples")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LenetError(f"--compare: {file} is no result of lenet bench --json ({shortened(str(error))})") from error
    return found
