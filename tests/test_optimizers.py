"""The update rules and schedules against numbers worked by hand."""

from math import sqrt

import numpy as np
import pytest

from lenet.backends.base import Backend
from lenet.optimizers import (
    HYPER_COLUMNS,
    Adam,
    GradientDescent,
    Momentum,
    Rule,
    Schedule,
    average_decay,
    hyper_table,
    learning_rate,
)

LEARNING_RATE = 0.125


def course(backend: Backend, rule: Rule, start: float, gradients: list[float], average: float = 0.0) -> list[float]:
    """Take one step a gradient and return the weight after each; the average instead, where there is a decay of it."""
    w = backend.to_device(np.array([start], backend.dtype))
    moments = backend.to_device(np.zeros((rule.moments, 1), backend.dtype))
    mean = backend.to_device(np.array([start], backend.dtype)) if average else None
    count = len(gradients)
    table = hyper_table(
        rule, "constant", peak=LEARNING_RATE, warmup=0, average=average, first=0, count=count, total=count
    )
    weights = []
    for g, row in zip(gradients, table, strict=True):
        gradient, hyper = (backend.to_device(np.array(a, backend.dtype)) for a in ([g], row))
        backend.optimizer_step(rule, w, gradient, moments, mean, hyper)
        weights.append(float(backend.to_host(w if mean is None else mean)[0]))
    return weights


def close(backend: Backend, expected: list[float]) -> object:
    return pytest.approx(expected, rel=8 * float(np.finfo(backend.dtype).eps))


# rules ---------------------------------------------------------------------------------------------------------------


def test_gradient_descent(backend: Backend) -> None:
    # 1 - 0.125 * 2 = 0.75;  0.75 + 0.125 * 4 = 1.25;  1.25 - 0.125 * 0.5 = 1.1875: exact in binary
    assert course(backend, GradientDescent(), 1.0, [2.0, -4.0, 0.5]) == [0.75, 1.25, 1.1875]


def test_momentum(backend: Backend) -> None:
    # v = 2;  0.5 * 2 - 4 = -3;  0.5 * -3 + 0.5 = -1;  w = 1 - 0.25;  0.75 + 0.375;  1.125 + 0.125: exact in binary
    assert course(backend, Momentum(0.5), 1.0, [2.0, -4.0, 0.5]) == [0.75, 1.125, 1.25]


def test_momentum_under_a_constant_gradient(backend: Backend) -> None:
    # v = 1, 1.9, 2.71, that is (1 - 0.9^t) / 0.1
    expected = [2 - 0.125 * 1, 2 - 0.125 * 2.9, 2 - 0.125 * 5.61]
    assert course(backend, Momentum(0.9), 2.0, [1.0] * 3) == close(backend, expected)


def test_adam(backend: Backend) -> None:
    # beta1 = 1/2, beta2 = 3/4, gradients 1, 3, -1; m_hat = m / (1 - 2^-t), v_hat = v / (1 - (3/4)^t):
    #   t = 1:  m = 1/2            m_hat = 1      v = 1/4                     v_hat = 1
    #   t = 2:  m = 1/4 + 3/2      m_hat = 7/3    v = 3/16 + 9/4   = 39/16    v_hat = (39/16) / (7/16)    = 39/7
    #   t = 3:  m = 7/8 - 1/2      m_hat = 3/7    v = 117/64 + 1/4 = 133/64   v_hat = (133/64) / (37/64)  = 133/37
    # and w <- w - 1/8 m_hat / (sqrt(v_hat) + 1/10)
    first = 1 - 1 / 8 * 1 / 1.1
    second = first - 1 / 8 * (7 / 3) / (sqrt(39 / 7) + 0.1)
    third = second - 1 / 8 * (3 / 7) / (sqrt(133 / 37) + 0.1)
    actual = course(backend, Adam(beta1=0.5, beta2=0.75, epsilon=0.1), 1.0, [1.0, 3.0, -1.0])
    assert actual == close(backend, [first, second, third])


def test_adam_steps_by_the_learning_rate_under_a_constant_gradient(backend: Backend) -> None:
    # m_hat = g and v_hat = g^2 at every step, whatever the decays: each step is the learning rate, whatever g is
    for gradient in (1e-3, 1.0, 1e3):
        expected = [1 - 0.125, 1 - 0.25, 1 - 0.375]
        # relative to an epsilon of 1e-8, the smallest gradient is short of its step by 1e-5
        assert course(backend, Adam(), 1.0, [gradient] * 3) == pytest.approx(expected, rel=2e-5)
        assert course(backend, Adam(), 1.0, [-gradient] * 3) == pytest.approx([1.125, 1.25, 1.375], rel=2e-5)


