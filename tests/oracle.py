"""The oracle: every computing primitive from its textbook definition, in float64, one number after the other.

Slow on purpose and independent on purpose: nothing of lenet is imported, and no code is shared with it. Loops run over
maps, pixels and units; only the batch axis is left to NumPy. The letters are those of the package: N images, C and K
maps in and out, H x W and P x Q pixels in and out, R x S pixels of a kernel, D and K units in and out.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int32]
Connections = Sequence[tuple[int, int]]
"""Pairs (output map k, input map c) in the order of the kernels."""


def distort(images: Bytes, index: Integers, transforms: Floats | None) -> Floats:
    """Return (N, 1, H, W): the images (M, H, W) named by ``index`` (N,), resampled bilinearly and scaled to [0, 1]."""
    count, (_, height, width) = len(index), images.shape
    if transforms is None:
        transforms = np.tile(np.eye(2, 3), (count, 1, 1))
    out = np.zeros((count, 1, height, width))
    for y, x in product(range(height), range(width)):
        source_x = transforms[:, 0, 0] * x + transforms[:, 0, 1] * y + transforms[:, 0, 2]
        source_y = transforms[:, 1, 0] * x + transforms[:, 1, 1] * y + transforms[:, 1, 2]
        left, top = np.floor(source_x), np.floor(source_y)
        for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
            share = (1 - abs(source_x - column)) * (1 - abs(source_y - row))
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixel = images[index[inside], row[inside].astype(int), column[inside].astype(int)]
            out[inside, 0, y, x] += share[inside] * pixel / 255.0
    return out


def conv2d_forward(x: Floats, weight: Floats, bias: Floats, connections: Connections) -> Floats:
    """Return (N, K, P, Q): the valid cross-correlation of x (N, C, H, W) with one kernel (R, S) a connection."""
    count, _, height, width = x.shape
    _, kernel_height, kernel_width = weight.shape
    rows, columns = height - kernel_height + 1, width - kernel_width + 1
    out = np.zeros((count, len(bias), rows, columns))
    for k in range(len(bias)):
        out[:, k] = bias[k]
    for e, (k, c) in enumerate(connections):
        for p, q, r, s in product(range(rows), range(columns), range(kernel_height), range(kernel_width)):
            out[:, k, p, q] += weight[e, r, s] * x[:, c, p + r, q + s]
    return out


def conv2d_backward(dy: Floats, x: Floats, weight: Floats, connections: Connections) -> tuple[Floats, Floats, Floats]:
    """Return dx, dweight and dbias: each product of the forward pass hands ``dy`` to both of its factors."""
    _, maps, rows, columns = dy.shape
    _, kernel_height, kernel_width = weight.shape
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(maps)
    for e, (k, c) in enumerate(connections):
        for p, q, r, s in product(range(rows), range(columns), range(kernel_height), range(kernel_width)):
            dx[:, c, p + r, q + s] += weight[e, r, s] * dy[:, k, p, q]
            dweight[e, r, s] += dy[:, k, p, q] @ x[:, c, p + r, q + s]
    for k, p, q in product(range(maps), range(rows), range(columns)):
        dbias[k] += dy[:, k, p, q].sum()
    return dx, dweight, dbias


def pool2d_forward(x: Floats, window: int, mode: str) -> tuple[Floats, Bytes]:
    """Return (N, C, P, Q) and, for the maximum, where in its window it was found first, row by row."""
    count, maps, height, width = x.shape
    out = np.zeros((count, maps, height // window, width // window))
    first = np.zeros(out.shape, np.uint8)
    for n, c, p, q in np.ndindex(out.shape):
        values = [float(x[n, c, p * window + i, q * window + j]) for i in range(window) for j in range(window)]
        if mode == "max":
            out[n, c, p, q] = max(values)
            first[n, c, p, q] = values.index(max(values))
        else:
            out[n, c, p, q] = math.fsum(values) / window**2
    return out, first


def pool2d_backward(dy: Floats, window: int, mode: str, first: Bytes) -> Floats:
    """Return dx (N, C, H, W): the mean shares ``dy`` equally, the maximum takes all of it."""
    count, maps, rows, columns = dy.shape
    dx = np.zeros((count, maps, rows * window, columns * window))
    for n, c, p, q in np.ndindex(dy.shape):
        if mode == "max":
            i, j = divmod(int(first[n, c, p, q]), window)
            dx[n, c, p * window + i, q * window + j] = dy[n, c, p, q]
        else:
            for i, j in product(range(window), range(window)):
                dx[n, c, p * window + i, q * window + j] = dy[n, c, p, q] / window**2
    return dx


def dense_forward(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Return (N, K): unit k adds its bias to the inputs x (N, D) weighed with weight (K, D)."""
    out = np.zeros((len(x), len(bias)))
    for k in range(len(bias)):
        out[:, k] = bias[k]
        for d in range(x.shape[1]):
            out[:, k] += weight[k, d] * x[:, d]
    return out


