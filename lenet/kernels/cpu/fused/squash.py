"""The squashing functions and their derivatives, emitted into the micro-kernels that end a layer."""

from collections.abc import Sequence

from lenet.kernels.cpu.simd import Emitter, Value

SCALED_TANH_AMPLITUDE = 1.7159
SCALED_TANH_SLOPE = 2.0 / 3.0

PAIR_LIMIT = 43.0  # e^43 squared is within float32


def squash(v: Emitter, kind: str, xs: Sequence[Value]) -> list[Value]:
    """Return f(x) of each x; the tangents by way of the sigmoid, tanh(x) = 2 sigmoid(2x) - 1."""
    if kind == "":
        return list(xs)
    if kind == "relu":
        return [v.maximum(x, v.constant(0.0)) for x in xs]
    steepness = {"sigmoid": 1.0, "tanh": 2.0, "scaled_tanh": 2.0 * SCALED_TANH_SLOPE}[kind]
    one, slope = v.constant(1.0), v.constant(-steepness)
    sigmoids = _reciprocals(v, [v.add(one, v.exp(v.mul(x, slope), PAIR_LIMIT)) for x in xs])
    if kind == "sigmoid":
        return sigmoids
    amplitude = {"tanh": 1.0, "scaled_tanh": SCALED_TANH_AMPLITUDE}[kind]
    return [v.fma(sigmoid, v.constant(2.0 * amplitude), v.constant(-amplitude)) for sigmoid in sigmoids]


def _reciprocals(v: Emitter, xs: Sequence[Value]) -> list[Value]:
    """Return 1 / x of each x with one division for two, 1 / x = y / (x y): divisions are what a squash waits for."""
    found = []
    for x, y in zip(xs[::2], xs[1::2], strict=False):
        shared = v.div(v.constant(1.0), v.mul(x, y))
        found += [v.mul(shared, y), v.mul(shared, x)]
    return found if len(xs) % 2 == 0 else [*found, v.div(v.constant(1.0), xs[-1])]


def derivative(v: Emitter, kind: str, y: Value) -> Value:
    """Return f'(x), from y = f(x)."""
    one, zero = v.constant(1.0), v.constant(0.0)
    if kind == "sigmoid":
        return v.fma(v.mul(y, v.constant(-1.0)), y, y)
    if kind == "tanh":
        return v.fma(v.mul(y, v.constant(-1.0)), y, one)
    if kind == "scaled_tanh":
        slope, amplitude = SCALED_TANH_SLOPE, SCALED_TANH_AMPLITUDE
        return v.fma(v.mul(y, v.constant(-slope / amplitude)), y, v.constant(slope * amplitude))
    if kind == "relu":
        return v.builder.select(v.builder.fcmp_ordered(">", y, zero), one, zero)
    return one
