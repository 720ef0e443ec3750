"""Backward passes against finite differences of the forward passes, in float64.

A layer's output is projected on random numbers r, so that f = sum(r y) is a single number whose gradient the backward
pass gives for dy = r. Central differences of f along random directions, and along some single coordinates, must agree.
"""

from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from cases import ACTIVATIONS, CONVOLUTIONS, DENSES, POOLINGS
from numpy.typing import NDArray

from lenet.backends.base import Backend
from lenet.executors import EagerExecutor, EpochPlan, State
from lenet.initialize import initialize
from lenet.layers import Activation, Arrays, Conv2D, Dense, Layer, Pool2D
from lenet.lenet5 import C3_TABLE, lenet5
from lenet.optimizers import GradientDescent
from lenet.settings import NetworkSettings
from lenet.specs import ActivationSpec, ConnectionTable, Conv2DSpec, Pool2DSpec

Floats = NDArray[np.float64]

STEP = 1e-5  # the error of a central difference is of the order of step^2 = 1e-10 plus 1e-16 / step
TOLERANCE = 1e-7  # relative to the largest of the compared derivatives
BATCH = 2


def directions(random: np.random.Generator, shape: tuple[int, ...]) -> Iterator[Floats]:
    """Yield two random directions and five coordinates (or all, where there are fewer)."""
    for _ in range(2):
        yield random.standard_normal(shape) / np.sqrt(prod(shape))
    for i in random.permutation(prod(shape))[:5]:
        unit = np.zeros(prod(shape))
        unit[i] = 1
        yield unit.reshape(shape)


def check(f: Callable[[], float], array: Floats, gradient: Floats, random: np.random.Generator) -> None:
    """Compare ``gradient`` with finite differences of ``f`` in ``array``, which is moved in place and put back."""
    saved, pairs = array.copy(), []
    for direction in directions(random, array.shape):
        array[...] = saved + STEP * direction
        above = f()
        array[...] = saved - STEP * direction
        below = f()
        array[...] = saved
        pairs.append(((above - below) / (2 * STEP), float((gradient * direction).sum())))
    numeric, analytic = np.array(pairs).T
    np.testing.assert_allclose(analytic, numeric, rtol=0, atol=TOLERANCE * max(abs(numeric).max(), 1e-3))


def away_from_kinks(x: Floats) -> Floats:
    """Return distinct numbers, none nearer to 0 or to another than many steps: nothing changes its maximum or sign."""
    ranks = np.argsort(np.argsort(x, axis=None)).reshape(x.shape) - x.size // 2
    return np.where(ranks >= 0, ranks + 1, ranks) * 4.0 / x.size


