"""Accuracy, cost and confusions against counts made by hand."""

import json

import numpy as np
import pytest

from lenet.evaluation import Evaluation


@pytest.fixture
def six() -> Evaluation:
    return Evaluation(
        labels=np.array([0, 1, 2, 2, 1, 0], np.int32),
        answers=np.array([0, 2, 2, 1, 2, 0], np.int32),
        losses=np.array([0.5, 1.0, 0.25, 2.0, 1.25, 1.0], np.float32),
        classes=4,
    )


def test_counts(six: Evaluation) -> None:
    assert six.correct == 3
    assert six.accuracy == 0.5
    assert six.cost == 1.0
    assert six.class_accuracy == [1.0, 0.0, 0.5, None]


def test_confusion_has_labels_in_rows(six: Evaluation) -> None:
    expected = [[2, 0, 0, 0], [0, 0, 2, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(six.confusion, expected)
    assert six.most_confused(5) == [(1, 2, 2), (2, 1, 1)]
    assert six.most_confused(1) == [(1, 2, 2)]


def test_parts_need_five_thousand_images(six: Evaluation) -> None:
    assert six.first_part is None
    assert six.last_part is None
    labels = np.zeros(10_000, np.int32)
    answers = labels.copy()
    answers[:50] = 1  # wrong only among the first 5000
    answers[-5000:-4900] = 1
    many = Evaluation(labels, answers, np.zeros(10_000), classes=2)
    assert many.first_part == 0.99
    assert many.last_part == 0.98


def test_dictionary_is_plain_json(six: Evaluation) -> None:
    found = json.loads(json.dumps(six.to_dict()))
    assert {"accuracy", "cost", "first_5000", "last_5000", "confusion"} <= set(found)
    assert found["confusion"][1][2] == 2
    assert found["most_confused"][0] == {"label": 1, "answer": 2, "count": 2}
