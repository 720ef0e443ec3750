"""A network is a tuple of layers; its parameters are one flat vector with a named view for each."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from lenet.backends.base import Array
from lenet.layers import Arrays, Layer, Shape


@dataclass(frozen=True)
class Parameter:
    """One array of parameters and its place in the flat vector."""

    layer: str
    name: str
    shape: Shape
    offset: int

    @property
    def key(self) -> str:
        """``C1.weight`` and the like: the name of the saved file."""
        return f"{self.layer}.{self.name}"

    def view(self, flat: Array) -> Array:
        """Return this parameter as a view of the flat vector."""
        return flat[self.offset : self.offset + prod(self.shape)].reshape(self.shape)


@dataclass(frozen=True)
class Network:
    """Layers in order; the last one's outputs are the logits of a softmax, one per class."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        for below, above in zip(self.layers, self.layers[1:], strict=False):
            given, taken = below.spec.output_shape, above.spec.input_shape
            if prod(given) != prod(taken):
                raise ValueError(f"{above.name} takes {taken}, {below.name} gives {given}")

    @property
    def input_shape(self) -> Shape:
        """Shape of one image: (1, H, W)."""
        return self.layers[0].spec.input_shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.layers[-1].spec.output_shape[0]

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, in the order of the flat vector."""
        return tuple(self._lay_out())

    def _lay_out(self) -> Iterator[Parameter]:
        offset = 0
        for layer in self.layers:
            for name, shape in layer.parameter_shapes.items():
                yield Parameter(layer.name, name, shape, offset)
                offset += prod(shape)

    @property
    def size(self) -> int:
        """Number of parameters, T."""
        return sum(prod(parameter.shape) for parameter in self.parameters)

    def views(self, flat: Array) -> list[Arrays]:
        """Return, layer by layer, the named views of a flat vector (T,) of parameters or gradients."""
        by_layer = [Arrays() for _ in self.layers]
        index = {layer.name: arrays for layer, arrays in zip(self.layers, by_layer, strict=True)}
        for parameter in self.parameters:
            setattr(index[parameter.layer], parameter.name, parameter.view(flat))
        return by_layer
