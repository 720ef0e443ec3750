"""How good a network is: accuracy, cost and what it confuses, on images that are not distorted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.executors import Executor, Samples

PART = 5000  # the first 5000 test images of MNIST come from cleaner writers than the last, so they are told apart


@dataclass(frozen=True)
class Evaluation:
    """The answers to M labeled images, K classes.

    Attributes
    ----------
    labels, answers : (M,) int32
    losses : (M,), the cross-entropy of each image in nats
    classes : K
    """

    labels: NDArray[np.int32]
    answers: NDArray[np.int32]
    losses: NDArray[Any]
    classes: int

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which images are answered correctly, (M,)."""
        return self.answers == self.labels

    @property
    def correct(self) -> int:
        """Number of correct answers."""
        return int(np.count_nonzero(self.right))

    @property
    def accuracy(self) -> float:
        """Share of correct answers, 0..1."""
        return self.correct / len(self.labels)

    @property
    def cost(self) -> float:
        """Mean cross-entropy."""
        return float(self.losses.mean(dtype=np.float64))

    @property
    def first_part(self) -> float | None:
        """Accuracy on the first 5000 images; None where there are fewer."""
        return float(self.right[:PART].mean()) if len(self.labels) >= PART else None

    @property
    def last_part(self) -> float | None:
        """Accuracy on the last 5000 images; None where there are fewer."""
        return float(self.right[-PART:].mean()) if len(self.labels) >= PART else None

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K) counts: row is the label, column the answer."""
        cells = self.labels.astype(np.int64) * self.classes + self.answers
        return np.bincount(cells, minlength=self.classes**2).reshape(self.classes, self.classes)

    @property
    def class_accuracy(self) -> list[float | None]:
        """Accuracy of each class; None for one without images."""
        confusion = self.confusion
        counts = confusion.sum(axis=1)
        return [float(confusion[k, k] / counts[k]) if counts[k] else None for k in range(self.classes)]

    def most_confused(self, count: int) -> list[tuple[int, int, int]]:
        """Return the most frequent mistakes as (label, answer, how often), at most ``count``."""
        mistakes = self.confusion
        np.fill_diagonal(mistakes, 0)
        order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
        pairs = (divmod(int(cell), self.classes) for cell in order)
        return [(label, answer, int(mistakes[label, answer])) for label, answer in pairs if mistakes[label, answer]]

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``lenet test --json`` prints."""
        return {
            "images": len(self.labels),
            "correct": self.correct,
            "accuracy": self.accuracy,
            "cost": self.cost,
            "first_5000": self.first_part,
            "last_5000": self.last_part,
            "class_accuracy": self.class_accuracy,
            "most_confused": [
                {"label": label, "answer": answer, "count": count} for label, answer, count in self.most_confused(10)
            ],
            "confusion": self.confusion.tolist(),
        }


def evaluate(executor: Executor, samples: Samples, labels: NDArray[np.int32]) -> Evaluation:
    """Answer all ``samples``, whose labels (M,) the host knows too, with the executor's weights."""
    losses, answers = executor.evaluate(samples)
    return Evaluation(labels, answers, losses, executor.network.classes)


def probabilities(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the softmax of each row of ``logits`` (M, K)."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