LAYERS: list[Layer] = [
    *(Conv2D(name, spec) for name, spec, _ in CONVOLUTIONS),
    *(Pool2D(f"mean-{name}", Pool2DSpec(*geometry, mode="mean")) for name, geometry, _ in POOLINGS),
    *(Pool2D(f"max-{name}", Pool2DSpec(*geometry, mode="max")) for name, geometry, _ in POOLINGS),
    *(Dense(name, spec) for name, spec, _ in DENSES),
    *(Activation(kind, ActivationSpec((3, 4, 5), kind)) for kind in ACTIVATIONS),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{type(layer).__name__}-{layer.name}")
def test_layer(float64: Backend, layer: Layer) -> None:
    random = np.random.Generator(np.random.Philox(7))
    shapes = layer.parameter_shapes
    x = away_from_kinks(random.standard_normal((BATCH, *layer.spec.input_shape)))
    p = Arrays(**{name: random.standard_normal(shape) for name, shape in shapes.items()})
    g = Arrays(**{name: np.full(shape, np.nan) for name, shape in shapes.items()})
    s = Arrays(y=None, dx=None, argmax=None)
    for name, shape in layer.buffer_shapes.items():
        setattr(s, name, float64.empty((BATCH, *shape), np.uint8 if name == "argmax" else None))
    r = random.standard_normal((BATCH, *layer.spec.output_shape))

    def f() -> float:
        return float((r * layer.forward(float64, x.copy(), p, s)).sum())  # a copy: activations work in place

    before = x.copy()
    y = layer.forward(float64, before, p, s)
    dx = layer.backward(float64, r.copy(), x, y, p, g, s).copy()
    assert dx.shape == x.shape
    check(f, x, dx, random)
    for name in shapes:
        check(f, getattr(p, name), getattr(g, name), random)


NETWORKS = [
    *((settings, 16) for settings in product(ACTIVATIONS, ("mean", "max"), ("lecun", "full"))),
    (("sigmoid", "mean", "lecun"), 28),
]


@pytest.mark.parametrize(("settings", "pixels"), NETWORKS, ids=str)
def test_loss_of_the_network_with_respect_to_every_parameter_array(
    float64: Backend, settings: tuple[Any, ...], pixels: int
) -> None:
    """One step of gradient descent with learning rate 1 subtracts the gradient, which is read off from that."""
    activation, pool, table = settings
    network = lenet5(NetworkSettings(activation=activation, pool=pool, table=table), pixels, pixels, classes=10)
    random = np.random.Generator(np.random.Philox(11))
    count = 3
    images = random.integers(0, 256, (count, pixels, pixels)).astype(np.uint8)
    executor = EagerExecutor(network, float64, GradientDescent())
    samples = executor.upload(images, np.array([3, 1, 9], np.int32))
    parameters = initialize(network, "glorot", seed=5)
    for p in network.views(parameters):
        if hasattr(p, "bias"):
            p.bias[:] = random.uniform(-0.5, 0.5, p.bias.shape)

    def loss() -> float:
        executor.write(State(parameters, np.empty((0, network.size)), None))
        return float(executor.evaluate(samples)[0].mean())

    before = loss()
    step = EpochPlan(np.arange(count, dtype=np.int32), None, np.array([[1.0, 1.0, 1.0, 0.0]]), batch_size=count)
    assert executor.train_epoch(samples, step) == pytest.approx(before, rel=1e-14)
    gradient = parameters - executor.read().parameters

    assert len(network.parameters) == 10
    for parameter in network.parameters:
        check(loss, parameter.view(parameters), parameter.view(gradient), random)


def test_a_partial_table_is_a_full_one_whose_other_kernels_are_zero(float64: Backend) -> None:
    """Kernels of unconnected pairs are not stored; the gradients of those that are equal the full convolution's."""
    random = np.random.Generator(np.random.Philox(13))
    partial = Conv2DSpec(C3_TABLE, 8, 7, 4, 3)
    full = Conv2DSpec(ConnectionTable.full(6, 16), 8, 7, 4, 3)
    connected = [k * 6 + c for k, row in enumerate(C3_TABLE.rows) for c in row]
    x = random.standard_normal((BATCH, *partial.input_shape))
    dy = random.standard_normal((BATCH, *partial.output_shape))
    weight, bias = random.standard_normal(partial.weight_shape), random.standard_normal(16)
    spread = np.zeros(full.weight_shape)
    spread[connected] = weight

    def both_ways(spec: Conv2DSpec, kernels: Floats) -> list[Floats]:
        y, dx, dbias = np.empty(dy.shape), np.empty(x.shape), np.empty(16)
        dweight = np.empty(kernels.shape)
        float64.conv2d_forward(spec, x, kernels, bias, out=y)
        float64.conv2d_backward(spec, dy, x, kernels, dx=dx, dweight=dweight, dbias=dbias)
        return [y, dx, dbias, dweight]

    *ours, dweight = both_ways(partial, weight)
    *wanted, full_dweight = both_ways(full, spread)
    for actual, expected in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dweight, full_dweight[connected], rtol=0, atol=1e-12)
    unconnected = sorted(set(range(96)) - set(connected))
    assert len(unconnected) == 36
    assert abs(full_dweight[unconnected]).max() > 1  # these would have grown kernels, were they stored


def test_an_input_map_that_feeds_nothing_gets_no_gradient(backend: Backend) -> None:
    spec = Conv2DSpec(ConnectionTable(3, ((0,), (0, 2))), 4, 4, 2, 2)
    ones = backend.to_device(np.ones((BATCH, *spec.output_shape), backend.dtype))
    x, dx = backend.to_device(np.ones((BATCH, 3, 4, 4), backend.dtype)), backend.empty((BATCH, 3, 4, 4))
    weight, dweight = backend.to_device(np.ones((3, 2, 2), backend.dtype)), backend.empty((3, 2, 2))
    backend.conv2d_backward(spec, ones, x, weight, dx=dx, dweight=dweight, dbias=backend.empty((2,)))
    gradient = backend.to_host(dx)
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, 0] == 2 * gradient[:, 2]).all()
    assert gradient[0, 2, 1, 1] == 4  # a pixel in the middle is seen by all four places of the kernel
    assert (backend.to_host(dweight) == BATCH * 9).all()
