"""The update rules, and the numbers that change from step to step.

A rule is frozen: what stays the same for a whole run. What changes (the learning rate, Adam's bias corrections, the
decay of the weight average) comes as one row of ``hyper`` a step, drawn up here on the host for a whole epoch, so that
a device can keep the table beside the weights and no number is frozen into a captured graph.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Schedule = Literal["constant", "cosine", "one_cycle"]

HYPER_COLUMNS = ("learning_rate", "correction1", "correction2", "average_decay")
"""The columns of a hyper table: learning rate, 1 - beta1^t, 1 - beta2^t, decay of the weight average."""


@dataclass(frozen=True)
class GradientDescent:
    """w <- w - learning_rate * g."""

    moments: ClassVar[int] = 0


@dataclass(frozen=True)
class Momentum:
    """v <- momentum * v + g;  w <- w - learning_rate * v  (Polyak 1964, in the form of Sutskever et al. 2013)."""

    momentum: float = 0.9

    moments: ClassVar[int] = 1


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, Algorithm 1).

    m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
    w <- w - learning_rate * (m / correction1) / (sqrt(v / correction2) + epsilon).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    moments: ClassVar[int] = 2


Rule = GradientDescent | Momentum | Adam
"""An update rule. ``rule.moments`` is the number of values it remembers for each parameter."""


def learning_rate(schedule: Schedule, peak: float, step: int, total: int, warmup: int) -> float:
    """Return the learning rate of ``step`` (counted from 0) of ``total``.

    ``constant`` stays at ``peak``; ``cosine`` falls from it to 0 along half a cosine (Loshchilov and Hutter 2017, one
    cycle); ``one_cycle`` rises linearly over the first quarter and then falls along half a cosine (Smith 2018). Each is
    multiplied by a linear warm-up over the first ``warmup`` steps.
    """
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    progress = step / total
    if schedule == "cosine":
        factor *= 0.5 * (1.0 + math.cos(math.pi * progress))
    elif schedule == "one_cycle":
        rise = 0.25
        if progress < rise:
            factor *= (step + 1) / (rise * total)
        else:
            factor *= 0.5 * (1.0 + math.cos(math.pi * (progress - rise) / (1.0 - rise)))
    return peak * min(factor, 1.0)


def average_decay(limit: float, step: int) -> float:
    """Return the decay of the exponential moving average of the weights at ``step``, counted from 0.

    min(limit, (1 + t) / (10 + t)) with t = step + 1: short memory at first, when the weights move fast.
    """
    return min(limit, (2.0 + step) / (11.0 + step))


def hyper_table(
    rule: Rule,
    schedule: Schedule,
    *,
    peak: float,
    warmup: int,
    average: float,
    first: int,
    count: int,
    total: int,
) -> NDArray[np.float64]:
    """Draw up the numbers of steps ``first`` .. ``first + count - 1`` of ``total``.

    Returns
    -------
    Array (count, 4) with the columns of `HYPER_COLUMNS`.
    """
    table = np.ones((count, len(HYPER_COLUMNS)))
    for row, step in enumerate(range(first, first + count)):
        table[row, 0] = learning_rate(schedule, peak, step, total, warmup)
        if isinstance(rule, Adam):
            table[row, 1] = 1.0 - rule.beta1 ** (step + 1)
            table[row, 2] = 1.0 - rule.beta2 ** (step + 1)
        table[row, 3] = average_decay(average, step)
    return table
