"""LeNet-5: its shapes, its counts, its table of connections and where its weights start."""

import numpy as np
import pytest

from lenet.errors import UsageError
from lenet.initialize import initialize
from lenet.lenet5 import C3_TABLE, lenet5
from lenet.network import Network
from lenet.settings import Initialization, NetworkSettings
from lenet.specs import ConnectionTable, Conv2DSpec, DenseSpec, Pool2DSpec

TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""
"""Table I of LeCun et al. 1998 as printed: a row for each map of S2, a column for each map of C3."""


def default(pixels: int = 28) -> Network:
    return lenet5(NetworkSettings(), pixels, pixels, classes=10)


# the network ---------------------------------------------------------------------------------------------------------


def test_number_of_parameters() -> None:
    network = default()
    counts: dict[str, int] = {}
    for parameter in network.parameters:
        counts[parameter.layer] = counts.get(parameter.layer, 0) + int(np.prod(parameter.shape))
    assert counts == {"C1": 156, "C3": 1516, "F5": 30840, "F6": 10164, "output": 850}
    assert network.size == 43526


def test_full_table_adds_the_36_other_kernels() -> None:
    assert lenet5(NetworkSettings(table="full"), 28, 28, 10).size == 43526 + 36 * 25


def test_shapes() -> None:
    network = default()
    assert network.input_shape == (1, 28, 28)
    assert network.classes == 10
    assert [(layer.name, layer.spec.input_shape, layer.spec.output_shape) for layer in network.layers] == [
        ("C1", (1, 28, 28), (6, 24, 24)),
        ("C1.activation", (6, 24, 24), (6, 24, 24)),
        ("S2", (6, 24, 24), (6, 12, 12)),
        ("C3", (6, 12, 12), (16, 8, 8)),
        ("C3.activation", (16, 8, 8), (16, 8, 8)),
        ("S4", (16, 8, 8), (16, 4, 4)),
        ("F5", (256,), (120,)),
        ("F5.activation", (120,), (120,)),
        ("F6", (120,), (84,)),
        ("F6.activation", (84,), (84,)),
        ("output", (84,), (10,)),
    ]
    assert [(p.key, p.shape) for p in network.parameters] == [
        ("C1.weight", (6, 5, 5)),
        ("C1.bias", (6,)),
        ("C3.weight", (60, 5, 5)),
        ("C3.bias", (16,)),
        ("F5.weight", (120, 256)),
        ("F5.bias", (120,)),
        ("F6.weight", (84, 120)),
        ("F6.bias", (84,)),
        ("output.weight", (10, 84)),
        ("output.bias", (10,)),
    ]


@pytest.mark.parametrize(("height", "width", "inputs"), [(16, 16, 16), (20, 20, 64), (32, 32, 400), (20, 32, 160)])
def test_other_image_sizes(height: int, width: int, inputs: int) -> None:
    """16 x 16 is the smallest; 32 x 32 is the paper's, whose C5 sees 16 maps of 5 x 5."""
    network = lenet5(NetworkSettings(), height, width, classes=10)
    assert network.layers[6].spec == DenseSpec(inputs, 120)


def test_settings_decide_maps_units_and_classes() -> None:
    settings = NetworkSettings(maps=(3, 5), dense=(7, 11), activation="relu", pool="max", table="full")
    network = lenet5(settings, 16, 20, classes=47)
    assert [p.shape for p in network.parameters if p.name == "weight"] == [
        (3, 5, 5),
        (15, 5, 5),
        (7, 5 * 1 * 2),
        (11, 7),
        (47, 11),
    ]


@pytest.mark.parametrize(("height", "width"), [(30, 30), (28, 30), (12, 12), (28, 4), (1, 1), (29, 28)])
def test_images_of_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(UsageError, match=f"cannot take images of {height} x {width} pixels.*multiples of 4, from 16"):
        lenet5(NetworkSettings(), height, width, classes=10)


@pytest.mark.parametrize("maps", [(6, 15), (5, 16), (16, 6)])
def test_the_papers_table_needs_6_and_16_maps(maps: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"connects 6 maps with 16, not .*set table = full"):
        lenet5(NetworkSettings(maps=maps), 28, 28, classes=10)


def test_parameters_are_views_of_one_vector() -> None:
    network = default()
    flat = np.arange(network.size, dtype=np.float64)
    pieces = [parameter.view(flat) for parameter in network.parameters]
    np.testing.assert_array_equal(np.concatenate([piece.ravel() for piece in pieces]), flat)  # no gap, no overlap
    assert all(np.shares_memory(piece, flat) for piece in pieces)
    by_layer = dict(zip((layer.name for layer in network.layers), network.views(flat), strict=True))
    assert by_layer["C3"].bias.tolist() == list(range(156 + 1500, 156 + 1516))
    assert vars(by_layer["S2"]) == {}


