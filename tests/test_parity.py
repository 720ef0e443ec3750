"""Every case on every backend against the oracle."""

from functools import cache
from typing import Any

import cases
import numpy as np
import oracle
import pytest
from cases import CASES, Case
from numpy.typing import NDArray

from lenet.backends.base import Backend
from lenet.optimizers import Adam, GradientDescent, Momentum
from lenet.specs import ConnectionTable


def connections(table: ConnectionTable) -> list[tuple[int, int]]:
    return [(k, c) for k, row in enumerate(table.rows) for c in row]


NOTHING: Any = None


@cache
def expected(case: Case) -> dict[str, NDArray[Any]]:
    """Ask the oracle, once for all backends."""
    problem = cases.build(case)
    floats: dict[str, Any] = {
        name: array.astype(np.float64) if array.dtype.kind == "f" else array
        for name, array in (problem.inputs | problem.updated | problem.extra).items()
        if isinstance(array, np.ndarray)
    }
    x, dy, weight, bias, first = (floats.get(name, NOTHING) for name in ("x", "dy", "weight", "bias", "argmax"))
    spec: Any = case.spec
    match case.op:
        case "distort":
            index = floats.get("index", np.arange(case.batch, dtype=np.int32))
            return {"out": oracle.distort(floats["images"], index, floats.get("transforms"))}
        case "conv2d_forward":
            return {"out": oracle.conv2d_forward(x, weight, bias, connections(spec.table))}
        case "conv2d_backward":
            gradients = oracle.conv2d_backward(dy, x, weight, connections(spec.table))
            return dict(zip(("dx", "dweight", "dbias"), gradients, strict=True))
        case "pool2d_forward":
            out, first = oracle.pool2d_forward(x, spec.window, spec.mode)
            return {"out": out, "argmax": first}
        case "pool2d_backward":
            return {"dx": oracle.pool2d_backward(dy, spec.window, spec.mode, first)}
        case "dense_forward":
            return {"out": oracle.dense_forward(x, weight, bias)}
        case "dense_backward":
            return dict(zip(("dx", "dweight", "dbias"), oracle.dense_backward(dy, x, weight), strict=True))
        case "activation_forward":
            return {"out": oracle.activation_forward(spec.kind, x)}
        case "activation_backward":
            return {"dx": oracle.activation_backward(spec.kind, dy, x)}
        case "softmax_cross_entropy":
            losses, dlogits = oracle.softmax_cross_entropy(floats["logits"], floats["targets"])
            return {"losses": losses, "dlogits": dlogits}
        case "argmax":
            return {"out": oracle.argmax(x)}
        case "optimizer_step":
            return _updated(spec, floats, problem.extra["decay"])
    raise AssertionError(f"the oracle has no {case.op}")


def _updated(update: cases.Update, arrays: dict[str, NDArray[Any]], decay: float) -> dict[str, NDArray[Any]]:
    learning_rate = float(arrays["hyper"][0])
    new: dict[str, NDArray[Any]] = {
        name: arrays[name].copy() for name in ("parameters", "moments", "average") if name in arrays
    }
    w, moments = new["parameters"], new["moments"]
    for i, g in enumerate(arrays["gradients"].tolist()):
        match update.rule:
            case GradientDescent():
                w[i] = oracle.gradient_descent(w[i], g, learning_rate)
            case Momentum(keep):
                w[i], moments[0, i] = oracle.momentum(w[i], g, moments[0, i], learning_rate, keep)
            case Adam(beta1, beta2, epsilon):
                betas = (beta1, beta2)
                m, v = moments[:, i]
                w[i], *moments[:, i] = oracle.adam(w[i], g, m, v, learning_rate, betas, epsilon, update.step)
        if "average" in new:
            new["average"][i] = oracle.moving_average(new["average"][i], w[i], decay)
    return new


def magnitude(wanted: NDArray[Any], scale: float | str | None) -> Any:
    if scale == "each":
        return np.maximum(abs(wanted), 1.0)
    return abs(wanted).max(initial=0.0) or 1.0 if scale is None else scale


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backend_equals_the_oracle(backend: Backend, case: Case) -> None:
    scale = cases.build(case).scale
    eps = np.finfo(backend.dtype).eps
    wanted = expected(case)
    for name, array in cases.run(backend, case).items():
        assert array.shape == wanted[name].shape
        if array.dtype.kind in "iu":
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
            continue
        assert array.dtype == backend.dtype
        error = abs(array - wanted[name]) / (eps * magnitude(wanted[name], scale.get(name)))
        worst = error.max(initial=0.0)
        assert worst <= case.tolerance, f"{name} is off by {worst:.1f} eps, {case.tolerance} are allowed"
