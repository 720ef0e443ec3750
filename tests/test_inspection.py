"""Looking inside: against the oracle's loops, hand-worked sums and finite differences."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray

from lenet import storage
from lenet.data import load_dataset
from lenet.inspection import STEP, TERMS, Inspector, Stage, nearest, take_step
from lenet.layers import Activation, Conv2D, Dense, Pool2D
from lenet.lenet5 import C3_TABLE, lenet5
from lenet.network import Network
from lenet.settings import NetworkSettings

Floats = NDArray[np.float64]

KINDS = ("sigmoid", "tanh", "scaled_tanh", "relu")


def small(kind: str = "sigmoid", pool: str = "mean") -> Inspector:
    """Return a network on 16 x 16 pixels with weights of a size that keeps all units busy."""
    settings = NetworkSettings(maps=(2, 3), dense=(20, 7), activation=kind, pool=pool, table="full")
    network = lenet5(settings, 16, 16, 4)
    weights = np.random.default_rng(5).normal(0, 0.4, network.size)
    return Inspector(network, weights, np.float64)


def picture(side: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return (rng.random((side, side)) * np.linspace(40, 255, side)).astype(np.uint8)


def by_the_oracle(network: Network, weights: Floats, image: NDArray[np.uint8]) -> list[Floats]:
    """Return the output of every layer, each a batch of one."""
    x = image[None, None] / 255.0
    found = []
    for layer, p in zip(network.layers, network.views(weights), strict=True):
        match layer:
            case Conv2D(spec=spec):
                x = oracle.conv2d_forward(x, p.weight, p.bias, spec.table.connections)
            case Pool2D(spec=spec):
                x, _ = oracle.pool2d_forward(x, spec.window, spec.mode)
            case Dense():
                x = oracle.dense_forward(x.reshape(1, -1), p.weight, p.bias)
            case Activation(spec=spec):
                x = oracle.activation_forward(spec.kind, x)
        found.append(x)
    return found


def stage_of(inspector: Inspector, name: str) -> Stage:
    return next(stage for stage in inspector.stages if stage.name == name)


def test_stages_are_those_of_the_paper() -> None:
    network = lenet5(NetworkSettings(), 28, 28, 10)
    stages = Inspector(network, np.zeros(network.size)).stages
    assert [(s.name, s.kind, s.source, s.function) for s in stages] == [
        ("C1", "conv", "input", "sigmoid"),
        ("S2", "pool", "C1", "mean"),
        ("C3", "conv", "S2", "sigmoid"),
        ("S4", "pool", "C3", "mean"),
        ("F5", "dense", "S4", "sigmoid"),
        ("F6", "dense", "F5", "sigmoid"),
        ("output", "output", "F6", "identity"),
    ]


@pytest.mark.parametrize(("kind", "pool"), list(product(KINDS, ("mean", "max"))))
def test_every_layer_is_what_the_oracle_computes(kind: str, pool: str) -> None:
    inspector, image = small(kind, pool), picture(16)
    trace = inspector.trace(image)
    expected = by_the_oracle(inspector.network, inspector._weights, image)
    np.testing.assert_allclose(trace.values["input"], image[None] / 255.0)
    for stage in inspector.stages:
        squashed = stage.index + (stage.kind in ("conv", "dense"))
        np.testing.assert_allclose(trace.values[stage.name], expected[squashed][0], rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(trace.logits, trace.values["output"])


def test_the_pretrained_network_in_float32_is_what_the_oracle_computes() -> None:
    saved, dataset = storage.load(), load_dataset()
    image = dataset.test_images[0]
    trace = Inspector(saved.network, saved.weights).trace(image)
    expected = by_the_oracle(saved.network, saved.weights.astype(np.float64), image)
    assert trace.values["C3"].shape == (16, 8, 8)
    np.testing.assert_allclose(trace.values["C3"], expected[4][0], atol=1e-5)
    np.testing.assert_allclose(trace.values["F6"], expected[9][0], atol=1e-5)
    np.testing.assert_allclose(trace.logits, expected[10][0], atol=1e-3)
    assert trace.logits.argmax() == dataset.test_labels[0] == 7


@pytest.mark.parametrize(("kind", "pool"), [("sigmoid", "mean"), ("relu", "max")])
def test_units_add_up(kind: str, pool: str) -> None:
    inspector, image = small(kind, pool), picture(16)
    trace = inspector.trace(image)
    before_squashing = by_the_oracle(inspector.network, inspector._weights, image)
    for stage in inspector.stages:
        shape = stage.layer.spec.output_shape
        for place in {(0,) * len(shape), tuple(n - 1 for n in shape), tuple(n // 2 for n in shape)}:
            unit = inspector.unit(trace, stage, place)
            assert unit.value == trace.values[stage.name][place]
            assert unit.sum == pytest.approx(sum(t.sum for t in unit.terms) + unit.rest + unit.bias)
            if stage.kind == "pool":
                (term,) = unit.terms
                assert term.kernel is None
                assert unit.value == pytest.approx(term.patch.max() if pool == "max" else term.patch.mean())
            else:
                assert unit.sum == pytest.approx(before_squashing[stage.index][0][place])


def test_a_unit_of_c3_sees_the_maps_that_it_is_connected_to() -> None:
    network = lenet5(NetworkSettings(), 28, 28, 10)
    weights = np.random.default_rng(1).normal(0, 0.2, network.size)
    inspector, image = Inspector(network, weights, np.float64), picture(28)
    trace, views = inspector.trace(image), network.views(weights)
    c3 = stage_of(inspector, "C3")
    for k in (0, 6, 15):
        unit = inspector.unit(trace, c3, (k, 2, 5))
        assert tuple(place for (place,) in (term.place for term in unit.terms)) == C3_TABLE.rows[k]
        first = C3_TABLE.connections.index((k, C3_TABLE.rows[k][0]))
        np.testing.assert_array_equal(unit.terms[0].kernel, views[3].weight[first])
        np.testing.assert_array_equal(unit.terms[0].patch, trace.values["S2"][C3_TABLE.rows[k][0], 2:7, 5:10])
        assert unit.bias == views[3].bias[k]


def test_a_dense_unit_names_what_weighs_most() -> None:
    inspector = small()
    trace = inspector.trace(picture(16))
    f5, f6 = stage_of(inspector, "F5"), stage_of(inspector, "F6")
    x, weight = trace.values["S4"], inspector._parameters[f5.index].weight[3].reshape(3, 1, 1)
    unit = inspector.unit(trace, f5, (3,))
    assert {term.place for term in unit.terms} == {(0, 0, 0), (1, 0, 0), (2, 0, 0)}  # S4 has but three numbers
    assert unit.rest == 0
    assert sum(term.sum for term in unit.terms) == pytest.approx(float((x * weight).sum()))

    unit = inspector.unit(trace, f6, (3,))
    products = trace.values["F5"] * inspector._parameters[f6.index].weight[3]
    assert len(unit.terms) == TERMS
    sizes = [abs(term.sum) for term in unit.terms]
    assert sizes == sorted(np.abs(products), reverse=True)[:TERMS]
    for term in unit.terms:
        assert term.sum == pytest.approx(products[term.place])
    assert unit.rest == pytest.approx(products.sum() - sum(term.sum for term in unit.terms))


def differences(inspector: Inspector, image: NDArray[np.uint8], toward: int, away: int) -> Floats:
    """Return the slope of the difference of two logits along each pixel, one gray level to either side."""
    slopes = np.zeros(image.shape)
    for at in np.ndindex(image.shape):
        values = []
        for step in (1, -1):
            moved = image.copy()
            moved[at] = int(image[at]) + step
            logits = inspector.trace(moved).logits
            values.append(logits[toward] - logits[away])
        slopes[at] = (values[0] - values[1]) / (2 / 255)
    return slopes


@pytest.mark.parametrize("kind", ["sigmoid", "tanh", "scaled_tanh"])
def test_the_gradient_of_the_image_against_finite_differences(kind: str) -> None:
    inspector, image = small(kind), picture(16).clip(1, 254)
    gradient = inspector.gradient(inspector.trace(image), 2, 0)
    np.testing.assert_allclose(gradient, differences(inspector, image, 2, 0), rtol=1e-4, atol=1e-7)
    assert np.abs(gradient).max() > 0.001


def test_the_gradient_through_kinks_against_finite_differences() -> None:
    inspector, image = small("relu", "max"), picture(16).clip(1, 254)
    gradient = inspector.gradient(inspector.trace(image), 2, 0)
    close = np.isclose(gradient, differences(inspector, image, 2, 0), rtol=1e-8, atol=1e-10)
    assert close.mean() > 0.9  # elsewhere, a step of one gray level passes a kink
    assert np.abs(gradient).max() > 0.001


def test_a_gradient_can_be_asked_for_twice() -> None:
    inspector = small("relu", "max")
    trace = inspector.trace(picture(16))
    first = inspector.gradient(trace, 1, 0).copy()
    inspector.gradient(trace, 2, 3)
    np.testing.assert_array_equal(inspector.gradient(trace, 1, 0), first)
    np.testing.assert_allclose(inspector.gradient(trace, 0, 1), -first)
    assert not inspector.gradient(trace, 1, 1).any()


def test_a_step_goes_where_the_gradient_points_and_no_further() -> None:
    inspector, image = small(), picture(16)
    image[0, :8], image[15, :8] = 0, 255
    gradient = inspector.gradient(inspector.trace(image), 3, 1)
    step = take_step(image, gradient)

    def lead(picture: NDArray[np.uint8]) -> Any:
        logits = inspector.trace(picture).logits
        return logits[3] - logits[1]

    assert lead(step) > lead(image)
    change = (step.astype(float) - image) / 255
    assert np.linalg.norm(change) <= STEP + 0.5 * 16 / 255
    assert np.linalg.norm(change) > STEP / 2
    assert ((change * gradient) >= 0).all()


def test_no_step_without_a_way() -> None:
    paper = np.zeros((4, 4), np.uint8)
    np.testing.assert_array_equal(take_step(paper, np.full((4, 4), -1.0)), paper)  # less than no ink
    np.testing.assert_array_equal(take_step(paper, np.zeros((4, 4))), paper)


def test_features_and_logits_of_many_images_are_those_of_each() -> None:
    inspector = small("tanh")
    images = np.stack([picture(16, seed) for seed in range(9)])
    features, logits = inspector.features(images), inspector.predict(images)
    assert features.shape == (9, 7)
    for image, feature, scores in zip(images, features, logits, strict=True):
        trace = inspector.trace(image)
        np.testing.assert_allclose(feature, trace.values["F6"], atol=1e-12)
        np.testing.assert_allclose(scores, trace.logits, atol=1e-12)


def test_many_threads_ask_at_once() -> None:
    inspector = small("tanh", "max")
    images = [picture(16, seed) for seed in range(40)]

    def ask(image: NDArray[np.uint8]) -> tuple[Any, Any]:
        trace = inspector.trace(image)
        return trace.logits.tolist(), inspector.gradient(trace, 1, 0).tolist()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, images * 3)) == [ask(image) for image in images] * 3


def test_neighbors_against_brute_force() -> None:
    rng = np.random.default_rng(2)
    features = rng.random((500, 84)).astype(np.float32)
    features[77] = features[33]  # as near as each other: the first one first
    for feature in (features[33], rng.random(84).astype(np.float32)):
        distances = [float(np.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(row, feature)))) for row in features]  # noqa: B905
        expected = sorted(range(500), key=lambda i: (round(distances[i], 6), i))[:5]
        found = nearest(features, feature, 5)
        assert [neighbor.index for neighbor in found] == expected
        for neighbor in found:
            assert neighbor.distance == pytest.approx(distances[neighbor.index], abs=1e-5)


def test_fewer_neighbors_than_asked_for() -> None:
    found = nearest(np.array([[3.0], [1.0]]), np.array([0.0]), 5)
    assert [(neighbor.index, neighbor.distance) for neighbor in found] == [(1, 1.0), (0, 3.0)]
