"""lenet's parameters and distortions as PyTorch and JAX take them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.layers import Conv2D
from lenet.network import Network
from lenet.specs import ConnectionTable

Floats = NDArray[Any]


def tables(network: Network) -> dict[str, ConnectionTable]:
    """Return the connection table of each convolution, by the name of its weights."""
    return {f"{layer.name}.weight": layer.spec.table for layer in network.layers if isinstance(layer, Conv2D)}


def mask(table: ConnectionTable) -> Floats:
    """Return which pairs of maps a convolution connects, (K, C, 1, 1) of 0 and 1."""
    connected = np.zeros((table.outputs, table.inputs, 1, 1), np.float32)
    connected[tuple(np.array(table.connections).T)] = 1
    return connected


def unfold(network: Network, flat: Floats) -> dict[str, Floats]:
    """Return a vector of parameters as arrays by name; kernels (K, C, R, S), zero where unconnected."""
    arrays = {parameter.key: np.array(parameter.view(flat)) for parameter in network.parameters}
    for name, table in tables(network).items():
        dense = np.zeros((table.outputs, table.inputs, *arrays[name].shape[1:]), flat.dtype)
        dense[tuple(np.array(table.connections).T)] = arrays[name]
        arrays[name] = dense
    return arrays


def fold(network: Network, arrays: dict[str, Floats]) -> Floats:
    """Return arrays by name as a vector of parameters."""
    convolutions = tables(network)
    parts = []
    for name, array in arrays.items():
        table = convolutions.get(name)
        parts.append(array if table is None else array[tuple(np.array(table.connections).T)])
    return np.concatenate([part.ravel() for part in parts])


def normalized(transforms: Floats, height: int, width: int) -> Floats:
    """Return affine maps of pixels as maps of coordinates from -1 to 1, corner to corner, as affine_grid takes them."""
    to_pixels = np.array([[(width - 1) / 2, 0, (width - 1) / 2], [0, (height - 1) / 2, (height - 1) / 2], [0, 0, 1]])
    from_pixels = np.linalg.inv(to_pixels)[:2]
    last = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (len(transforms), 1, 3))
    return (from_pixels @ np.concatenate([transforms, last], axis=1) @ to_pixels).astype(np.float32)
