"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, section II.B): the connection table of C3 and the network."""

from math import prod

from lenet.errors import UsageError
from lenet.layers import Activation, Conv2D, Dense, Layer, Pool2D
from lenet.network import Network
from lenet.settings import NetworkSettings
from lenet.specs import ActivationSpec, ConnectionTable, Conv2DSpec, DenseSpec, Pool2DSpec

C3_TABLE = ConnectionTable(
    6,
    (
        (0, 1, 2),
        (1, 2, 3),
        (2, 3, 4),
        (3, 4, 5),
        (0, 4, 5),
        (0, 1, 5),
        (0, 1, 2, 3),
        (1, 2, 3, 4),
        (2, 3, 4, 5),
        (0, 3, 4, 5),
        (0, 1, 4, 5),
        (0, 1, 2, 5),
        (0, 1, 3, 4),
        (1, 2, 4, 5),
        (0, 2, 3, 5),
        (0, 1, 2, 3, 4, 5),
    ),
)
"""Table I of the paper: three, then four neighboring maps, then four with a gap, then all six; 60 of the 96 pairs."""


def lenet5(settings: NetworkSettings, height: int, width: int, classes: int) -> Network:
    """Build the network for images of ``height`` x ``width`` pixels and ``classes`` classes.

    By default, for 28 x 28 pixels: C1 (6, 24, 24), S2 (6, 12, 12), C3 (16, 8, 8), S4 (16, 4, 4), F5 120, F6 84, output.

    Raises
    ------
    UsageError
        When images of this size, or this many maps, cannot make such a network.
    """
    maps1, maps3 = settings.maps
    table = C3_TABLE if settings.table == "lecun" else ConnectionTable.full(maps1, maps3)
    if (table.inputs, table.outputs) != (maps1, maps3):
        raise UsageError(
            f"the C3 table of the paper connects 6 maps with 16, not {maps1} with {maps3}; set table = full"
        )
    try:
        c1 = Conv2DSpec(ConnectionTable.full(1, maps1), height, width)
        s2 = Pool2DSpec(*c1.output_shape, mode=settings.pool)
        c3 = Conv2DSpec(table, *s2.output_shape[1:])
        s4 = Pool2DSpec(*c3.output_shape, mode=settings.pool)
    except ValueError as error:
        raise UsageError(
            f"LeNet-5 cannot take images of {height} x {width} pixels ({error}); "
            "height and width must be multiples of 4, from 16 up"
        ) from error

    kind = settings.activation
    layers: list[Layer] = [
        Conv2D("C1", c1),
        Activation("C1.activation", ActivationSpec(c1.output_shape, kind)),
        Pool2D("S2", s2),
        Conv2D("C3", c3),
        Activation("C3.activation", ActivationSpec(c3.output_shape, kind)),
        Pool2D("S4", s4),
    ]
    inputs = prod(s4.output_shape)
    for name, units in zip(("F5", "F6"), settings.dense, strict=True):
        layers.append(Dense(name, DenseSpec(inputs, units)))
        layers.append(Activation(f"{name}.activation", ActivationSpec((units,), kind)))
        inputs = units
    layers.append(Dense("output", DenseSpec(inputs, classes)))
    return Network(tuple(layers))
