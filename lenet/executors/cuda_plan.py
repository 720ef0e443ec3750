"""How a network is laid out for the fused CUDA kernels: their macros, and what memory they need."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lenet.errors import Unsupported
from lenet.layers import Activation, Conv2D, Dense, Pool2D
from lenet.network import Network
from lenet.specs import ConnectionTable, Conv2DSpec

THREADS = 512  # of the block that works one image
TILE_OUTPUTS, TILE_INPUTS = 16, 32  # weights that a block of the update owns
UPDATE_THREADS = TILE_OUTPUTS * TILE_INPUTS // 4
TILE_CONVOLUTIONS = 32  # likewise, parameters of the convolutions
ALIGNMENT = 4  # floats that are loaded at once
FLOAT = 4  # bytes


@dataclass(frozen=True)
class CudaPlan:
    """What the host has to know of the fused kernels.

    Attributes
    ----------
    macros : geometry, connections, and in how many parts the threads form a sum
    shared : bytes of shared memory for one image
    record : floats that an image leaves behind for the update
    update_blocks : blocks of the update
    """

    macros: dict[str, int | str]
    shared: int
    record: int
    update_blocks: int


def make_plan(network: Network) -> CudaPlan:
    """Lay out ``network``.

    Raises
    ------
    Unsupported
        When it is no LeNet-5, or has windows or kernels that the fused kernels are not made for.
    """
    match network.layers:
        case (
            Conv2D(spec=c1), Activation() as a1, Pool2D() as s2, Conv2D(spec=c3), Activation() as a3, Pool2D() as s4,
            Dense(spec=f5), Activation() as a5, Dense(spec=f6), Activation() as a6, Dense(spec=output),
        ):  # fmt: skip
            pass
        case _:
            raise Unsupported("the fused executor runs LeNet-5 only: C1, S2, C3, S4, F5, F6, output")
    for pool in (s2.spec, s4.spec):
        if pool.window != 2:
            raise Unsupported(f"the fused executor pools windows of 2 x 2, not {pool.window} x {pool.window}")
    for conv in (c1, c3):
        if conv.weight_shape[1:] != (5, 5):
            rows, columns = conv.weight_shape[1:]
            raise Unsupported(f"the fused executor has kernels of 5 x 5, not {rows} x {columns}")
    if len({layer.spec.kind for layer in (a1, a3, a5, a6)}) > 1 or s2.spec.mode != s4.spec.mode:
        raise Unsupported("the fused executor has one squashing function and one way of pooling")

    dense = (f5, f6, output)
    convolutions = _parameters(c1) + _parameters(c3)
    macros: dict[str, int | str] = {
        "THREADS": THREADS,
        "IMAGE_HEIGHT": c1.height,
        "IMAGE_WIDTH": c1.width,
        "KERNEL_HEIGHT": c1.kernel_height,
        "KERNEL_WIDTH": c1.kernel_width,
        "C1_MAPS": c1.table.outputs,
        "C3_MAPS": c3.table.outputs,
        "C3_CONNECTIONS": len(c3.table.connections),
        "F5_UNITS": f5.outputs,
        "F6_UNITS": f6.outputs,
        "CLASSES": output.outputs,
        "ACTIVATION": a1.spec.kind.upper(),
        "POOL_MAX": int(s2.spec.mode == "max"),
    }
    for name, spec in (("C1", c1), ("C3", c3)):
        macros |= {f"{name}_{column}": _listed(values) for column, values in _links(spec.table).items()}
        macros[f"{name}_OUTPUT"] = _listed(k for k, _ in spec.table.connections)
    macros |= {f"BACK_{column}": _listed(values) for column, values in _links_back(c3.table).items()}

    # In how many parts sums are formed: as many as there are threads for, but not more than there are summands.
    maps1, rows1, columns1 = c1.output_shape
    maps3, rows3, columns3 = c3.output_shape
    forward = _parts(maps3 * _blocks(rows3, columns3), max(len(row) for row in c3.table.rows))
    back = _parts(maps1 * _blocks(c3.height, c3.width), int(np.diff(_links_back(c3.table)["FIRST"]).max()))
    gradient1 = _parts(c1.weight_shape[0] * c1.kernel_height, rows1)
    gradient3 = _parts(c3.weight_shape[0] * c3.kernel_height, rows3)
    macros |= {"C3_PARTS": forward, "BACK_PARTS": back, "GRADIENT1_PARTS": gradient1, "GRADIENT3_PARTS": gradient3}
    scratch = [
        forward * maps3 * rows3 * columns3,
        _aligned(gradient3 * _parameters(c3)) + back * maps1 * c3.height * c3.width,
        gradient1 * _parameters(c1),
    ]
    offset = convolutions
    for name, layer in zip(("F5", "F6", "OUTPUT"), dense, strict=True):
        vector = ALIGNMENT if offset % ALIGNMENT == 0 and layer.inputs % ALIGNMENT == 0 else 1
        parts = _parts(layer.inputs // vector, layer.outputs)
        macros[f"{name}_PARTS"] = parts
        scratch.append(parts * layer.inputs)
        offset += layer.outputs * (layer.inputs + 1)

    kernel = _aligned(c1.kernel_height * c1.kernel_width)
    image = (
        c1.height * c1.width,
        c1.weight_shape[0] * kernel,
        c3.weight_shape[0] * kernel,
        maps1 * rows1 * columns1,
        maps3 * rows3 * (columns3 + 2 * (c3.kernel_width - 1)),
        f5.inputs,
        maps1 * c3.height * c3.width,
        *(2 * (f5.outputs, f6.outputs)),
        output.outputs,
        max(scratch),
    )
    record = (
        convolutions,
        *(_aligned(layer.inputs, TILE_INPUTS) for layer in dense),
        *(_aligned(layer.outputs, TILE_OUTPUTS) for layer in dense),
    )
    shared, left = (sum(map(_aligned, fields)) for fields in (image, record))
    macros |= {"SCRATCH": max(scratch), "SHARED_BYTES": FLOAT * shared, "RECORD_BYTES": FLOAT * left}
    tiles = (-(-layer.inputs // TILE_INPUTS) * -(-layer.outputs // TILE_OUTPUTS) for layer in dense)
    return CudaPlan(macros, FLOAT * shared, left, sum(tiles) + -(-convolutions // TILE_CONVOLUTIONS))


def _parameters(spec: Conv2DSpec) -> int:
    return spec.weight_shape[0] * spec.kernel_height * spec.kernel_width + spec.table.outputs


def _blocks(rows: int, columns: int) -> int:
    """Return of how many blocks of sums, 2 x 4 or 2 x 2, a map is made."""
    return rows // 2 * columns // (4 if columns % 4 == 0 else 2)


def _parts(sums: int, summands: int) -> int:
    """Return in how many parts to form each of so many sums; none of the parts is empty."""
    most = min(max(THREADS // sums, 1), summands)
    longest = -(-summands // most)
    return -(-summands // longest)


def _aligned(count: int, to: int = ALIGNMENT) -> int:
    return -(-count // to) * to


def _links(table: ConnectionTable) -> dict[str, list[int]]:
    """Return for each output map where its connections begin, then the input map and the kernel of each connection."""
    first = np.cumsum([0, *map(len, table.rows)]).tolist()
    return {"FIRST": first, "SOURCE": [c for _, c in table.connections], "KERNEL": list(range(len(table.connections)))}


def _links_back(table: ConnectionTable) -> dict[str, list[int]]:
    """Return the same for each input map, with the output map of each connection."""
    into = sorted(range(len(table.connections)), key=lambda e: table.connections[e][1])
    inputs = [table.connections[e][1] for e in into]
    first = np.searchsorted(inputs, np.arange(table.inputs + 1)).tolist()
    return {"FIRST": first, "SOURCE": [table.connections[e][0] for e in into], "KERNEL": into}


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))
