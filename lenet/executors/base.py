"""How a network is run: what training and evaluation ask for, whatever the backend does to make it fast."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.backends.base import Array, Backend
from lenet.network import Network
from lenet.optimizers import Rule

Watch = Callable[[int, float], None]
"""Told now and then how many images of the epoch are done, and their mean cost since it was last told."""

WATCH_SECONDS = 0.1
"""The least time between two calls of a `Watch`."""


@dataclass(frozen=True)
class Samples:
    """Images (M, H, W) uint8 on the backend's device, and their targets (M, K): 1 for the label, else 0."""

    images: Array
    targets: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class EpochPlan:
    """All that is random or changing in one epoch, drawn up on the host.

    Attributes
    ----------
    order : (M,) int32, which images, in which order; the last batch may be smaller than the others
    transforms : (M, 2, 3) float32, the distortion of each, in the same order; None for none
    hyper : (steps, 4), see `lenet.optimizers.hyper_table`
    batch_size : images a step
    targets : (M, K) float32, what is to be answered, in the same order; None for the labels
    """

    order: NDArray[np.int32]
    transforms: NDArray[np.float32] | None
    hyper: NDArray[np.float64]
    batch_size: int
    targets: NDArray[np.float32] | None = None

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-len(self.order) // self.batch_size)


@dataclass
class State:
    """Everything that training changes, as NumPy arrays; T is the number of parameters.

    Attributes
    ----------
    parameters : (T,)
    moments : (rule.moments, T), what the optimizer remembers
    average : (T,), the moving average of the parameters; None for none
    """

    parameters: NDArray[Any]
    moments: NDArray[Any]
    average: NDArray[Any] | None

    @classmethod
    def of(cls, weights: NDArray[Any]) -> "State":
        """Return the state of a network that is only asked, never trained."""
        return cls(weights, np.zeros((0, len(weights)), weights.dtype), None)

    @property
    def weights(self) -> NDArray[Any]:
        """The parameters that answer questions and are saved: the average, where there is one."""
        return self.parameters if self.average is None else self.average


class Executor(ABC):
    """Trains and evaluates one network on one backend, for one calling thread at a time.

    Parameters
    ----------
    network, backend
    rule : the update rule; None for an executor that only evaluates
    averaging : whether a moving average of the weights is kept; evaluation then uses it
    """

    name: str

    def __init__(self, network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> None:
        self.network = network
        self.backend = backend
        self.rule = rule
        self.averaging = averaging

    def upload(self, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> Samples:
        """Copy a data set to the device, once for a whole run."""
        targets = np.zeros((len(labels), self.network.classes), self.backend.dtype)
        targets[np.arange(len(labels)), labels] = 1
        return Samples(self.backend.to_device(images), self.backend.to_device(targets))

    @abstractmethod
    def write(self, state: State) -> None:
        """Set parameters, moments and average."""

    @abstractmethod
    def read(self) -> State:
        """Return copies of parameters, moments and average."""

    @abstractmethod
    def train_epoch(self, samples: Samples, plan: EpochPlan, watch: Watch | None = None) -> float:
        """Run one epoch and return the mean cost of its images, each as it was met.

        When ``watch`` raises, or Ctrl-C is pressed, the state is somewhere within the epoch.
        """

    @abstractmethod
    def evaluate(self, samples: Samples) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Return the cost (M,) and the answered class (M,) of each image, undistorted."""

    @abstractmethod
    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the logits (M, K) of ``images`` (M, H, W), undistorted."""

    @abstractmethod
    def predict_epoch(self, samples: Samples, plan: EpochPlan) -> NDArray[Any]:
        """Return the logits (M, K) of the images of an epoch: in its order, distorted as its plan says."""
