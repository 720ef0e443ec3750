"""`lenet test`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.commands.inputs import load_data, select_backend
from lenet.commands.options import EXIT_CODES, debug_option, device_options
from lenet.errors import UsageError

if TYPE_CHECKING:
    from lenet.data import Dataset
    from lenet.evaluation import Evaluation
    from lenet.storage import Saved

ACCURACY_MISSED = 4


@click.command("test", epilog=EXIT_CODES)
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
    dataset = load_data(data, saved)
    executor = choose(saved.network, select_backend(device, backend, threads))
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