def dense_backward(dy: Floats, x: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Return dx, dweight and dbias."""
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(len(weight))
    for k in range(len(weight)):
        dbias[k] = dy[:, k].sum()
        for d in range(x.shape[1]):
            dx[:, d] += weight[k, d] * dy[:, k]
            dweight[k, d] = dy[:, k] @ x[:, d]
    return dx, dweight, dbias


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _sech_squared(x: float) -> float:
    """Return 1 / cosh(x)^2, the derivative of tanh, without overflow."""
    decay = math.exp(-2.0 * abs(x))
    return 4.0 * decay / (1.0 + decay) ** 2


_FUNCTIONS = {
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "scaled_tanh": lambda x: 1.7159 * math.tanh(2.0 * x / 3.0),
    "relu": lambda x: x if x > 0 else 0.0,
}

_DERIVATIVES = {
    "sigmoid": lambda x: _sigmoid(x) * _sigmoid(-x),
    "tanh": _sech_squared,
    "scaled_tanh": lambda x: 1.7159 * 2.0 / 3.0 * _sech_squared(2.0 * x / 3.0),
    "relu": lambda x: 1.0 if x > 0 else 0.0,
}


def _each(function: Any, x: Floats) -> Floats:
    return np.array([function(float(value)) for value in x.ravel()]).reshape(x.shape)


def activation_forward(kind: str, x: Floats) -> Floats:
    """Return f(x)."""
    return _each(_FUNCTIONS[kind], x)


def activation_backward(kind: str, dy: Floats, x: Floats) -> Floats:
    """Return dy f'(x), the derivative taken from the input, not from the output as in the package."""
    return dy * _each(_DERIVATIVES[kind], x)


def one_hot(labels: Integers, classes: int) -> Floats:
    """Return the targets (N, K) of labels (N,)."""
    return np.array([[float(k == label) for k in range(classes)] for label in labels]).reshape(-1, classes)


def softmax_cross_entropy(logits: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Return -sum target log p of each image (N,), and the gradient of their mean with respect to the logits (N, K)."""
    losses, dlogits = np.zeros(len(logits)), np.zeros(logits.shape)
    for n, target in enumerate(targets.tolist()):
        row = [float(value) for value in logits[n]]
        top = max(row)
        total = math.fsum(math.exp(value - top) for value in row)
        losses[n] = math.fsum(
            share * (math.log(total) - (value - top)) for share, value in zip(target, row, strict=True) if share
        )
        for k, value in enumerate(row):
            dlogits[n, k] = (math.exp(value - top) / total - target[k]) / len(logits)
    return losses, dlogits


def argmax(x: Floats) -> Integers:
    """Return (N,): where the largest number of each row stands first."""
    return np.array([list(row).index(max(row)) for row in x.tolist()], np.int32)


def gradient_descent(w: float, g: float, learning_rate: float) -> float:
    """Return the new weight."""
    return w - learning_rate * g


def momentum(w: float, g: float, v: float, learning_rate: float, keep: float) -> tuple[float, float]:
    """Return the new weight and velocity."""
    v = keep * v + g
    return w - learning_rate * v, v


def adam(
    w: float, g: float, m: float, v: float, learning_rate: float, betas: tuple[float, float], epsilon: float, t: int
) -> tuple[float, float, float]:
    """Return the new weight and both moments, after step ``t`` = 1, 2, ... of Kingma and Ba's Algorithm 1."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return w - learning_rate * m_hat / (math.sqrt(v_hat) + epsilon), m, v


def moving_average(average: float, w: float, decay: float) -> float:
    """Return the new average."""
    return decay * average + (1 - decay) * w
