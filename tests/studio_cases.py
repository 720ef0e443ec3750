"""What the tests of the studio share: the pretrained network on a little of MNIST, a client, drawings."""

import base64
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flask.testing import FlaskClient
from numpy.typing import NDArray

from lenet import storage
from lenet.data import Dataset, load_dataset
from lenet.studio.app import create_app
from lenet.studio.model import Model
from lenet.studio.security import Guard
from lenet.studio.session import Session

TRAINING, TEST = 3000, 600
"""Images of each sort that are left."""

SEVEN = [{"tool": "pen", "points": [[0.3, 0.2], [0.5, 0.2], [0.7, 0.2], [0.6, 0.4], [0.5, 0.6], [0.42, 0.85]]}]
ONE = [{"tool": "pen", "points": [[0.52, 0.15], [0.51, 0.4], [0.5, 0.6], [0.5, 0.85]]}]


@cache
def dataset() -> Dataset:
    whole = load_dataset()
    return replace(
        whole,
        train_images=whole.train_images[:TRAINING],
        train_labels=whole.train_labels[:TRAINING],
        test_images=whole.test_images[:TEST],
        test_labels=whole.test_labels[:TEST],
    )


@cache
def model() -> Model:
    """Return a model that all tests share; what it computes late is computed once."""
    return Model(storage.PRETRAINED, storage.load(), dataset())


def session(folder: Path) -> Session:
    return Session(model(), folder / "drawings", threads=2)


def client(session: Session, guard: Guard | None = None) -> FlaskClient:
    return create_app(session, guard or Guard("127.0.0.1")).test_client(use_cookies=False)


def post(client: FlaskClient, path: str, body: Any = None, status: int = 200) -> Any:
    answer = client.post(path, json={} if body is None else body)
    assert answer.status_code == status, answer.text
    return answer.json


def get(client: FlaskClient, path: str, status: int = 200) -> Any:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer.json


def image(text: str, side: int = 28) -> NDArray[np.uint8]:
    """Return the pixels of an answer."""
    return np.frombuffer(base64.b64decode(text, validate=True), np.uint8).reshape(side, side)


def numbers(text: str, *shape: int) -> NDArray[np.float32]:
    """Return the floats of an answer."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape)
