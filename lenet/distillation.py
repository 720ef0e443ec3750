"""Distillation: the network learns what others, trained before it, answer together (Hinton, Vinyals & Dean 2015).

Networks that differ in nothing but their seed make different mistakes, and their mean answer makes fewer than any of
them. It takes the place of the labels, for each image as it is distorted in each epoch (Beyer et al. 2022).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lenet import storage
from lenet.backends import Backend
from lenet.errors import LenetError
from lenet.evaluation import probabilities
from lenet.executors import EpochPlan, Samples, State, choose
from lenet.executors.check import self_check
from lenet.network import Network
from lenet.settings import MAX_SEED, DistillationSettings
from lenet.storage import Description, Saved


class Teachers:
    """Trained networks of one architecture, on the device, for their mean answer.

    Parameters
    ----------
    network, backend : of all of them
    weights : (T,) of each
    temperature : divides the logits
    """

    def __init__(
        self, network: Network, backend: Backend, weights: Sequence[NDArray[np.float32]], temperature: float
    ) -> None:
        self._executor = choose(network, backend)
        self_check(self._executor)
        self._states = [State.of(each) for each in weights]
        self._temperature = temperature

    def targets(self, samples: Samples, plan: EpochPlan) -> NDArray[np.float32]:
        """Return the mean softmax (M, K) of the images of an epoch, in its order, distorted as its plan says."""
        total = np.zeros((len(plan.order), self._executor.network.classes))
        for state in self._states:
            self._executor.write(state)
            total += probabilities(self._executor.predict_epoch(samples, plan) / self._temperature)
        return (total / len(self._states)).astype(np.float32)

    def sharpened(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the weights (T,) with which a student is as sure as its teachers.

        Its softmax has learned their softmax of logits / temperature; so its logits are to be multiplied by it.
        """
        sharp = weights.copy()
        for parameter in self._executor.network.parameters:
            if parameter.layer == "output":
                parameter.view(sharp)[:] *= np.float32(self._temperature)
        return sharp


def teacher_description(description: Description, number: int) -> Description:
    """Describe the run of teacher ``number``, counted from 1: as the student's, with labels and a seed of its own."""
    settings = description.settings
    seed = (1000 * settings.training.seed + number) % (MAX_SEED + 1)
    alone = replace(settings.override("training", seed=seed), distillation=DistillationSettings())
    return replace(description, settings=alone)


def teacher_folder(path: Path, number: int) -> Path:
    """Return where teacher ``number`` of the network in ``path`` is saved."""
    return path / storage.TEACHERS / str(number)


def find_teacher(path: Path, number: int, description: Description, *, resumed: bool) -> Saved | None:
    """Return what is saved of a teacher, perhaps not all its epochs; None for nothing.

    ``description`` is the student's. When its run is ``resumed``, perhaps for more epochs, teachers stay as they are.

    Raises
    ------
    LenetError
        When there is a network of other settings, or of another data set, or a damaged one.
    """
    folder = teacher_folder(path, number)
    if not storage.is_network(folder):
        return None
    saved = storage.load(folder, with_state=True)
    expected = teacher_description(description, number)
    settings = saved.description.settings
    if resumed:
        settings = settings.override("training", epochs=expected.settings.training.epochs)
    same = (settings, saved.description.dataset_sha256, saved.description.validation_images)
    if same != (expected.settings, expected.dataset_sha256, expected.validation_images):
        raise LenetError(f"{folder} holds no teacher of this network; --overwrite replaces it")
    return saved
