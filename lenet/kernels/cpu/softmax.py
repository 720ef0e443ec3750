"""Softmax and cross-entropy."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel

Floats = NDArray[np.float32]


@helper
def _image(logits: Floats, targets: Floats, share: np.float32, dlogits: Floats) -> np.float32:
    """Write the gradient of one image, which has the given share in the mean loss, and return its loss."""
    largest = logits[0]
    for k in range(1, len(logits)):
        largest = max(largest, logits[k])
    total, loss = np.float32(0), np.float32(0)
    for k in range(len(logits)):
        dlogits[k] = np.exp(logits[k] - largest)
        total += dlogits[k]
    for k in range(len(logits)):
        loss += targets[k] * (np.log(total) - (logits[k] - largest))
        dlogits[k] = share * (dlogits[k] / total - targets[k])
    return loss


@kernel
def cross_entropy(logits: Floats, targets: Floats, losses: Floats, dlogits: Floats) -> None:
    """losses = -sum of targets log softmax(logits), dlogits = (softmax - targets) / N; the maximum is subtracted first.

    ``logits``, ``targets``, ``dlogits`` (N, K), ``losses`` (N,).
    """
    share = np.float32(1) / np.float32(len(logits))
    for n in prange(len(logits)):
        losses[n] = _image(logits[n], targets[n], share, dlogits[n])
