"""The case table: what every backend has to compute, and how exactly. Read by the tests and by the benchmarks.

To add a case, add a line to one of the tables below. A case names a primitive, the number of images, a geometry and the
kind of numbers it is fed; `build` draws the arrays, `run` calls the primitive on a backend. All numbers are exact in
float32 (but for the outputs of activations and for step sizes), so that every backend is asked the same question.

The tolerance of a case is given in units of the rounding error ``eps`` of the backend's type (1.2e-7 for float32,
2.2e-16 for float64), relative to the largest number of the expected array, unless `scale` says otherwise.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import oracle
from numpy.typing import NDArray

from lenet.backends.base import Backend
from lenet.lenet5 import C3_TABLE
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule
from lenet.specs import ActivationKind, ConnectionTable, Conv2DSpec, DenseSpec, Pool2DSpec

BATCHES = (1, 3, 16, 63, 64, 65, 1000)
"""One image, fewer than a tile of 16, a tile, around a block of 64, and more than any grid of blocks."""

ACTIVATIONS: tuple[ActivationKind, ...] = ("sigmoid", "tanh", "scaled_tanh", "relu")


@dataclass(frozen=True)
class Distortion:
    """What `distort` is asked: image size, images stored, how they are picked and how they are moved."""

    height: int
    width: int
    stored: int
    index: str = "shuffled"
    transform: str = "mixed"


@dataclass(frozen=True)
class Classes:
    """Rows of ``count`` logits; their targets are labels, or shares."""

    count: int
    shares: bool = False


@dataclass(frozen=True)
class Activated:
    """A squashing function over images of ``shape``."""

    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Update:
    """Step ``step`` (1, 2, ...) of a rule on ``size`` parameters, with or without a weight average."""

    rule: Rule
    size: int
    step: int
    average: bool


Spec = Conv2DSpec | Pool2DSpec | DenseSpec | Distortion | Classes | Activated | Update

TOLERANCES = {
    "distort": 64,  # a source coordinate of up to 50 pixels is 50 eps coarse, in both axes
    "conv2d_forward": 16,  # sums of up to 150 products; errors add up like a random walk
    "conv2d_backward": 32,  # dweight sums over all images and pixels, up to 20 000 products
    "pool2d_forward": 8,  # up to 225 numbers of one window, and one division
    "pool2d_backward": 4,  # one product
    "dense_forward": 16,  # sums of up to 400 products
    "dense_backward": 32,  # dweight and dbias sum over up to 1000 images
    "activation_forward": 8,  # exp or tanh may come from a polynomial that is a few units off
    "activation_backward": 4,  # y is rounded, and enters as y (1 - y) and the like
    "softmax_cross_entropy": 8,  # exp, a sum of up to 47, a logarithm
    "argmax": 0,  # exact
    "optimizer_step": 8,  # a division, a square root and a handful of products
}
"""Units of eps for each primitive, and why as many; errors measured on NumPy and Numba are a third of it or less."""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes
    ----------
    op : the primitive
    batch : images N
    spec : the geometry
    fill : the kind of numbers: "normal", or one that `build` draws for this primitive
    name : what the test is called by, beside the primitive, the fill and the batch
    """

    op: str
    batch: int
    spec: Spec
    fill: str = "normal"
    name: str = ""

    @property
    def tolerance(self) -> int:
        """How far off an output may be, in units of eps, see above."""
        return TOLERANCES[self.op]

    def __str__(self) -> str:
        return "-".join(part for part in (self.op, self.name, self.fill, f"n{self.batch}") if part)


