"""Every primitive of a training step by itself, with how much it computes and moves: what a roofline is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lenet.backends import Array, Backend
from lenet.layers import Activation, Conv2D, Dense, Layer, Pool2D
from lenet.network import Network
from lenet.optimizers import Rule

MAP = np.array([[1, 0.1, -1.2], [-0.1, 1, 0.7]], np.float32)  # a small turn, for distortion
FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Primitive:
    """One primitive on arrays of its own, random numbers.

    Attributes
    ----------
    name : as in "C3 forward"
    run : calls it once
    operations : floating-point operations of a call, products with weights and their sums alone
    traffic : bytes of a call, if every array is read or written once, and one that is updated twice
    """

    name: str
    run: Callable[[], object]
    operations: int
    traffic: int


def forward_operations(layer: Layer) -> int:
    """Return the floating-point operations that a layer of weights needs for one image, two for each product."""
    match layer:
        case Conv2D():
            return 2 * prod(layer.spec.weight_shape) * prod(layer.spec.output_shape[1:])
        case Dense():
            return 2 * prod(layer.spec.weight_shape)
        case _:
            return 0


def backward_operations(layer: Layer, network: Network) -> int:
    """Return the same for the gradients: of the weights and, but for the first layer, of the inputs."""
    return (1 if layer is network.layers[0] else 2) * forward_operations(layer)


def step_operations(network: Network) -> int:
    """Return the floating-point operations of a training step for one image."""
    return sum(forward_operations(layer) + backward_operations(layer, network) for layer in network.layers)


def primitives(network: Network, backend: Backend, batch: int, rule: Rule) -> list[Primitive]:
    """Return the primitives of a training step with a moving average of the weights, in the order of the step."""
    random = np.random.default_rng(0)

    def floats(*shape: int) -> Array:
        return backend.to_device(random.random(shape, dtype=np.float32))

    def integers(high: int, *shape: int, dtype: Any) -> Array:
        return backend.to_device(random.integers(0, high, shape, dtype))

    def primitive(
        name: str, function: Callable[..., None], *arguments: Any, updated: tuple[Any, ...] = (), operations: int = 0
    ) -> Primitive:
        arrays = [argument for argument in (*arguments, *updated) if hasattr(argument, "nbytes")]
        return Primitive(name, lambda: function(*arguments), operations, sum(int(array.nbytes) for array in arrays))

    _, height, width = network.input_shape
    found = [
        primitive(
            "distort",
            backend.distort,
            integers(256, batch, height, width, dtype=np.uint8),
            backend.to_device(np.arange(batch, dtype=np.int32)),
            backend.to_device(np.tile(MAP, (batch, 1, 1))),
            floats(batch, *network.input_shape),
        )
    ]
    backward = []
    for layer in network.layers:
        spec: Any = layer.spec
        x, y = floats(batch, *spec.input_shape), floats(batch, *spec.output_shape)
        out = backend.empty(y.shape)
        dx = None if layer is network.layers[0] else backend.empty(x.shape)
        p = [floats(*shape) for shape in layer.parameter_shapes.values()]
        g = [backend.empty(shape) for shape in layer.parameter_shapes.values()]
        forth: tuple[Any, ...]
        back: tuple[Any, ...]
        match layer:
            case Conv2D():
                forth = backend.conv2d_forward, spec, x, *p, out
                back = backend.conv2d_backward, spec, y, x, p[0], dx, *g
            case Pool2D():
                argmax = integers(spec.window**2, *y.shape, dtype=np.uint8) if spec.mode == "max" else None
                forth = backend.pool2d_forward, spec, x, out, argmax
                back = backend.pool2d_backward, spec, y, argmax, dx
            case Dense():
                x = x.reshape(batch, -1)
                forth = backend.dense_forward, spec, x, *p, out
                back = backend.dense_backward, spec, y, x, p[0], backend.empty(x.shape), *g
            case Activation():
                forth = backend.activation_forward, spec.kind, x, out
                back = backend.activation_backward, spec.kind, y, x, dx
            case _:
                raise TypeError(f"{layer.name} is of an unknown kind")
        computed = batch * forward_operations(layer), batch * backward_operations(layer, network)
        found.append(primitive(f"{layer.name} {FORWARD}", *forth, operations=computed[0]))
        backward.append(primitive(f"{layer.name} {BACKWARD}", *back, operations=computed[1]))
    logits, losses = floats(batch, network.classes), backend.empty((batch,))
    targets = floats(batch, network.classes)
    parameters, gradients, average = (floats(network.size) for _ in range(3))
    moments = floats(rule.moments, network.size)
    hyper = backend.to_device(np.array([0.001, 0.5, 0.5, 0.999], backend.dtype))
    return [
        *found,
        primitive("cost", backend.softmax_cross_entropy, logits, targets, losses, backend.empty(logits.shape)),
        *reversed(backward),
        primitive(
            "update",
            backend.optimizer_step,
            *(rule, parameters, gradients, moments, average, hyper),
            updated=(parameters, moments, average),
        ),
    ]
