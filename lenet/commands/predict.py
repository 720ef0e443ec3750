"""`lenet predict`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet.commands.inputs import select_backend
from lenet.commands.options import EXIT_CODES, debug_option, device_options
from lenet.errors import LenetError, in_one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet.executors import Executor


@click.command(epilog=EXIT_CODES)
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
    """Read the handwritten digits in pictures."""
    import json

    from lenet import storage
    from lenet.drawing import SIDE, read_image
    from lenet.executors import State, choose

    path = path or storage.PRETRAINED
    saved = storage.load(path)
    height, width = saved.description.height, saved.description.width
    if (height, width) != (SIDE, SIDE):
        raise LenetError(f"{path} takes images of {height} x {width} pixels; digits are prepared as {SIDE} x {SIDE}")
    executor = choose(saved.network, select_backend(device, backend, threads))
    executor.write(State.of(saved.weights))
    answers: list[tuple[str, list[dict[str, Any]]]] = []
    for file in images:
        try:
            with _muted_libraries():
                ink, zoom = read_image(file)
        except LenetError as error:
            click.echo(f"Error: {in_one_line(str(error))}", err=True)
            continue
        answers.append((str(file), _read_digits(executor, ink, zoom)))
    if as_json:
        click.echo(json.dumps([{"file": name, "digits": digits} for name, digits in answers], indent=1))
    else:
        for name, digits in answers:
            click.echo(f"{name}  {'   '.join(map(_digit_text, digits)) or 'blank: no ink to be seen'}")
    return 0 if len(answers) == len(images) else 1


@contextmanager
def _muted_libraries() -> Iterator[None]:
    """Keep libraries in C from printing on stderr: of a broken file, libtiff does, before our one line about it."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


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
