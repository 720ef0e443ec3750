"""What several commands read: the data set and the backend that are asked for."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet.errors import LenetError, UsageError

if TYPE_CHECKING:
    from lenet.backends import Backend
    from lenet.data import Dataset
    from lenet.storage import Saved


def load_data(data: Path | None, saved: "Saved | None") -> "Dataset":
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


def select_backend(device: str | None, backend: str | None, threads: int | None) -> "Backend":
    """Return the backend asked for, and say so where the user left it open and it is not the fastest."""
    from lenet import backends

    if threads is not None and threads < 1:
        raise UsageError(f"--threads must be 1 or more, not {threads}")
    chosen = backends.select(device or "auto", backend, threads)
    if backend is None and chosen.name == "numpy":  # only for want of anything faster
        reason = backends.probe("numba").reason
        click.echo(f"warning: running on {chosen.name}, many times slower: {reason}", err=True)
    return chosen
