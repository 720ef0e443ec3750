"""Where training starts: random weights, drawn on the host, the same for every backend."""

from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from lenet.layers import Conv2D, Dense
from lenet.network import Network
from lenet.settings import Initialization
from lenet.streams import Purpose, stream, uniform


def initialize(network: Network, scheme: Initialization, seed: int) -> NDArray[np.float64]:
    """Draw all parameters of ``network`` as one flat vector (T,). Biases are zero, weights uniform in [-a, a].

    ``glorot``: a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16); ``lecun``: a = sqrt(3 / fan_in)
    (LeCun et al. 1998b, Efficient BackProp, section 4.6); ``he``: a = sqrt(6 / fan_in) (He et al. 2015, equation 10).
    A unit of a partially connected map counts only the connections it has.
    """
    flat = np.zeros(network.size)
    source = stream(seed, Purpose.INITIALIZATION)
    views = network.views(flat)
    for layer, p in zip(network.layers, views, strict=True):
        if isinstance(layer, Dense):
            bound = _bound(scheme, layer.spec.inputs, layer.spec.outputs)
            p.weight[:] = uniform(source, -bound, bound, p.weight.shape)
        elif isinstance(layer, Conv2D):
            table, area = layer.spec.table, prod(p.weight.shape[1:])
            fan_out = area * len(table.connections) / table.inputs
            start = 0
            for row in table.rows:
                bound = _bound(scheme, area * len(row), fan_out)
                kernels = p.weight[start : start + len(row)]
                kernels[:] = uniform(source, -bound, bound, kernels.shape)
                start += len(row)
    return flat


def _bound(scheme: Initialization, fan_in: float, fan_out: float) -> float:
    if scheme == "glorot":
        return sqrt(6.0 / (fan_in + fan_out))
    return sqrt((3.0 if scheme == "lecun" else 6.0) / fan_in)