def test_adam_without_memory_steps_by_the_learning_rate(backend: Backend) -> None:
    # beta1 = beta2 = 0: m_hat = g and v_hat = g^2 of this very step, so that w <- w - learning_rate sign(g)
    actual = course(backend, Adam(beta1=0.0, beta2=0.0, epsilon=1e-12), 1.0, [1.0, 1e-4, -1.0])
    assert actual == pytest.approx([0.875, 0.75, 0.875], rel=1e-5)


def test_adam_does_not_move_without_a_gradient(backend: Backend) -> None:
    assert course(backend, Adam(), 1.0, [0.0] * 3) == [1.0, 1.0, 1.0]


def test_weight_average(backend: Backend) -> None:
    # w = 0.75, 0.5, 0.25; decay 2/11, 3/12, then the limit 0.26 instead of 4/13 = 0.307...
    first = 2 / 11 * 1 + 9 / 11 * 0.75
    second = 1 / 4 * first + 3 / 4 * 0.5
    third = 0.26 * second + 0.74 * 0.25
    actual = course(backend, GradientDescent(), 1.0, [2.0] * 3, average=0.26)
    assert actual == close(backend, [first, second, third])


# schedules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        # of 100 steps with peak 4: {step: learning rate}
        ("constant", 0, {0: 4, 50: 4, 99: 4}),
        ("constant", 8, {0: 0.5, 3: 2, 6: 3.5, 7: 4, 8: 4, 99: 4}),
        ("constant", 200, {0: 0.02, 99: 2}),
        # half a cosine, 2 (1 + cos(pi t / 100)): at t = 0, 1/3, 1/2 and the last step, 1 + cos(0.99 pi) = 0.000493
        ("cosine", 0, {0: 4, 50: 2, 99: 2 * 0.00049344}),
        ("cosine", 4, {0: 1, 1: 2 * 0.99975328, 50: 2}),
        # up by 4/25 a step to the peak at step 24; then half a cosine over 75 steps: half way at 62.5, a quarter at 50
        ("one_cycle", 0, {0: 0.16, 9: 1.6, 24: 4, 25: 4, 50: 3, 75: 1, 99: 2 * 0.00087713}),
        ("one_cycle", 2, {0: 0.08, 1: 0.32, 24: 4}),
    ],
)
def test_learning_rate(schedule: Schedule, warmup: int, expected: dict[int, float]) -> None:
    actual = {step: learning_rate(schedule, 4.0, step, total=100, warmup=warmup) for step in expected}
    assert actual == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("total", [1, 2, 3, 5, 938])
@pytest.mark.parametrize("warmup", [0, 1, 50])
def test_learning_rate_stays_between_zero_and_peak(schedule: Schedule, total: int, warmup: int) -> None:
    rates = [learning_rate(schedule, 0.01, step, total, warmup) for step in range(total)]
    assert all(0 < rate <= 0.01 for rate in rates)


def test_average_decay() -> None:
    assert [average_decay(0.999, step) for step in (0, 1, 7)] == [2 / 11, 3 / 12, 9 / 18]
    # (2 + t) / (11 + t) reaches 0.999 = 8991 / 9000 at t = 8989
    assert average_decay(0.999, 8988) == pytest.approx(8990 / 8999, rel=1e-15)
    assert average_decay(0.999, 8989) == pytest.approx(0.999, rel=1e-15)
    assert average_decay(0.999, 10_000) == 0.999
    assert average_decay(0.0, 5) == 0.0


# the table of a whole epoch ------------------------------------------------------------------------------------------


def test_hyper_table_holds_the_numbers_of_each_step() -> None:
    table = hyper_table(Adam(0.5, 0.75), "constant", peak=0.1, warmup=2, average=0.2, first=0, count=3, total=3)
    assert HYPER_COLUMNS == ("learning_rate", "correction1", "correction2", "average_decay")
    expected = [
        [0.05, 1 / 2, 1 / 4, 2 / 11],
        [0.1, 3 / 4, 7 / 16, 0.2],
        [0.1, 7 / 8, 37 / 64, 0.2],
    ]
    np.testing.assert_allclose(table, expected, rtol=1e-15)


@pytest.mark.parametrize("rule", [GradientDescent(), Momentum()])
def test_hyper_table_corrects_nothing_without_adam(rule: Rule) -> None:
    table = hyper_table(rule, "cosine", peak=0.1, warmup=0, average=0.0, first=3, count=4, total=9)
    assert (table[:, 1:3] == 1).all()
    assert (table[:, 3] == 0).all()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_hyper_table_continues_where_it_stopped(schedule: Schedule) -> None:
    def table(first: int, count: int) -> np.ndarray:
        return hyper_table(Adam(), schedule, peak=0.3, warmup=5, average=0.999, first=first, count=count, total=40)

    whole = table(0, 40)
    assert whole.shape == (40, 4)
    np.testing.assert_array_equal(table(17, 23), whole[17:])
    np.testing.assert_array_equal(table(20, 10), whole[20:30])
