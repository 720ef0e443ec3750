"""What is fuzzed: each target takes any bytes, and nothing but the refusals that it knows may come out.

A target that reads a file writes the bytes to one in a folder of its own.
"""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lenet import drawing, storage
from lenet import settings as lenet_settings
from lenet.data import load_dataset, read_idx
from lenet.errors import LenetError
from lenet.executors import State
from lenet.settings import Settings
from lenet.storage import Description, EpochRecord

LIMITS = ((storage, "_ATTEMPTS", 1), (Image, "MAX_IMAGE_PIXELS", 1 << 16))
"""What makes a target fast, for whoever runs it to set: no writer is going to mend what is read; no image is large."""

Target = Callable[[bytes], None]

FOLDER = "LENET_FUZZ_FOLDER"
"""The variable that names the folder for what a run writes."""


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(dir=os.environ.get(FOLDER)))


# targets ----------------------------------------------------------------------------------------------------------


def idx(content: bytes) -> None:
    """The IDX reader: what it reads is never larger than a file can be packed."""
    file = folder() / "idx"
    file.write_bytes(content)
    with suppress(LenetError):
        found = read_idx(file)
        assert found.array.dtype.isnative
        assert len(found.sha256) == 64


DESCRIPTION = Description(
    settings=Settings().override("network", maps=(2, 3), table="full", dense=(5, 4)),
    height=16,
    width=20,
    classes=3,
    dataset="mine",
    dataset_source=None,
    dataset_sha256={},
    train_images=9,
    validation_images=0,
    backend="numpy",
    device="cpu",
    executor="eager",
    versions={},
)
PARTS = ("network.json", "history.csv", "C3.bias.npy", "checkpoint/moments.npy")


@cache
def network() -> tuple[Path, State]:
    size = DESCRIPTION.network().size
    weights = np.linspace(-1, 1, size, dtype=np.float32)
    state = State(weights, np.zeros((2, size), np.float32), weights)
    path = folder() / "net"
    storage.save(path, DESCRIPTION, [EpochRecord(1, 0.01, 2.0, 0.5, 0.5, 1.0)], state)
    return path, state


def loader(content: bytes) -> None:
    """The network loader: the first byte says which file the others replace, with a checksum that fits."""
    path, state = network()
    name = PARTS[content[0] % len(PARTS)] if content else PARTS[0]
    kept = {file: (path / file).read_bytes() for file in {name, "network.json"}}
    (path / name).write_bytes(content[1:])
    if name != "network.json":
        document = json.loads(kept["network.json"])
        document["sha256"][name] = hashlib.sha256(content[1:]).hexdigest()
        (path / "network.json").write_text(json.dumps(document))
    try:
        with suppress(LenetError):
            found = storage.load(path, with_state=True)
            assert np.isfinite(found.weights).all()
            assert found.weights.shape == state.weights.shape
    finally:
        for file, before in kept.items():
            (path / file).write_bytes(before)


def settings(content: bytes) -> None:
    """The TOML settings: what is read is read again from what is printed."""
    file = folder() / "settings.toml"
    file.write_bytes(content)
    with suppress(LenetError):
        found = lenet_settings.load(str(file))
        file.write_text(found.to_toml(), encoding="utf-8")
        assert lenet_settings.load(str(file)) == found


def strokes(content: bytes) -> None:
    """A drawing as the page sends it."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return
    with suppress(LenetError):
        prepared = drawing.prepare(drawing.parse_strokes(value))
        assert prepared.image.shape == (28, 28)


def image(content: bytes) -> None:
    """An image file."""
    file = folder() / "image"
    file.write_bytes(content)
    with suppress(LenetError):
        ink, _ = drawing.read_image(file)
        assert ink.ndim == 2
        assert 0 <= ink.min() <= ink.max() <= 1
        drawing.find_digits(ink)


@cache
def client() -> Any:
    from lenet.studio.app import create_app
    from lenet.studio.model import Model
    from lenet.studio.security import Guard
    from lenet.studio.session import Session

    whole = load_dataset()
    few = replace(
        whole,
        train_images=whole.train_images[:200],
        train_labels=whole.train_labels[:200],
        test_images=whole.test_images[:100],
        test_labels=whole.test_labels[:100],
    )
    model = Model(storage.PRETRAINED, storage.load(), few)
    session = Session(model, folder() / "drawings", threads=1)
    return create_app(session, Guard("127.0.0.1")).test_client(use_cookies=False)


ROUTES = ("/api/think", "/api/unit", "/api/why", "/api/tests", "/api/drawings/x/delete")
"""Those that ask; those that keep drawings or train would only fill the disk."""


def routes(content: bytes) -> None:
    """The studio's JSON routes: the first byte says which; the others are the body, or the query."""
    route = ROUTES[content[0] % len(ROUTES)] if content else ROUTES[0]
    if route == "/api/tests":
        answer = client().get(route, query_string=content[1:].decode("latin1"))
    else:
        answer = client().post(route, data=content[1:], content_type="application/json")
    assert answer.status_code < 500, answer.text
    assert isinstance(answer.get_json(), dict)


def strict(target: Target) -> Target:
    """Make a target fail at a warning too: it would be one line more than a user can act on."""

    @wraps(target)
    def checked(content: bytes) -> None:
        with warnings.catch_warnings(action="error"):
            target(content)

    return checked


TARGETS = {target.__name__: strict(target) for target in (idx, loader, settings, strokes, image, routes)}
