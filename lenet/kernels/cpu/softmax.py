"""Softmax and cross-entropy."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel

Floats = NDArray[np.float32]


@helper
def _image(logits: Floats, label: int, share: np.float32, dlogits: Floats) -> np.float32:
    """Write the gradient of one image, which has the given share in the mean loss, and return its loss."""
    largest = logits[0]
    for k in range(1, len(logits)):
        largest = max(largest, logits[k])
    total = np.float32(0)
    for k in range(len(logits)):
        dlogits[k] = np.exp(logits[k] - largest)
        total += dlogits[k]
    for k in range(len(logits)):
        dlogits[k] *= share / total
    dlogits[label] -= share
    return np.log(total) - (logits[label] - largest)


@kernel
def cross_entropy(logits: Floats, labels: NDArray[np.int32], losses: Floats, dlogits: Floats) -> None:
    """losses = -log softmax(logits)[label], dlogits = (softmax - one-hot) / N; the maximum is subtracted first.

    ``logits``, ``dlogits`` (N, K), ``labels``, ``losses`` (N,).
    """
    share = np.float32(1) / np.float32(len(logits))
    for n in prange(len(logits)):
        losses[n] = _image(logits[n], labels[n], share, dlogits[n])
