"""Softmax and cross-entropy."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel

Floats = NDArray[np.float32]


@helper
def _image(logits: Floats, label: int, smoothing: np.float32, share: np.float32, dlogits: Floats) -> np.float32:
    """Write the gradient of one image, which has the given share in the mean loss, and return its loss."""
    classes = np.float32(len(logits))
    largest = logits[0]
    for k in range(1, len(logits)):
        largest = max(largest, logits[k])
    total, mean = np.float32(0), np.float32(0)
    for k in range(len(logits)):
        dlogits[k] = np.exp(logits[k] - largest)
        total += dlogits[k]
        mean += logits[k] / classes
    for k in range(len(logits)):
        dlogits[k] = dlogits[k] * (share / total) - share * (smoothing / classes)
    dlogits[label] -= share * (np.float32(1) - smoothing)
    return np.log(total) - (logits[label] - largest) + smoothing * (logits[label] - mean)


@kernel
def cross_entropy(
    logits: Floats, labels: NDArray[np.int32], losses: Floats, dlogits: Floats, smoothing: np.float32
) -> None:
    """losses = -sum of target log softmax(logits), dlogits = (softmax - target) / N; the maximum is subtracted first.

    ``logits``, ``dlogits`` (N, K), ``labels``, ``losses`` (N,).
    """
    share = np.float32(1) / np.float32(len(logits))
    for n in prange(len(logits)):
        losses[n] = _image(logits[n], labels[n], smoothing, share, dlogits[n])
