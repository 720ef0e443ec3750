"""The layers of LeNet-5: each formula once, forward and backward, in terms of a backend's primitives.

A layer owns no arrays. It is handed its input ``x``, its parameters ``p``, where to write their gradients ``g``, and
its buffers ``s``; the letters of the shapes are explained in `lenet.specs`. ``dy`` is the gradient of the batch's mean
loss with respect to the output ``y``, ``dx`` with respect to the input ``x``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Protocol

from lenet.backends.base import Array, Backend
from lenet.specs import ActivationSpec, Conv2DSpec, DenseSpec, Pool2DSpec

Shape = tuple[int, ...]


class Arrays(SimpleNamespace):
    """Arrays by name: ``p.weight``, ``g.bias``, ``s.y``, ``s.dx``."""

    def first(self, count: int) -> "Arrays":
        """Return views of the first ``count`` images of each."""
        return Arrays(**{name: None if array is None else array[:count] for name, array in vars(self).items()})


class Spec(Protocol):
    """What every spec tells of one image's shapes."""

    @property
    def input_shape(self) -> Shape:
        """Shape of the input."""

    @property
    def output_shape(self) -> Shape:
        """Shape of the output."""


@dataclass(frozen=True)
class Layer(ABC):
    """One step of the network: a name, as in the paper, and a geometry."""

    name: str
    spec: Spec

    @property
    def parameter_shapes(self) -> Mapping[str, Shape]:
        """Name and shape of each parameter, in the order in which they are stored."""
        return {}

    @property
    def buffer_shapes(self) -> Mapping[str, Shape]:
        """Name and shape, for one image, of each buffer; ``argmax`` holds bytes, all others floats."""
        return {"y": self.spec.output_shape, "dx": self.spec.input_shape}

    @abstractmethod
    def forward(self, backend: Backend, x: Array, p: Arrays, s: Arrays) -> Array:
        """Return ``y``."""

    @abstractmethod
    def backward(self, backend: Backend, dy: Array, x: Array, y: Array, p: Arrays, g: Arrays, s: Arrays) -> Array:
        """Write the gradients of the parameters into ``g`` and return ``dx``.

        The first layer of a network is given no ``s.dx`` (None) and computes none.
        """


@dataclass(frozen=True)
class Conv2D(Layer):
    """Feature maps, (N, C, H, W) -> (N, K, P, Q): LeCun et al. 1998, section II.B, layers C1 and C3.

    y[k] = b[k] + sum of x[c] * w[k,c] over the maps c that k is connected to; * is the valid cross-correlation.
    """

    spec: Conv2DSpec

    @property
    def parameter_shapes(self) -> Mapping[str, Shape]:
        return {"weight": self.spec.weight_shape, "bias": self.spec.bias_shape}

    def forward(self, backend: Backend, x: Array, p: Arrays, s: Arrays) -> Array:
        backend.conv2d_forward(self.spec, x, p.weight, p.bias, out=s.y)
        return s.y

    def backward(self, backend: Backend, dy: Array, x: Array, y: Array, p: Arrays, g: Arrays, s: Arrays) -> Array:
        backend.conv2d_backward(self.spec, dy, x, p.weight, dx=s.dx, dweight=g.weight, dbias=g.bias)
        return s.dx


@dataclass(frozen=True)
class Pool2D(Layer):
    """Subsampling, (N, C, H, W) -> (N, C, P, Q): layers S2 and S4, without the paper's coefficient and bias."""

    spec: Pool2DSpec

    @property
    def buffer_shapes(self) -> Mapping[str, Shape]:
        shapes = super().buffer_shapes
        return {**shapes, "argmax": self.spec.output_shape} if self.spec.mode == "max" else shapes

    def forward(self, backend: Backend, x: Array, p: Arrays, s: Arrays) -> Array:
        backend.pool2d_forward(self.spec, x, out=s.y, argmax=s.argmax)
        return s.y

    def backward(self, backend: Backend, dy: Array, x: Array, y: Array, p: Arrays, g: Arrays, s: Arrays) -> Array:
        backend.pool2d_backward(self.spec, dy, s.argmax, dx=s.dx)
        return s.dx


@dataclass(frozen=True)
class Dense(Layer):
    """Fully connected, (N, D) -> (N, K): y = x w^T + b. Layers F5 (C5 in the paper), F6 and output.

    Maps (N, C, P, Q) are taken as one vector of D = C P Q numbers an image.
    """

    spec: DenseSpec

    @property
    def parameter_shapes(self) -> Mapping[str, Shape]:
        return {"weight": self.spec.weight_shape, "bias": self.spec.bias_shape}

    def forward(self, backend: Backend, x: Array, p: Arrays, s: Arrays) -> Array:
        backend.dense_forward(self.spec, x.reshape(len(x), -1), p.weight, p.bias, out=s.y)
        return s.y

    def backward(self, backend: Backend, dy: Array, x: Array, y: Array, p: Arrays, g: Arrays, s: Arrays) -> Array:
        x_flat = x.reshape(len(x), -1)
        backend.dense_backward(self.spec, dy, x_flat, p.weight, dx=s.dx, dweight=g.weight, dbias=g.bias)
        return s.dx.reshape(x.shape)


@dataclass(frozen=True)
class Activation(Layer):
    """The squashing function, y = f(x) elementwise (LeCun et al. 1998, equation 6), in place: y overwrites x."""

    spec: ActivationSpec

    @property
    def buffer_shapes(self) -> Mapping[str, Shape]:
        return {}

    def forward(self, backend: Backend, x: Array, p: Arrays, s: Arrays) -> Array:
        backend.activation_forward(self.spec.kind, x, out=x)
        return x

    def backward(self, backend: Backend, dy: Array, x: Array, y: Array, p: Arrays, g: Arrays, s: Arrays) -> Array:
        backend.activation_backward(self.spec.kind, dy, y, dx=dy)
        return dy
