"""What goes over the wire: JSON in, checked; arrays out, as base64."""

import base64
import binascii
import json
import math
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.inspection import Inspector, Stage, Term, Trace, Unit

MAX_BODY = 1 << 18
"""Bytes of a request: more than the largest drawing takes."""


class Refusal(LenetError):
    """A request that is not served: the HTTP status, and one line for a person."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


# in ------------------------------------------------------------------------------------------------------------------


def parse_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a request.

    Raises
    ------
    Refusal
        400, when it is anything else.
    """
    try:
        found = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "the request is not valid JSON") from None
    if not isinstance(found, dict):
        raise Refusal(400, "the request is not a JSON object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def integer(body: dict[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    """Return a whole number of the request, from ``low`` to ``high``; without a ``default`` it must be there.

    Raises
    ------
    Refusal
        400, when it is anything else.
    """
    value = body.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise Refusal(400, f"{name} must be a whole number from {low} to {high}")
    return value


def flag(body: dict[str, Any], name: str, default: bool) -> bool:
    """Return a truth value of the request.

    Raises
    ------
    Refusal
        400, when it is anything else.
    """
    value = body.get(name, default)
    if type(value) is not bool:
        raise Refusal(400, f"{name} must be true or false")
    return value


def parse_whole(text: str, name: str, high: int) -> int:
    """Return a whole number of a query, from 0 to ``high``.

    Raises
    ------
    Refusal
        400, when it is anything else.
    """
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= high:
        raise Refusal(400, f"{name} must be a whole number from 0 to {high}")
    return value


def parse_share(text: str, name: str) -> float:
    """Return a number of a query, from 0 to 1.

    Raises
    ------
    Refusal
        400, when it is anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Refusal(400, f"{name} must be a number from 0 to 1")
    return value


def parse_pixels(text: object, height: int, width: int) -> NDArray[np.uint8]:
    """Return the image in base64 text.

    Raises
    ------
    Refusal
        400, when it is no such text, or not as many pixels.
    """
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (ValueError, binascii.Error):
        content = b""
    if len(content) != height * width:
        raise Refusal(400, f"pixels must be {height * width} bytes in base64")
    return np.frombuffer(content, np.uint8).reshape(height, width)


# out -----------------------------------------------------------------------------------------------------------------


def pixels(image: NDArray[np.uint8]) -> str:
    """Return the bytes of an image as base64, row by row."""
    return base64.b64encode(np.ascontiguousarray(image).tobytes()).decode("ascii")


def floats(array: NDArray[Any]) -> str:
    """Return an array as base64 of little-endian float32, row-major."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")


def stage_description(stage: Stage) -> dict[str, Any]:
    """Return what there is to tell of a stage, whatever the image."""
    shape = stage.layer.spec.output_shape
    described: dict[str, Any] = {"name": stage.name, "kind": stage.kind, "shape": list(shape)}
    spec: Any = stage.layer.spec
    match stage.kind:
        case "conv":
            described["kernel"] = spec.kernel_height
            described["parents"] = [list(row) for row in spec.table.rows]
            made = f"kernels of {spec.kernel_height} x {spec.kernel_width}"
        case "pool":
            described["kernel"] = spec.window
            described["parents"] = [[k] for k in range(spec.maps)]
            made = f"the {'mean' if spec.mode == 'mean' else 'largest'} of {spec.window} x {spec.window}"
        case _:
            made = f"each sees all of {stage.source}"
    counted = f"{shape[0]} maps of {shape[1]} x {shape[2]}" if len(shape) == 3 else f"{shape[0]} units"
    described["title"] = f"{stage.name}: {counted}, {made}"
    return described


def layer_values(inspector: Inspector, trace: Trace) -> list[dict[str, Any]]:
    """Return the activations of every stage."""
    return [
        {"name": stage.name, "low": float(values.min()), "high": float(values.max()), "values": floats(values)}
        for stage in inspector.stages
        for values in [trace.values[stage.name]]
    ]


def parse_place(body: dict[str, Any], inspector: Inspector) -> tuple[Stage, tuple[int, ...]]:
    """Return the stage and the place of the unit that a request asks for.

    Raises
    ------
    Refusal
        400, when there is none.
    """
    by_name = {stage.name: stage for stage in inspector.stages}
    name = body.get("layer")
    if not isinstance(name, str) or name not in by_name:
        raise Refusal(400, f"layer must be one of {', '.join(by_name)}")
    shape = by_name[name].layer.spec.output_shape
    axes = ("map", "y", "x")[: len(shape)]
    return by_name[name], tuple(integer(body, axis, 0, size - 1) for axis, size in zip(axes, shape, strict=True))


def unit_parts(unit: Unit) -> dict[str, Any]:
    """Return a unit, taken apart."""
    stage = unit.stage
    found = {
        "terms": [_term(stage, term) for term in unit.terms],
        "sum": unit.sum,
        "value": unit.value,
        "function": stage.function,
    }
    if stage.kind != "pool":
        found["bias"] = unit.bias
    if stage.kind in ("dense", "output"):
        found["rest"] = unit.rest
    return found


def _term(stage: Stage, term: Term) -> dict[str, Any]:
    origin: dict[str, Any] = {"from": stage.source}
    if stage.kind in ("dense", "output"):
        assert term.kernel is not None, "units have weights"
        origin |= zip(("map", "y", "x") if len(term.place) == 3 else ("unit",), term.place, strict=True)
        return origin | {"input": float(term.patch), "weight": float(term.kernel), "product": term.sum}
    origin |= {"map": term.place[0], "patch": term.patch.tolist()}
    return origin if term.kernel is None else origin | {"kernel": term.kernel.tolist(), "sum": term.sum}