@dataclass
class Problem:
    """The arguments of one call, by name, as on the host.

    Attributes
    ----------
    constants : passed on as they are (spec, kind, rule, None)
    inputs : arrays that are read; floats become the backend's dtype, but for transforms, which stay float32
    updated : arrays that are read and written
    outputs : shape and dtype of arrays that are only written; dtype None: the backend's
    scale : of an output, the magnitude that its tolerance is relative to; its largest number where not given; "each":
        each number by itself, or 1 where it is smaller
    extra : what only the oracle needs
    """

    constants: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    updated: dict[str, NDArray[Any]] = field(default_factory=dict)
    outputs: dict[str, tuple[tuple[int, ...], type | None]] = field(default_factory=dict)
    scale: dict[str, float | str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


# The tables ----------------------------------------------------------------------------------------------------------

IRREGULAR = ConnectionTable(5, ((1,), (0, 1, 4), (4,), (0, 1, 3, 4), (1, 4)))
"""Rows of one to four maps, and input map 2 feeds nothing."""

CONVOLUTIONS = (
    ("C1", Conv2DSpec(ConnectionTable.full(1, 6), 28, 28), (3,)),
    ("C3", Conv2DSpec(C3_TABLE, 12, 12), (1, 17)),
    ("C3-full", Conv2DSpec(ConnectionTable.full(6, 16), 12, 12), (3,)),
    ("C3-small", Conv2DSpec(C3_TABLE, 6, 6), BATCHES),
    ("irregular", Conv2DSpec(IRREGULAR, 7, 6, 3, 2), BATCHES),
    ("wide-kernel", Conv2DSpec(IRREGULAR, 9, 6, 2, 5), (16,)),
    ("tall-kernel", Conv2DSpec(ConnectionTable.full(3, 2), 4, 13, 4, 1), (5,)),
    ("one-output-pixel", Conv2DSpec(IRREGULAR, 5, 5), (1, 18)),
    ("one-pixel-kernel", Conv2DSpec(ConnectionTable.full(3, 7), 4, 5, 1, 1), (33,)),
    ("one-number", Conv2DSpec(ConnectionTable.full(1, 1), 1, 1, 1, 1), (1,)),
)

POOLINGS = (
    ("S2", (6, 24, 24, 2), (3,)),
    ("S4", (16, 8, 8, 2), (16,)),
    ("long", (5, 2, 14, 2), BATCHES),
    ("window-3", (3, 6, 9, 3), (5,)),
    ("window-5", (2, 10, 5, 5), (3,)),
    ("window-15", (1, 15, 30, 15), (2,)),
    ("window-1", (2, 3, 5, 1), (2,)),
    ("one-number", (1, 1, 1, 1), (1,)),
)

DENSES = (
    ("F5", DenseSpec(256, 120), (3,)),
    ("F6", DenseSpec(120, 84), (16,)),
    ("output", DenseSpec(84, 10), (65,)),
    ("odd", DenseSpec(37, 11), BATCHES),
    ("larger", DenseSpec(400, 33), (7,)),
    ("one-number", DenseSpec(1, 1), (1,)),
)

DISTORTIONS = (
    *(("mixed", Distortion(13, 11, 20), batch) for batch in BATCHES),
    ("digits", Distortion(28, 28, 5), 16),
    ("odd-size", Distortion(7, 5, 3, transform="identity"), 3),
    ("one-pixel", Distortion(1, 1, 2), 3),
    ("one-row", Distortion(1, 9, 2), 4),
    ("first", Distortion(6, 9, 8, index="first"), 5),
    ("pixels", Distortion(9, 7, 8, transform="none"), 16),
    ("first-pixels", Distortion(9, 7, 8, index="first", transform="none"), 8),
    ("repeats", Distortion(5, 5, 4, index="repeats"), 9),
    ("half-pixel", Distortion(6, 6, 4, transform="half-pixel"), 4),
    ("border", Distortion(6, 8, 4, transform="border"), 8),
    ("quarter-turn", Distortion(9, 9, 4, transform="quarter-turn"), 4),
    ("half-turn", Distortion(8, 5, 4, transform="half-turn"), 4),
    ("far-out", Distortion(8, 10, 4, transform="far-out"), 8),
    ("magnified", Distortion(10, 12, 4, transform="magnified"), 4),
)

UPDATES = (
    Update(GradientDescent(), 1, 1, average=False),
    Update(GradientDescent(), 1001, 3, average=True),
    Update(Momentum(), 15, 1, average=False),
    Update(Momentum(), 1001, 7, average=True),
    Update(Momentum(0.0), 63, 2, average=False),
    Update(Adam(), 1, 1, average=False),
    Update(Adam(), 1001, 1, average=True),
    Update(Adam(), 43526, 1000, average=True),
    Update(Adam(beta1=0.5, beta2=0.9, epsilon=1e-3), 65, 2, average=False),
    Update(Adam(beta1=0.0, beta2=0.0), 17, 4, average=True),
)


def _table() -> Iterator[Case]:
    for name, distortion, batch in DISTORTIONS:
        yield Case("distort", batch, distortion, name=name)

    for name, spec, batches in CONVOLUTIONS:
        for batch in batches:
            yield Case("conv2d_forward", batch, spec, name=name)
            yield Case("conv2d_backward", batch, spec, name=name)
    yield Case("conv2d_backward", 3, CONVOLUTIONS[0][1], fill="without-dx", name="C1")
    yield Case("conv2d_backward", 17, CONVOLUTIONS[3][1], fill="without-dx", name="C3-small")

    for name, geometry, batches in POOLINGS:
        for batch in batches:
            for op in ("pool2d_forward", "pool2d_backward"):
                yield Case(op, batch, Pool2DSpec(*geometry, mode="mean"), name=f"mean-{name}")
                yield Case(op, batch, Pool2DSpec(*geometry, mode="max"), name=f"max-{name}")
                yield Case(op, batch, Pool2DSpec(*geometry, mode="max"), fill="ties", name=f"max-{name}")
    yield Case("pool2d_forward", 3, Pool2DSpec(2, 4, 6, mode="max"), fill="negative", name="max")

    for name, dense, batches in DENSES:
        for batch in batches:
            yield Case("dense_forward", batch, dense, name=name)
            yield Case("dense_backward", batch, dense, name=name)

    for kind in ACTIVATIONS:
        for op in ("activation_forward", "activation_backward"):
            for batch in BATCHES:
                yield Case(op, batch, Activated(kind, (5, 3, 7)), name=kind)
            yield Case(op, 3, Activated(kind, (84,)), name=f"{kind}-units")
            yield Case(op, 4, Activated(kind, (3, 5, 5)), fill="saturated", name=kind)

    for batch in BATCHES:
        for fill in ("normal", "large"):
            yield Case("softmax_cross_entropy", batch, Classes(10), fill=fill)
            yield Case("softmax_cross_entropy", batch, Classes(10, shares=True), fill=fill, name="shares")
        for fill in ("normal", "ties"):
            yield Case("argmax", batch, Classes(10), fill=fill)
    for classes in (1, 2, 47):
        yield Case("softmax_cross_entropy", 5, Classes(classes), name=f"k{classes}")
        yield Case("softmax_cross_entropy", 5, Classes(classes, shares=True), name=f"k{classes}-shares")
        yield Case("softmax_cross_entropy", 5, Classes(classes), fill="equal", name=f"k{classes}")
        yield Case("argmax", 5, Classes(classes), fill="ties", name=f"k{classes}")
        yield Case("argmax", 5, Classes(classes), fill="negative", name=f"k{classes}")

    for update in UPDATES:
        name = f"{update.rule}-{update.size}"
        yield Case("optimizer_step", update.size, update, name=name)
    yield Case("optimizer_step", 15, Update(Adam(), 15, 1, average=True), fill="no-gradient", name="Adam")


CASES = tuple(_table())


# The numbers ---------------------------------------------------------------------------------------------------------


def build(case: Case) -> Problem:
    """Draw the arguments of a case, always the same ones."""
    random = np.random.Generator(np.random.Philox(zlib.crc32(str(case).encode())))

    def normal(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape).astype(np.float32)

    def ties(*shape: int) -> NDArray[np.float32]:
        return random.integers(-2, 3, shape).astype(np.float32)

    batch, spec = case.batch, case.spec
    match case.op, spec:
        case "distort", Distortion():
            return _distort(spec, batch, random)

        case "conv2d_forward", Conv2DSpec():
            return Problem(
                constants={"spec": spec},
                inputs={
                    "x": normal(batch, *spec.input_shape),
                    "weight": normal(*spec.weight_shape),
                    "bias": normal(*spec.bias_shape),
                },
                outputs={"out": ((batch, *spec.output_shape), None)},
            )
        case "conv2d_backward", Conv2DSpec():
            problem = Problem(
                constants={"spec": spec},
                inputs={
                    "dy": normal(batch, *spec.output_shape),
                    "x": normal(batch, *spec.input_shape),
                    "weight": normal(*spec.weight_shape),
                },
                outputs={
                    "dx": ((batch, *spec.input_shape), None),
                    "dweight": (spec.weight_shape, None),
                    "dbias": (spec.bias_shape, None),
                },
            )
            if case.fill == "without-dx":
                del problem.outputs["dx"]
                problem.constants["dx"] = None
            return problem

        case "pool2d_forward", Pool2DSpec():
            x = ties(batch, *spec.input_shape) if case.fill == "ties" else normal(batch, *spec.input_shape)
            problem = Problem(
                constants={"spec": spec},
                inputs={"x": -1 - abs(x) if case.fill == "negative" else x},
                outputs={"out": ((batch, *spec.output_shape), None)},
            )
            if spec.mode == "max":
                problem.outputs["argmax"] = ((batch, *spec.output_shape), np.uint8)
            else:
                problem.constants["argmax"] = None
            return problem
        case "pool2d_backward", Pool2DSpec():
            problem = Problem(
                constants={"spec": spec},
                inputs={"dy": normal(batch, *spec.output_shape)},
                outputs={"dx": ((batch, *spec.input_shape), None)},
            )
            if spec.mode == "max":
                last = 1 if case.fill == "ties" else spec.window**2  # the first of equals is often position 0
                problem.inputs["argmax"] = random.integers(0, last, (batch, *spec.output_shape)).astype(np.uint8)
            else:
                problem.constants["argmax"] = None
            return problem

        case "dense_forward", DenseSpec():
            return Problem(
                constants={"spec": spec},
                inputs={
                    "x": normal(batch, spec.inputs),
                    "weight": normal(*spec.weight_shape),
                    "bias": normal(*spec.bias_shape),
                },
                outputs={"out": ((batch, spec.outputs), None)},
            )
        case "dense_backward", DenseSpec():
            return Problem(
                constants={"spec": spec},
                inputs={
                    "dy": normal(batch, spec.outputs),
                    "x": normal(batch, spec.inputs),
                    "weight": normal(*spec.weight_shape),
                },
                outputs={
                    "dx": ((batch, spec.inputs), None),
                    "dweight": (spec.weight_shape, None),
                    "dbias": (spec.bias_shape, None),
                },
            )

        case (("activation_forward" | "activation_backward"), Activated()):
            x = 3 * normal(batch, *spec.shape)
            if case.fill == "saturated":
                x *= np.float32(3000)
            x.flat[:4] = 0.0, 0.5, -20.0, 20.0  # the kink of ReLU; and always something to measure errors by
            if case.op == "activation_forward":
                return Problem({"kind": spec.kind}, {"x": x}, outputs={"out": (x.shape, None)})
            y = oracle.activation_forward(spec.kind, x.astype(np.float64))
            dy = normal(*x.shape)
            return Problem(
                constants={"kind": spec.kind},
                inputs={"dy": dy, "y": y},
                outputs={"dx": (x.shape, None)},
                scale={"dx": float(abs(dy).max())},
                extra={"x": x},
            )

        case "softmax_cross_entropy", Classes():
            logits = {
                "normal": normal(batch, spec.count),
                "large": (1e4 * (2 * random.random((batch, spec.count)) - 1)).astype(np.float32),
                "equal": np.full((batch, spec.count), 0.7, np.float32),
            }[case.fill]
            if case.fill == "large":
                logits[:, :2] = 1e4, -1e4
            labels = random.integers(0, spec.count, batch)
            labels[0] = 0
            targets = random.dirichlet(np.ones(spec.count), batch) if spec.shares else np.eye(spec.count)[labels]
            return Problem(
                inputs={"logits": logits, "targets": targets.astype(np.float32)},
                outputs={"losses": ((batch,), None), "dlogits": (logits.shape, None)},
                scale={"losses": "each", "dlogits": 1 / batch},
            )
        case "argmax", Classes():
            x = ties(batch, spec.count) if case.fill == "ties" else normal(batch, spec.count)
            return Problem(
                inputs={"x": -1 - abs(x) if case.fill == "negative" else x},
                outputs={"out": ((batch,), np.int32)},
            )

        case "optimizer_step", Update(rule, size, step, average):
            beta1, beta2 = (rule.beta1, rule.beta2) if isinstance(rule, Adam) else (0.0, 0.0)
            decay = 0.9 if average else 0.0
            gradients, moments = normal(size), normal(rule.moments, size)
            if case.fill == "no-gradient":
                gradients[:] = 0
            if step == 1:
                moments[:] = 0
            moments[1:] **= 2
            problem = Problem(
                constants={"rule": rule},
                inputs={
                    "gradients": gradients,
                    "hyper": np.array([0.0625, 1 - beta1**step, 1 - beta2**step, decay]),
                },
                updated={"parameters": normal(size), "moments": moments},
                extra={"decay": decay},
            )
            if average:
                problem.updated["average"] = normal(size)
            else:
                problem.constants["average"] = None
            return problem
    raise AssertionError(f"no rule to build {case}")


def _distort(spec: Distortion, batch: int, random: np.random.Generator) -> Problem:
    """Draw images, an index and transforms (N, 2, 3) for `distort`."""
    height, width = spec.height, spec.width
    problem = Problem(
        inputs={"images": random.integers(0, 256, (spec.stored, height, width)).astype(np.uint8)},
        outputs={"out": ((batch, 1, height, width), None)},
        scale={"out": 1.0},
    )
    if spec.index == "first":
        problem.constants["index"] = None
    else:
        repeats = random.integers(0, 2 if spec.index == "repeats" else spec.stored, batch).astype(np.int32)
        shuffled = random.permutation(spec.stored).astype(np.int32)
        problem.inputs["index"] = shuffled if spec.index == "shuffled" and batch == spec.stored else repeats

    angle = random.uniform(-0.5, 0.5, batch)
    zoom = random.uniform(0.7, 1.4, batch)
    shift = random.uniform(-3, 3, (batch, 2))
    identity = np.tile(np.eye(2, 3), (batch, 1, 1))
    transforms = identity.copy()
    match spec.transform:
        case "none":
            problem.constants["transforms"] = None
            return problem
        case "mixed":
            transforms[:, 0, 0] = transforms[:, 1, 1] = np.cos(angle) / zoom
            transforms[:, 0, 1], transforms[:, 1, 0] = -np.sin(angle) / zoom, np.sin(angle) / zoom
            transforms[:, :, 2] = shift
        case "half-pixel":
            transforms[:, :, 2] += [(0.5, 0), (0, 0.5), (-0.5, 0.5), (0.5, -0.5)]
        case "border":  # the last row of pixels that still shows, the first point that is black, and around them
            edge = np.array([-1.0, -0.75, -0.25, 0.0, 0.25, 0.75, 1.0, 2.0])
            transforms[:, 0, 2], transforms[:, 1, 2] = edge, edge[::-1]
        case "quarter-turn":
            transforms[:] = [[0, -1, height - 1], [1, 0, 0]]
        case "half-turn":
            transforms[:] = [[-1, 0, width - 1], [0, -1, height - 1]]
        case "far-out":
            transforms[:, 0, 2] = [1e4, -1e4, 0, 0, 1e9, -1e9, 3e9, -width]
            transforms[:, 1, 2] = [0, 0, 1e4, -1e4, 1e9, -1e9, -3e9, 0]
        case "magnified":
            transforms[:, 0] *= 0.0625
            transforms[:, :, 2] = shift
    problem.inputs["transforms"] = transforms.astype(np.float32)
    return problem


def run(backend: Backend, case: Case, poison: float = np.nan) -> dict[str, NDArray[Any]]:
    """Call the primitive of a case on a backend and return what it wrote; bytes that it must write hold 255 before.

    The inputs are checked to be as they were.
    """
    problem = build(case)
    inputs = {name: upload(backend, name, array) for name, array in problem.inputs.items()}
    written = {name: upload(backend, name, array) for name, array in problem.updated.items()}
    for name, (shape, dtype) in problem.outputs.items():
        host = np.full(shape, poison, backend.dtype) if dtype is None else np.full(shape, -1).astype(dtype)
        written[name] = backend.to_device(host)
    before = {name: backend.to_host(array).tobytes() for name, array in inputs.items()}

    returned = getattr(backend, case.op)(**problem.constants, **inputs, **written)

    assert returned is None, f"{case.op} returned {returned!r}"
    for name, array in inputs.items():
        assert backend.to_host(array).tobytes() == before[name], f"{case.op} changed its input {name}"
    return {name: backend.to_host(array) for name, array in written.items()}


def upload(backend: Backend, name: str, array: NDArray[Any]) -> Any:
    """Copy an argument to the device; floats in the backend's dtype, but for transforms, which are always float32."""
    is_float = np.issubdtype(array.dtype, np.floating) and name != "transforms"
    return backend.to_device(array.astype(backend.dtype) if is_float else array)
