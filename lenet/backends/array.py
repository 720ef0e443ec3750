"""All primitives in array code: strided views and matrix products, for any library with NumPy's functions.

This is the readable reference. ``xp`` is that library; nothing here loops over images or pixels.
"""

from functools import lru_cache
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.backends.base import Array, Backend
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule
from lenet.specs import ActivationKind, ConnectionTable, Conv2DSpec, DenseSpec, Pool2DSpec

SCALED_TANH_AMPLITUDE = 1.7159
SCALED_TANH_SLOPE = 2.0 / 3.0


@lru_cache
def _kernel_index(table: ConnectionTable) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return output map and input map of each connection: where kernel e sits in a dense (K, C, R, S) array."""
    k, c = np.array(table.connections, dtype=np.intp).T
    return k, c


class ArrayBackend(Backend):
    """Every primitive in terms of the array library ``xp``."""

    def __init__(self, xp: ModuleType, dtype: DTypeLike = np.float32) -> None:
        self.xp = xp
        self.dtype = np.dtype(dtype)

    # arrays ------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Array:
        return self.xp.empty(shape, dtype=self.dtype if dtype is None else dtype)

    # images ------------------------------------------------------------------------------------------------------

    def distort(self, images: Array, index: Array | None, transforms: Array | None, out: Array) -> None:
        xp, (count, _, height, width) = self.xp, out.shape
        source = images[:count] if index is None else images[index]
        if transforms is None:
            xp.multiply(source, self.dtype.type(1 / 255), out=out[:, 0])
            return
        # A border of zeros two pixels wide holds every neighbor of every point, once points far out are clipped to it.
        padded = xp.pad(source, ((0, 0), (2, 2), (2, 2)))
        rows = xp.arange(height, dtype=self.dtype)[:, None]
        columns = xp.arange(width, dtype=self.dtype)
        (a, b, c), (d, e, f) = transforms.transpose(1, 2, 0)[..., None, None]
        x = xp.clip(a * columns + b * rows + c, -2, width) + 2
        y = xp.clip(d * columns + e * rows + f, -2, height) + 2
        left, top = x.astype(np.int32), y.astype(np.int32)
        right_share, bottom_share = x - left, y - top
        image = xp.arange(count)[:, None, None]
        upper, lower = (
            padded[image, row, left] * (1 - right_share) + padded[image, row, left + 1] * right_share
            for row in (top, top + 1)
        )
        out[:, 0] = (upper * (1 - bottom_share) + lower * bottom_share) * self.dtype.type(1 / 255)

    # layers ------------------------------------------------------------------------------------------------------

    def _patches(self, spec: Conv2DSpec, x: Array) -> Array:
        """Return x[n,c,p+r,q+s] as a view (N, C, R, S, P, Q)."""
        window = (spec.kernel_height, spec.kernel_width)
        view = self.xp.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
        return view.transpose(0, 1, 4, 5, 2, 3)

    def _dense_kernels(self, spec: Conv2DSpec, weight: Array) -> Array:
        """Return the kernels (E, R, S) as a matrix (K, C R S), zero where maps are not connected."""
        dense = self.xp.zeros((spec.table.outputs, spec.table.inputs, *spec.weight_shape[1:]), dtype=weight.dtype)
        dense[_kernel_index(spec.table)] = weight
        return dense.reshape(spec.table.outputs, -1)

    def conv2d_forward(self, spec: Conv2DSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        count, (maps, height, width) = len(x), spec.output_shape
        columns = self._patches(spec, x).reshape(count, -1, height * width)
        self.xp.matmul(self._dense_kernels(spec, weight), columns, out=out.reshape(count, maps, height * width))
        out += bias[:, None, None]

    def conv2d_backward(
        self, spec: Conv2DSpec, dy: Array, x: Array, weight: Array, dx: Array | None, dweight: Array, dbias: Array
    ) -> None:
        xp, count, (maps, height, width) = self.xp, len(x), spec.output_shape
        columns = self._patches(spec, x).reshape(count, -1, height * width)
        rows = dy.reshape(count, maps, height * width)
        per_image = xp.matmul(rows, columns.transpose(0, 2, 1))
        per_pair = per_image.sum(axis=0).reshape(maps, spec.table.inputs, *spec.weight_shape[1:])
        dweight[:] = per_pair[_kernel_index(spec.table)]
        xp.sum(dy, axis=(0, 2, 3), out=dbias)
        if dx is None:
            return
        spread = xp.matmul(self._dense_kernels(spec, weight).T, rows)
        spread = spread.reshape(count, spec.table.inputs, spec.kernel_height, spec.kernel_width, height, width)
        dx[:] = 0
        for r in range(spec.kernel_height):
            for s in range(spec.kernel_width):
                dx[:, :, r : r + height, s : s + width] += spread[:, :, r, s]

    def _windows(self, spec: Pool2DSpec, array: Array) -> Array:
        """Return an array (N, C, H, W) as a view (N, C, P, window, Q, window)."""
        maps, height, width = spec.output_shape
        return array.reshape(len(array), maps, height, spec.window, width, spec.window)

    def pool2d_forward(self, spec: Pool2DSpec, x: Array, out: Array, argmax: Array | None) -> None:
        windows = self._windows(spec, x)
        if argmax is None:
            self.xp.mean(windows, axis=(3, 5), out=out)
        else:
            flat = windows.transpose(0, 1, 2, 4, 3, 5).reshape(*out.shape, -1)
            argmax[:] = flat.argmax(axis=-1)
            self.xp.max(flat, axis=-1, out=out)

    def pool2d_backward(self, spec: Pool2DSpec, dy: Array, argmax: Array | None, dx: Array) -> None:
        windows = self._windows(spec, dx)
        if argmax is None:
            windows[:] = (dy * self.dtype.type(1 / spec.window**2))[:, :, :, None, :, None]
        else:
            position = self.xp.arange(spec.window**2).reshape(1, 1, 1, spec.window, 1, spec.window)
            hit = argmax[:, :, :, None, :, None] == position
            self.xp.multiply(hit, dy[:, :, :, None, :, None], out=windows)

    def dense_forward(self, spec: DenseSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        self.xp.matmul(x, weight.T, out=out)
        out += bias

    def dense_backward(
        self, spec: DenseSpec, dy: Array, x: Array, weight: Array, dx: Array, dweight: Array, dbias: Array
    ) -> None:
        self.xp.matmul(dy, weight, out=dx)
        self.xp.matmul(dy.T, x, out=dweight)
        self.xp.sum(dy, axis=0, out=dbias)

    def activation_forward(self, kind: ActivationKind, x: Array, out: Array) -> None:
        xp = self.xp
        match kind:
            case "sigmoid":  # 1 / (1 + exp(-x)), by way of tanh, which never overflows
                xp.tanh(x * 0.5, out=out)
                out *= 0.5
                out += 0.5
            case "tanh":
                xp.tanh(x, out=out)
            case "scaled_tanh":
                xp.tanh(x * SCALED_TANH_SLOPE, out=out)
                out *= SCALED_TANH_AMPLITUDE
            case "relu":
                xp.maximum(x, 0, out=out)

    def activation_backward(self, kind: ActivationKind, dy: Array, y: Array, dx: Array) -> None:
        match kind:
            case "sigmoid":
                derivative = y * (1 - y)
            case "tanh":
                derivative = 1 - y * y
            case "scaled_tanh":
                derivative = SCALED_TANH_SLOPE * (SCALED_TANH_AMPLITUDE - y * y / SCALED_TANH_AMPLITUDE)
            case "relu":
                derivative = y > 0
        self.xp.multiply(dy, derivative, out=dx)

    def softmax_cross_entropy(self, logits: Array, targets: Array, losses: Array, dlogits: Array) -> None:
        xp = self.xp
        shifted = logits - logits.max(axis=1, keepdims=True)
        xp.exp(shifted, out=dlogits)
        total = dlogits.sum(axis=1, keepdims=True)
        losses[:] = (targets * (xp.log(total) - shifted)).sum(axis=1)
        dlogits /= total
        dlogits -= targets
        dlogits *= self.dtype.type(1 / len(logits))

    def argmax(self, x: Array, out: Array) -> None:
        out[:] = x.argmax(axis=1)

    # training ----------------------------------------------------------------------------------------------------

    def optimizer_step(
        self, rule: Rule, parameters: Array, gradients: Array, moments: Array, average: Array | None, hyper: Array
    ) -> None:
        learning_rate, correction1, correction2, average_decay = hyper
        match rule:
            case GradientDescent():
                parameters -= learning_rate * gradients
            case Momentum(momentum):
                (v,) = moments
                v *= momentum
                v += gradients
                parameters -= learning_rate * v
            case Adam(beta1, beta2, epsilon):
                m, v = moments
                m *= beta1
                m += (1 - beta1) * gradients
                v *= beta2
                v += (1 - beta2) * (gradients * gradients)
                parameters -= learning_rate * (m / correction1) / (self.xp.sqrt(v / correction2) + epsilon)
        if average is not None:
            average += (1 - average_decay) * (parameters - average)
