"""The network in use, and what is computed of it once."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet import drawing
from lenet.data import Dataset
from lenet.errors import LenetError
from lenet.evaluation import probabilities
from lenet.gallery import Gallery
from lenet.inspection import Inspector, nearest, stages, take_step
from lenet.network import Network
from lenet.storage import PRETRAINED, Description, Saved
from lenet.studio import wire
from lenet.studio.later import Later

NEIGHBORS = 5


@dataclass(frozen=True)
class Subject:
    """What the network looks at: an image (H, W), what is wrong with it (a key of `PROBLEMS`), its label if known."""

    image: NDArray[np.uint8]
    problem: str | None = None
    label: int | None = None


def describe_network(
    path: Path, network: Network, description: Description, dataset: Dataset, accuracy: float | None
) -> dict[str, Any]:
    """Return what the pages need to know of a network; ``accuracy`` is that on the test images, if it is known."""
    return {
        "name": path.resolve().name,
        "path_shown": "the pretrained network" if path == PRETRAINED else str(path),
        "accuracy": accuracy,
        "parameters": network.size,
        "device": "cpu",
        "dataset": dataset.name,
        "classes": description.classes,
        "height": description.height,
        "width": description.width,
        "test_images": len(dataset.test_labels),
        "activation": description.settings.network.activation,
        "pool": description.settings.network.pool,
        "layers": [wire.stage_description(stage) for stage in stages(network)],
    }


class Model:
    """A saved network with the data set that it was trained on."""

    def __init__(self, path: Path, saved: Saved, dataset: Dataset) -> None:
        self.path = path
        self.saved = saved
        self.dataset = dataset
        self.inspector = Inspector(saved.network, saved.weights)
        self.gallery = Later(lambda: Gallery.of(self.inspector, dataset.test_images, dataset.test_labels))
        self.features = Later(lambda: self.inspector.features(dataset.train_images))

    @property
    def name(self) -> str:
        """The folder's name; ``pretrained`` for the network in the package."""
        return self.path.resolve().name

    @cached_property
    def described(self) -> dict[str, Any]:
        """What the pages need to know of the network."""
        accuracy = self.saved.history[-1].test_accuracy if self.saved.history else None
        return describe_network(self.path, self.saved.network, self.saved.description, self.dataset, accuracy)

    def subject(self, body: dict[str, Any]) -> Subject:
        """Return what a request wants the network to look at.

        Raises
        ------
        Refusal
            400, when that is unclear or does not exist.
        """
        given = [key for key in ("strokes", "test", "pixels") if key in body]
        if len(given) != 1:
            raise wire.Refusal(400, "name one of strokes, test and pixels")
        description = self.saved.description
        if given == ["test"]:
            index = wire.integer(body, "test", 0, len(self.dataset.test_labels) - 1)
            return Subject(self.dataset.test_images[index], label=int(self.dataset.test_labels[index]))
        if given == ["pixels"]:
            image = wire.parse_pixels(body["pixels"], description.height, description.width)
            return Subject(image, None if image.any() else "blank")
        strokes = self.strokes(body)
        prepared = drawing.prepare(strokes)
        if wire.flag(body, "prepare", True):
            return Subject(prepared.image, prepared.problem)
        return Subject(drawing.shrink(strokes), "blank" if prepared.problem == "blank" else None)

    def strokes(self, body: dict[str, Any]) -> tuple[drawing.Stroke, ...]:
        """Return the strokes of a request.

        Raises
        ------
        Refusal
            400, when they are none, or the network takes images of another size than drawings have.
        """
        description = self.saved.description
        if (description.height, description.width) != (drawing.SIDE, drawing.SIDE):
            size = f"{description.height} x {description.width}"
            raise wire.Refusal(400, f"this network takes {size} pixels, drawings have {drawing.SIDE} x {drawing.SIDE}")
        try:
            return drawing.parse_strokes(body)
        except LenetError as error:
            raise wire.Refusal(400, str(error)) from None

    def think(self, subject: Subject) -> dict[str, Any]:
        """Answer, with the activations of every layer."""
        found: dict[str, Any] = {
            "problem": subject.problem,
            "message": drawing.PROBLEMS.get(subject.problem or ""),
            "unsure": False,
            "answer": None,
            "probabilities": None,
            "pixels": wire.pixels(subject.image),
            "label": subject.label,
            "layers": None,
        }
        if subject.problem == "blank":
            return found
        trace = self.inspector.trace(subject.image)
        (shares,) = probabilities(trace.logits[None].astype(np.float64))
        found |= {"probabilities": shares.tolist(), "layers": wire.layer_values(self.inspector, trace)}
        if subject.problem is None:
            answer = int(shares.argmax())
            found |= {"answer": answer, "message": str(answer), "unsure": drawing.unsure(shares)}
        return found

    def unit(self, subject: Subject, body: dict[str, Any]) -> dict[str, Any]:
        """Take the unit apart that a request names."""
        stage, place = wire.parse_place(body, self.inspector)
        return wire.unit_parts(self.inspector.unit(self.inspector.trace(subject.image), stage, place))

    def why(self, subject: Subject, body: dict[str, Any]) -> dict[str, Any]:
        """Say what the image resembles, and which ink would change the answer."""
        trace = self.inspector.trace(subject.image)
        answer, runner_up = (int(k) for k in np.argsort(-trace.logits, kind="stable")[:2])
        toward = runner_up
        if body.get("toward") is not None:
            toward = wire.integer(body, "toward", 0, self.saved.network.classes - 1)
        gradient = self.inspector.gradient(trace, toward, answer)
        step = take_step(subject.image, gradient)
        (shares,) = probabilities(self.inspector.trace(step).logits[None].astype(np.float64))
        feature = trace.values[self.inspector.stages[-2].name]
        return {
            "answer": answer,
            "toward": toward,
            "neighbors": [
                {
                    "index": neighbor.index,
                    "label": int(self.dataset.train_labels[neighbor.index]),
                    "distance": neighbor.distance,
                    "pixels": wire.pixels(self.dataset.train_images[neighbor.index]),
                }
                for neighbor in nearest(self.features.get(), feature, NEIGHBORS)
            ],
            "gradient": wire.floats(gradient),
            "step": wire.pixels(step),
            "step_probabilities": shares.tolist(),
        }
