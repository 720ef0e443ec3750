"""What the studio answers: the network, what it thinks, a unit taken apart, why, the test images."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from flask.testing import FlaskClient
from studio_cases import ONE, SEVEN, TEST, client, dataset, get, image, model, numbers, post, session

from lenet import drawing, storage
from lenet.evaluation import evaluate
from lenet.executors import State, choose
from lenet.lenet5 import lenet5
from lenet.studio.model import Model
from lenet.studio.session import Session


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    return client(session(tmp_path_factory.mktemp("studio")))


def test_the_network(studio: FlaskClient) -> None:
    found = get(studio, "/api/network")
    layers = {layer["name"]: layer for layer in found.pop("layers")}
    assert found == {
        "name": "pretrained",
        "path_shown": "the pretrained network",
        "accuracy": storage.load().history[-1].test_accuracy,
        "parameters": 43526,
        "device": "cpu",
        "dataset": "MNIST",
        "classes": 10,
        "height": 28,
        "width": 28,
        "test_images": TEST,
        "activation": "sigmoid",
        "pool": "mean",
    }
    assert list(layers) == ["C1", "S2", "C3", "S4", "F5", "F6", "output"]
    assert [layer["kind"] for layer in layers.values()] == ["conv", "pool", "conv", "pool", "dense", "dense", "output"]
    assert layers["C1"]["shape"] == [6, 24, 24]
    assert layers["C1"]["title"] == "C1: 6 maps of 24 x 24, kernels of 5 x 5"
    assert layers["C1"]["kernel"] == 5
    assert layers["C3"]["parents"][0] == [0, 1, 2]
    assert layers["C3"]["parents"][15] == [0, 1, 2, 3, 4, 5]
    assert layers["S4"]["title"] == "S4: 16 maps of 4 x 4, the mean of 2 x 2"
    assert layers["F6"]["title"] == "F6: 84 units, each sees all of F5"


@pytest.mark.parametrize("page", ["/", "/tests", "/training"])
def test_pages(studio: FlaskClient, page: str) -> None:
    answer = studio.get(page)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"


# think ---------------------------------------------------------------------------------------------------------------


def test_a_drawing_is_answered_with_all_layers(studio: FlaskClient) -> None:
    found = post(studio, "/api/think", {"strokes": SEVEN, "seq": 12})
    assert (found["seq"], found["answer"], found["message"], found["problem"]) == (12, 7, "7", None)
    assert found["label"] is None
    assert found["unsure"] is False
    assert found["milliseconds"] > 0
    assert sum(found["probabilities"]) == pytest.approx(1)
    assert int(np.argmax(found["probabilities"])) == 7
    prepared = drawing.prepare(drawing.parse_strokes({"strokes": SEVEN}))
    np.testing.assert_array_equal(image(found["pixels"]), prepared.image)

    trace = model().inspector.trace(prepared.image)
    for layer, stage in zip(found["layers"], model().inspector.stages, strict=True):
        values = numbers(layer["values"], *stage.layer.spec.output_shape)
        np.testing.assert_array_equal(values, trace.values[stage.name])
        assert layer["name"] == stage.name
        assert (layer["low"], layer["high"]) == (values.min(), values.max())
    assert numbers(found["layers"][-1]["values"], 10).argmax() == 7


def test_a_test_image_has_its_label(studio: FlaskClient) -> None:
    found = post(studio, "/api/think", {"test": 4})
    assert found["label"] == dataset().test_labels[4] == found["answer"] == 4
    assert found["seq"] == 0
    np.testing.assert_array_equal(image(found["pixels"]), dataset().test_images[4])


def test_pixels_are_taken_as_they_are(studio: FlaskClient) -> None:
    pixels = dataset().test_images[0]
    found = post(studio, "/api/think", {"pixels": base64.b64encode(pixels.tobytes()).decode()})
    assert found["answer"] == 7
    np.testing.assert_array_equal(image(found["pixels"]), pixels)


@pytest.mark.parametrize(
    "body",
    [
        {"strokes": []},
        {"strokes": [], "prepare": False},
        {"strokes": [*SEVEN, {"tool": "eraser", "points": [[x / 20, y / 20] for x in range(21) for y in range(21)]}]},
        {"pixels": base64.b64encode(bytes(784)).decode()},
    ],
    ids=["nothing", "unprepared", "erased", "pixels"],
)
def test_a_blank_sheet_has_no_answer(studio: FlaskClient, body: Any) -> None:
    found = post(studio, "/api/think", body)
    assert (found["problem"], found["message"]) == ("blank", drawing.PROBLEMS["blank"])
    assert found["answer"] is found["probabilities"] is found["layers"] is None
    assert not image(found["pixels"]).any()


@pytest.mark.parametrize("problem", ["several", "unclear"])
def test_what_is_no_digit_is_said_and_shown(studio: FlaskClient, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = drawing.Prepared(dataset().test_images[0], (0, 0, 1, 1), problem)
    monkeypatch.setattr(drawing, "prepare", lambda strokes: prepared)
    found = post(studio, "/api/think", {"strokes": SEVEN})
    assert (found["problem"], found["message"]) == (problem, drawing.PROBLEMS[problem])
    assert found["answer"] is None
    assert len(found["layers"]) == 7


def test_without_preparation_the_network_sees_the_canvas(studio: FlaskClient) -> None:
    corner = [{"tool": "pen", "points": [[x / 3, y / 3] for x, y in SEVEN[0]["points"]]}]
    prepared = post(studio, "/api/think", {"strokes": corner, "prepare": True})
    bare = post(studio, "/api/think", {"strokes": corner, "prepare": False})
    np.testing.assert_array_equal(image(bare["pixels"]), drawing.shrink(drawing.parse_strokes({"strokes": corner})))
    assert prepared["answer"] == 7
    assert not image(bare["pixels"])[14:].any()


def test_an_unsure_answer_says_so(studio: FlaskClient, tmp_path: Path) -> None:
    surest = int(model().gallery.get().confidences.argmax())
    assert post(studio, "/api/think", {"test": surest})["unsure"] is False
    saved = storage.load()
    weights = saved.weights.copy()
    for parameter in saved.network.parameters[-2:]:  # of the logits, which come close to each other
        parameter.view(weights)[:] *= 0.1
    doubtful = Session(
        Model(storage.PRETRAINED, replace(saved, weights=weights), dataset()), tmp_path / "drawings", threads=2
    )
    assert post(client(doubtful), "/api/think", {"test": surest})["unsure"] is True


# units ---------------------------------------------------------------------------------------------------------------


def test_a_convolution_taken_apart(studio: FlaskClient) -> None:
    found = post(studio, "/api/unit", {"test": 0, "layer": "C3", "map": 4, "y": 2, "x": 3})
    assert [(term["from"], term["map"]) for term in found["terms"]] == [("S2", 0), ("S2", 4), ("S2", 5)]
    for term in found["terms"]:
        patch, kernel = np.array(term["patch"]), np.array(term["kernel"])
        assert patch.shape == kernel.shape == (5, 5)
        assert term["sum"] == pytest.approx((patch * kernel).sum())
    assert found["sum"] == pytest.approx(sum(term["sum"] for term in found["terms"]) + found["bias"])
    assert found["function"] == "sigmoid"
    assert found["value"] == pytest.approx(oracle.activation_forward("sigmoid", np.array([found["sum"]]))[0], abs=1e-6)
    thought = post(studio, "/api/think", {"test": 0})
    assert found["value"] == numbers(thought["layers"][2]["values"], 16, 8, 8)[4, 2, 3]
    first = post(studio, "/api/unit", {"test": 0, "layer": "C1", "map": 1, "y": 0, "x": 0})
    assert [(term["from"], term["map"]) for term in first["terms"]] == [("input", 0)]


def test_a_pool_taken_apart(studio: FlaskClient) -> None:
    found = post(studio, "/api/unit", {"test": 0, "layer": "S2", "map": 5, "y": 6, "x": 7})
    (term,) = found["terms"]
    assert (term["from"], term["map"], found["function"]) == ("C1", 5, "mean")
    assert np.shape(term["patch"]) == (2, 2)
    assert found["value"] == pytest.approx(np.mean(term["patch"]))
    assert found["sum"] == pytest.approx(np.sum(term["patch"]))


@pytest.mark.parametrize(("layer", "source", "function"), [("F5", "S4", "sigmoid"), ("output", "F6", "identity")])
def test_a_dense_unit_taken_apart(studio: FlaskClient, layer: str, source: str, function: str) -> None:
    found = post(studio, "/api/unit", {"test": 0, "layer": layer, "map": 7})
    assert len(found["terms"]) == 12
    for term in found["terms"]:
        assert term["from"] == source
        assert {"map", "y", "x"} <= set(term) if layer == "F5" else "unit" in term
        assert term["product"] == pytest.approx(term["input"] * term["weight"])
    total = sum(term["product"] for term in found["terms"]) + found["rest"] + found["bias"]
    assert found["sum"] == pytest.approx(total)
    assert found["function"] == function
    if layer == "output":
        assert found["value"] == pytest.approx(found["sum"], abs=1e-4)


@pytest.mark.parametrize(
    "place",
    [
        {"layer": "C9", "map": 0, "y": 0, "x": 0},
        {"layer": ["C1"], "map": 0, "y": 0, "x": 0},
        {"layer": "C1", "map": 6, "y": 0, "x": 0},
        {"layer": "C1", "map": 0, "y": 24, "x": 0},
        {"layer": "C1", "map": 0, "y": 0, "x": -1},
        {"layer": "C1", "map": 0, "y": 0},
        {"layer": "F6", "map": 84},
        {"layer": "F6", "map": 1.5},
        {"layer": "F6", "map": True},
        {},
    ],
)
def test_units_that_there_are_not(studio: FlaskClient, place: Any) -> None:
    assert "must be" in post(studio, "/api/unit", {"test": 0, **place}, 400)["error"]


# why -----------------------------------------------------------------------------------------------------------------


def test_why(studio: FlaskClient) -> None:
    found = post(studio, "/api/why", {"test": 0})
    logits = model().inspector.trace(dataset().test_images[0]).logits
    assert [found["answer"], found["toward"]] == np.argsort(-logits)[:2].tolist()
    features = model().inspector.features(dataset().train_images).astype(np.float64)
    feature = model().inspector.features(dataset().test_images[:1])[0].astype(np.float64)
    distances = np.sqrt(((features - feature) ** 2).sum(axis=1))
    assert [neighbor["index"] for neighbor in found["neighbors"]] == np.argsort(distances)[:5].tolist()
    for neighbor in found["neighbors"]:
        assert neighbor["label"] == dataset().train_labels[neighbor["index"]]
        assert neighbor["distance"] == pytest.approx(distances[neighbor["index"]], rel=1e-4)
        np.testing.assert_array_equal(image(neighbor["pixels"]), dataset().train_images[neighbor["index"]])


def test_a_step_moves_the_answer_toward_another_digit(studio: FlaskClient) -> None:
    before = post(studio, "/api/think", {"test": 0})["probabilities"]
    found = post(studio, "/api/why", {"test": 0, "toward": 3})
    assert (found["answer"], found["toward"]) == (7, 3)
    assert found["step_probabilities"][3] > 2 * before[3]
    gradient, step = numbers(found["gradient"], 28, 28), image(found["step"]).astype(int)
    assert (gradient * (step - dataset().test_images[0]) >= 0).all()
    again = post(studio, "/api/think", {"pixels": found["step"]})
    assert again["probabilities"] == pytest.approx(found["step_probabilities"])


def test_steps_lead_to_the_other_digit(studio: FlaskClient) -> None:
    subject: dict[str, Any] = {"test": 0}
    for _ in range(30):
        found = post(studio, "/api/why", {**subject, "toward": 3})
        if found["answer"] == 3:
            break
        subject = {"pixels": found["step"]}
    assert found["answer"] == 3


def test_why_toward_what_there_is_not(studio: FlaskClient) -> None:
    assert post(studio, "/api/why", {"test": 0, "toward": None})["toward"] != 7
    for toward in (10, -1, "3", 1.0, True):
        assert "toward" in post(studio, "/api/why", {"test": 0, "toward": toward}, 400)["error"]


# what there is to look at --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        {},
        {"test": 0, "strokes": []},
        {"test": TEST},
        {"test": -1},
        {"test": "0"},
        {"test": None},
        {"test": 10**400},
        {"pixels": "AAAA"},
        {"pixels": 5},
        {"pixels": "\u00e9" * 1048},
        {"strokes": None},
        {"strokes": [{"tool": "pen", "points": [[0, 5]]}]},
        {"strokes": [{"tool": "chalk", "points": [[0, 0]]}]},
        {"strokes": SEVEN, "prepare": "yes"},
        {"test": 0, "seq": "1"},
    ],
)
def test_subjects_that_there_are_not(studio: FlaskClient, subject: Any) -> None:
    answer = post(studio, "/api/think", subject, 400)
    assert list(answer) == ["error"]
    assert "\n" not in answer["error"]


def test_a_network_of_another_size_looks_at_no_drawings(tmp_path: Path) -> None:
    saved, small = storage.load(), dataset()
    description = replace(saved.description, height=16, width=16)
    network = lenet5(description.settings.network, 16, 16, 10)
    weights = np.random.default_rng(0).normal(0, 0.3, network.size).astype(np.float32)
    crop = replace(small, test_images=small.test_images[:, 6:22, 6:22], train_images=small.train_images[:, 6:22, 6:22])
    other = replace(saved, description=description, network=network, weights=weights)
    studio = client(Session(Model(tmp_path / "small", other, crop), tmp_path / "drawings"))
    assert get(studio, "/api/network")["height"] == 16
    assert "16 x 16" in post(studio, "/api/think", {"strokes": ONE}, 400)["error"]
    assert "16 x 16" in post(studio, "/api/drawings", {"strokes": ONE, "label": 1}, 400)["error"]
    assert image(post(studio, "/api/think", {"test": 3})["pixels"], 16).any()
    assert len(get(studio, "/api/tests")["items"]) == 60


# the test images -----------------------------------------------------------------------------------------------------


def test_all_test_images(studio: FlaskClient) -> None:
    found = get(studio, "/api/tests")
    assert found["total"] == TEST
    assert [item["index"] for item in found["items"]] == list(range(60))
    for item in found["items"][:5]:
        thought = post(studio, "/api/think", {"test": item["index"]})
        assert (item["answer"], item["label"]) == (thought["answer"], thought["label"])
        assert item["confidence"] == pytest.approx(max(thought["probabilities"]), abs=1e-5)
        np.testing.assert_array_equal(image(item["pixels"]), dataset().test_images[item["index"]])


def test_test_images_by_filter(studio: FlaskClient) -> None:
    evaluation = model().gallery.get().evaluation
    (wrong,) = np.nonzero(evaluation.answers != dataset().test_labels)
    found = get(studio, "/api/tests?wrong=1")
    assert [item["index"] for item in found["items"]] == wrong.tolist()
    assert 1 <= found["total"] == len(wrong) < 20

    first = found["items"][0]
    cell = get(studio, f"/api/tests?label={first['label']}&answer={first['answer']}")
    assert first["index"] in [item["index"] for item in cell["items"]]
    assert {(item["label"], item["answer"]) for item in cell["items"]} == {(first["label"], first["answer"])}

    sevens = np.nonzero(dataset().test_labels == 7)[0].tolist()
    page = get(studio, "/api/tests?label=7&offset=3&count=4")
    assert page["total"] == len(sevens)
    assert [item["index"] for item in page["items"]] == sevens[3:7]

    low = get(studio, "/api/tests?below=0.9&count=500")
    assert all(item["confidence"] < 0.9 for item in low["items"])
    assert low["total"] == np.count_nonzero(model().gallery.get().confidences < 0.9) > 0
    assert get(studio, "/api/tests?label=&wrong=0&below=")["total"] == TEST
    assert get(studio, "/api/tests?count=0") == {"total": TEST, "items": []}
    assert get(studio, "/api/tests?offset=600")["items"] == []


@pytest.mark.parametrize(
    "query", ["label=10", "answer=-1", "label=x", "below=2", "below=nan", "count=100000", "offset=1e3", "wrong=yes"]
)
def test_filters_that_there_are_not(studio: FlaskClient, query: str) -> None:
    assert "must be" in get(studio, f"/api/tests?{query}", 400)["error"]


def test_confusion_is_what_an_evaluation_in_float64_finds(studio: FlaskClient, float64: Any) -> None:
    saved = storage.load()
    executor = choose(saved.network, float64)
    executor.write(State.of(saved.weights))
    expected = evaluate(executor, executor.upload(dataset().test_images, dataset().test_labels), dataset().test_labels)
    found = get(studio, "/api/confusion")
    assert found == {"counts": expected.confusion.tolist(), "accuracy": expected.accuracy}
    assert sum(map(sum, found["counts"])) == TEST
