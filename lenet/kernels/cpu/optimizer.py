"""The update rules, in blocks: each line of a rule is a loop of its own, and from line to line a block stays cached."""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from lenet.kernels.cpu.options import helper, kernel

Floats = NDArray[np.float32]

BLOCK = 2048  # the same for every number of threads, and so is which numbers are computed as vectors


@helper
def _update_average(parameters: Floats, average: Floats, decay: np.float32) -> None:
    rate = np.float32(1) - decay
    for i in range(len(average)):
        average[i] += rate * (parameters[i] - average[i])


@helper
def _descend(parameters: Floats, gradients: Floats, learning_rate: np.float32) -> None:
    for i in range(len(parameters)):
        parameters[i] -= learning_rate * gradients[i]


@kernel
def gradient_descent(parameters: Floats, gradients: Floats, average: Floats, hyper: Floats) -> None:
    """w <- w - learning_rate g, then the average; (T,) each, an empty ``average`` for none, ``hyper`` (4,)."""
    learning_rate, decay = hyper[0], hyper[3]
    for block in prange((len(parameters) + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _descend(parameters[part], gradients[part], learning_rate)
        _update_average(parameters[part], average[part], decay)


@helper
def _accumulate(velocity: Floats, gradients: Floats, factor: np.float32) -> None:
    for i in range(len(velocity)):
        velocity[i] = factor * velocity[i] + gradients[i]


@kernel
def momentum(
    parameters: Floats, gradients: Floats, velocity: Floats, average: Floats, hyper: Floats, factor: np.float32
) -> None:
    """v <- factor v + g;  w <- w - learning_rate v; then the average."""
    learning_rate, decay = hyper[0], hyper[3]
    for block in prange((len(parameters) + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _accumulate(velocity[part], gradients[part], factor)
        _descend(parameters[part], velocity[part], learning_rate)
        _update_average(parameters[part], average[part], decay)


@helper
def _update_moments(m: Floats, v: Floats, gradients: Floats, rate1: np.float32, rate2: np.float32) -> None:
    for i in range(len(m)):
        m[i] = (np.float32(1) - rate1) * m[i] + rate1 * gradients[i]
    for i in range(len(v)):
        v[i] = (np.float32(1) - rate2) * v[i] + rate2 * (gradients[i] * gradients[i])


@helper
def _descend_scaled(
    parameters: Floats,
    m: Floats,
    v: Floats,
    learning_rate: np.float32,
    correction1: np.float32,
    correction2: np.float32,
    epsilon: np.float32,
) -> None:
    for i in range(len(parameters)):
        parameters[i] -= learning_rate * (m[i] / correction1) / (np.sqrt(v[i] / correction2) + epsilon)


@kernel
def adam(
    parameters: Floats,
    gradients: Floats,
    moments: Floats,
    average: Floats,
    hyper: Floats,
    rate1: np.float32,
    rate2: np.float32,
    epsilon: np.float32,
) -> None:
    """m <- (1 - rate1) m + rate1 g;  v <- (1 - rate2) v + rate2 g^2;  the step of Adam; then the average.

    ``moments`` (2, T) holds m and v; rate1 = 1 - beta1, rate2 = 1 - beta2.
    """
    learning_rate, correction1, correction2, decay = hyper[0], hyper[1], hyper[2], hyper[3]
    for block in prange((len(parameters) + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        m, v = moments[0, part], moments[1, part]
        _update_moments(m, v, gradients[part], rate1, rate2)
        _descend_scaled(parameters[part], m, v, learning_rate, correction1, correction2, epsilon)
        _update_average(parameters[part], average[part], decay)
