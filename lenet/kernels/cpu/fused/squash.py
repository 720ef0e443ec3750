"""The squashing functions and their derivatives, emitted into the micro-kernels that end a layer."""

from lenet.kernels.cpu.simd import Emitter, Value

SCALED_TANH_AMPLITUDE = 1.7159
SCALED_TANH_SLOPE = 2.0 / 3.0


def squash(v: Emitter, kind: str, x: Value) -> Value:
    """Return f(x); the tangents by way of the sigmoid, tanh(x) = 2 sigmoid(2x) - 1."""
    one, zero = v.constant(1.0), v.constant(0.0)
    if kind == "":
        return x
    if kind == "relu":
        return v.maximum(x, zero)
    steepness = {"sigmoid": 1.0, "tanh": 2.0, "scaled_tanh": 2.0 * SCALED_TANH_SLOPE}[kind]
    sigmoid = v.div(one, v.add(one, v.exp(v.mul(x, v.constant(-steepness)))))
    if kind == "sigmoid":
        return sigmoid
    amplitude = {"tanh": 1.0, "scaled_tanh": SCALED_TANH_AMPLITUDE}[kind]
    return v.fma(sigmoid, v.constant(2.0 * amplitude), v.constant(-amplitude))


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
