"""Looking inside a network: what every layer makes of one image, out of what, and what would change the answer.

All of it is asked of the readable reference in NumPy, through the layers' own forward and backward.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.backends import Array, get
from lenet.executors import EagerExecutor, State
from lenet.executors.eager import Workspace
from lenet.layers import Activation, Conv2D, Dense, Layer, Pool2D
from lenet.network import Network

INPUT = "input"
TERMS = 12  # of a dense unit that are shown one by one
STEP = 1.0  # length of a step, in the units of the input: as much as one pixel turned from paper to ink


Kind = Literal["conv", "pool", "dense", "output"]


@dataclass(frozen=True)
class Stage:
    """A layer as people see it: sums or windows, together with the squashing function that follows.

    Attributes
    ----------
    name : as in the paper
    kind
    index : place of ``layer`` in the network
    source : the name of the stage below, or ``input``
    function : what makes the value of the sum: the squashing function, ``mean`` or ``max``; ``identity`` for the output
    """

    name: str
    kind: Kind
    index: int
    layer: Layer
    source: str
    function: str


def stages(network: Network) -> tuple[Stage, ...]:
    """Return the stages of a network, from the image up."""
    found: list[Stage] = []
    for index, layer in enumerate(network.layers):
        above = network.layers[index + 1] if layer is not network.layers[-1] else None
        squashed = above.spec.kind if isinstance(above, Activation) else "identity"
        source = found[-1].name if found else INPUT
        match layer:
            case Conv2D():
                found.append(Stage(layer.name, "conv", index, layer, source, squashed))
            case Pool2D():
                found.append(Stage(layer.name, "pool", index, layer, source, layer.spec.mode))
            case Dense():
                found.append(Stage(layer.name, "dense" if above else "output", index, layer, source, squashed))
    return tuple(found)


@dataclass(frozen=True)
class Term:
    """One part of what a unit sums up.

    Attributes
    ----------
    place : where it comes from in the stage below: (map,) of a patch; (unit,) or (map, row, column) of a single number
    patch : the numbers there: (R, S), or a single one, ()
    kernel : the weights that they are multiplied with, of the same shape; None in a pooling window
    """

    place: tuple[int, ...]
    patch: NDArray[np.float64]
    kernel: NDArray[np.float64] | None

    @property
    def sum(self) -> float:
        """What the part adds."""
        return float(np.sum(self.patch if self.kernel is None else self.patch * self.kernel))


@dataclass(frozen=True)
class Unit:
    """One unit, taken apart: value = function(sum), sum = the terms + rest + bias.

    Attributes
    ----------
    terms : of a dense unit, only those that weigh most
    rest : the sum of the others
    """

    stage: Stage
    terms: tuple[Term, ...]
    rest: float
    bias: float
    sum: float
    value: float


@dataclass(frozen=True)
class Trace:
    """The way of one image through a network.

    Attributes
    ----------
    values : of ``input`` (1, H, W) and of each stage, by name, (K, P, Q) or (K,); those of the last are the logits
    """

    values: dict[str, NDArray[Any]]
    activations: tuple[Array, ...]
    workspace: Workspace

    @property
    def logits(self) -> NDArray[Any]:
        """The scores of the classes, (K,)."""
        return self.activations[-1][0]


class Inspector:
    """Asks one network with fixed weights; any number of threads may call it at once.

    Parameters
    ----------
    network
    weights : (T,)
    dtype : float32, as everywhere, or float64
    """

    def __init__(self, network: Network, weights: NDArray[Any], dtype: DTypeLike = np.float32) -> None:
        self.network = network
        self.stages = stages(network)
        self._backend = get("numpy", dtype=dtype)
        self._weights = weights.astype(dtype)
        self._parameters = network.views(self._weights)

    def trace(self, image: NDArray[np.uint8]) -> Trace:
        """Send one image (H, W) through the network."""
        backend, network = self._backend, self.network
        space = Workspace(network, backend, 1, training=True)
        space.layers[0].dx = backend.empty((1, *network.input_shape))  # training has no use for it, `gradient` has
        backend.distort(image[None], None, None, out=space.x)
        activations = [space.x]
        for layer, p, s in zip(network.layers, self._parameters, space.layers, strict=True):
            activations.append(layer.forward(backend, activations[-1], p, s))
        values = {INPUT: space.x[0]} | {stage.name: activations[stage.index + 1][0] for stage in self.stages}
        return Trace(values, tuple(activations), space)

    def unit(self, trace: Trace, stage: Stage, place: tuple[int, ...]) -> Unit:
        """Take one unit apart: (map, row, column), or (unit,) of a dense stage."""
        x = trace.values[stage.source].astype(np.float64)
        p = self._parameters[stage.index]
        bias, rest = 0.0, 0.0
        match stage.layer:
            case Conv2D(spec=spec):
                k, row, column = place
                bias = float(p.bias[k])
                window = np.s_[row : row + spec.kernel_height, column : column + spec.kernel_width]
                kernels = [(e, c) for e, (out, c) in enumerate(spec.table.connections) if out == k]
                terms = [Term((c,), x[c][window], p.weight[e].astype(np.float64)) for e, c in kernels]
            case Pool2D(spec=spec):
                k, row, column = (place[0], spec.window * place[1], spec.window * place[2])
                terms = [Term((k,), x[k, row : row + spec.window, column : column + spec.window], None)]
            case Dense():
                (k,) = place
                bias = float(p.bias[k])
                weights = p.weight[k].reshape(x.shape).astype(np.float64)
                order = np.argsort(-np.abs(x * weights), axis=None, kind="stable")
                places = [tuple(map(int, np.unravel_index(flat, x.shape))) for flat in order]
                every = [Term(each, x[each], weights[each]) for each in places]
                terms, rest = every[:TERMS], sum(term.sum for term in every[TERMS:])
            case _:
                raise AssertionError(f"{stage.name} is no stage")
        total = sum(term.sum for term in terms) + rest + bias
        return Unit(stage, tuple(terms), rest, bias, total, float(trace.values[stage.name][place]))

    def gradient(self, trace: Trace, toward: int, away: int) -> NDArray[Any]:
        """Return the derivative of logit ``toward`` - logit ``away`` by each pixel, (H, W); ink is 1, paper 0."""
        backend, network, space = self._backend, self.network, trace.workspace
        gradients = network.views(backend.empty((network.size,)))
        dy = np.zeros((1, network.classes), backend.dtype)
        dy[0, toward] += 1
        dy[0, away] -= 1
        for i, layer in reversed(list(enumerate(network.layers))):
            x, y = trace.activations[i : i + 2]
            dy = layer.backward(backend, dy, x, y, self._parameters[i], gradients[i], space.layers[i])
        return dy[0, 0]

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the logits (M, K) of images (M, H, W)."""
        return self._answer(self.network, images)

    def features(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Return what the last layer is given for each of ``images``: F6, (M, D)."""
        return self._answer(Network(self.network.layers[:-1]), images)

    def _answer(self, network: Network, images: NDArray[np.uint8]) -> NDArray[Any]:
        executor = EagerExecutor(network, self._backend)
        executor.write(State.of(self._weights[: network.size]))
        return executor.predict(images)


def take_step(image: NDArray[np.uint8], gradient: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the image with a little ink added and removed along the gradient, as far as paper and ink allow.

    Only pixels that can still move count for the direction; the whole change is at most `STEP` long.
    """
    ink = image / 255.0
    movable = np.where(gradient > 0, ink < 1, ink > 0)
    direction = np.where(movable, gradient, 0.0)
    length = float(np.linalg.norm(direction))
    if length == 0:
        return image
    moved = np.clip(ink + STEP / length * direction, 0, 1)
    return np.rint(255 * moved).astype(np.uint8)


@dataclass(frozen=True)
class Neighbor:
    """A training image and how far it is away in the space of F6."""

    index: int
    distance: float


def nearest(features: NDArray[Any], feature: NDArray[Any], count: int) -> list[Neighbor]:
    """Return the ``count`` rows of ``features`` (M, D) nearest to ``feature`` (D,), the nearest first."""
    parts = np.array_split(features, 1 + len(features) // 4096)  # the differences of all at once would be as large
    distances = np.concatenate([np.linalg.norm(part - feature, axis=1) for part in parts])
    count = min(count, len(distances))
    candidates = np.argpartition(distances, count - 1)[:count]
    order = candidates[np.lexsort((candidates, distances[candidates]))]
    return [Neighbor(int(i), float(distances[i])) for i in order]