def test_layers_that_do_not_fit_are_refused() -> None:
    layers = default().layers
    with pytest.raises(ValueError, match=r"C3 takes \(6, 12, 12\), C1.activation gives \(6, 24, 24\)"):
        Network((*layers[:2], *layers[3:]))


# the table of connections --------------------------------------------------------------------------------------------


def test_table_is_the_papers() -> None:
    printed = [[mark == "X" for mark in row] for row in TABLE_I.split()]
    assert [[c in C3_TABLE.rows[k] for k in range(16)] for c in range(6)] == printed


def test_table_has_60_connections_10_from_each_map() -> None:
    assert len(C3_TABLE.connections) == 60
    assert [sum(c in row for row in C3_TABLE.rows) for c in range(6)] == [10] * 6
    assert [len(row) for row in C3_TABLE.rows] == [3] * 6 + [4] * 9 + [6]
    assert len(set(C3_TABLE.rows)) == 16  # no two maps see the same


def test_connections_are_numbered_row_by_row() -> None:
    assert C3_TABLE.connections[:4] == ((0, 0), (0, 1), (0, 2), (1, 1))
    assert ConnectionTable.full(2, 3).connections == ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ((), "at least one output map"),
        (((0,), ()), "output map 1 is connected to no input map"),
        (((1, 0),), "must ascend"),
        (((0, 0),), "must ascend"),
        (((-1, 0),), "within 0..2"),
        (((0, 3),), "within 0..2"),
    ],
)
def test_impossible_tables_are_refused(rows: tuple[tuple[int, ...], ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ConnectionTable(3, rows)


def test_impossible_geometry_is_refused() -> None:
    table = ConnectionTable.full(1, 1)
    with pytest.raises(ValueError, match="a map of 4 x 9 is smaller than the kernel of 5 x 5"):
        Conv2DSpec(table, 4, 9)
    with pytest.raises(ValueError, match="has no pixel"):
        Conv2DSpec(table, 4, 9, 0, 3)
    with pytest.raises(ValueError, match="does not divide into windows of 2 x 2"):
        Pool2DSpec(3, 4, 5)
    with pytest.raises(ValueError, match=r"outside 1\.\.15"):
        Pool2DSpec(3, 16, 16, window=16)
    with pytest.raises(ValueError, match="'mean' or 'max'"):
        Pool2DSpec(3, 4, 4, mode="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no unit"):
        DenseSpec(0, 3)


# initialization ------------------------------------------------------------------------------------------------------

# (fan_in, fan_out) of a unit: C1 sees 25 pixels, each is seen by 6 maps x 25. A map of C3 that sees 3, 4 or 6 maps has
# 75, 100 or 150 inputs, and each map of S2 feeds 10 maps of C3, 250 numbers.
FANS = {"C1": (25, 150), "F5": (256, 120), "F6": (120, 84), "output": (84, 10)}
C3_FANS = {3: (75, 250), 4: (100, 250), 6: (150, 250)}


def bound(scheme: str, fan_in: int, fan_out: int) -> float:
    return float(np.sqrt({"glorot": 6 / (fan_in + fan_out), "lecun": 3 / fan_in, "he": 6 / fan_in}[scheme]))


def is_uniform(weights: np.ndarray, limit: float) -> bool:
    """Whether weights stay within the bound, come near it, and have mean 0 and variance limit^2 / 3 (4 sigma)."""
    unit, count = weights.ravel() / limit, weights.size
    return bool(
        abs(unit).max() <= 1
        and abs(unit).max() > 1 - 12 / count
        and abs(unit.mean()) < 4 * np.sqrt(1 / 3 / count)
        and abs((unit**2).mean() - 1 / 3) < 4 * np.sqrt(4 / 45 / count)
    )


@pytest.mark.parametrize("scheme", ["glorot", "lecun", "he"])
def test_weights_are_uniform_within_their_bound(scheme: Initialization) -> None:
    network = default()
    flat = initialize(network, scheme, seed=1)
    by_layer = dict(zip((layer.name for layer in network.layers), network.views(flat), strict=True))
    for name, fans in FANS.items():
        assert is_uniform(by_layer[name].weight, bound(scheme, *fans)), name
    kernels = {3: slice(0, 18), 4: slice(18, 54), 6: slice(54, 60)}
    for maps, fans in C3_FANS.items():
        assert is_uniform(by_layer["C3"].weight[kernels[maps]], bound(scheme, *fans)), maps
    for name in (*FANS, "C3"):
        assert (by_layer[name].bias == 0).all()


def test_the_seed_decides_the_weights() -> None:
    network = default()
    assert initialize(network, "glorot", 3).tobytes() == initialize(network, "glorot", 3).tobytes()
    one, two = initialize(network, "glorot", 3), initialize(network, "glorot", 4)
    weights = one != 0
    assert weights.sum() == 43526 - (6 + 16 + 120 + 84 + 10)
    assert (one[weights] != two[weights]).all()
