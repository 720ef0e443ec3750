"""Vectors of sixteen float32, and micro-kernels: the inner loops of the CPU, written as the instructions they emit.

A tile of 16 images is one vector wide. LLVM keeps a vector in one register with AVX-512, in two with AVX2, in four with
NEON or SSE; nothing else in the code depends on the processor.

A *micro-kernel* is a Python function that runs once, when code is compiled. It is handed an `Emitter` and its arguments
as LLVM values, and its ordinary ``for`` loops unroll into a straight line of vector instructions, its lists into
registers::

    @micro_kernel(lambda total, *_: total)
    def axpy_block(v, total, factor, factor_at, x, x_at):
        a = v.broadcast(factor, factor_at)
        return [v.fma(a, v.load(x, x_at, 16 * i), total[i]) for i in range(len(total))]

Jitted code calls it like a function. Arrays (one-dimensional, contiguous) become `Pointer`, tuples of vectors become
lists, `lenet.kernels.cpu.frozen.Frozen` objects become themselves. Offsets count elements.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numpy.polynomial import Chebyshev, Polynomial

from lenet.kernels.cpu.frozen import Frozen

LANES = 16

Value = Any
"""An LLVM value."""

FLOAT, INT, LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)

FIRST = ir.Constant(LONG, 0)
"""The place of the first element of an array."""

LOG2_E = math.log2(math.e)
ROUND = 1.5 * 2.0**23  # added to a float32 and taken away again, it rounds to a whole number
EXP_LIMIT = 87.0  # exp of it is within float32, and so is that of its negative
EXP2_TERMS = 5  # of (2^f - 1) / f, |f| <= 1/2: relative error of 2^f 2e-7


class VectorType(types.Type):
    """The Numba type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


vector = VectorType()
register_model(VectorType)(lambda manager, kind: models.PrimitiveModel(manager, kind, FLOATS))


def vectors(count: int) -> Any:
    """Return the Numba type of a tuple of vectors: accumulators."""
    return types.UniTuple(vector, count)


class Pointer:
    """The first element of an array."""

    def __init__(self, base: Value) -> None:
        self.base = base


class Emitter:
    """Emits instructions on vectors; every method returns an LLVM value."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    # memory

    def address(self, array: Pointer, at: Value, plus: int = 0) -> Value:
        """Return the address of element ``at + plus``."""
        place = self.builder.add(at, ir.Constant(at.type, plus)) if plus else at
        return self.builder.gep(array.base, [place])

    def load(self, array: Pointer, at: Value, plus: int = 0) -> Value:
        """Load 16 floats."""
        place = self.builder.bitcast(self.address(array, at, plus), FLOATS.as_pointer())
        return self.builder.load(place, align=4)

    def store(self, value: Value, array: Pointer, at: Value, plus: int = 0) -> None:
        """Store 16 floats."""
        place = self.builder.bitcast(self.address(array, at, plus), FLOATS.as_pointer())
        self.builder.store(value, place, align=4)

    def load_all(self, array: Pointer, at: Value, count: int, step: int = LANES) -> list[Value]:
        """Load ``count`` vectors, ``step`` elements apart."""
        return [self.load(array, at, step * i) for i in range(count)]

    def store_all(self, values: Sequence[Value], array: Pointer, at: Value, step: int = LANES) -> None:
        """Store vectors, ``step`` elements apart."""
        for i, value in enumerate(values):
            self.store(value, array, at, step * i)

    def load_first(self, array: Pointer, at: Value, count: Value) -> Value:
        """Load the first ``count`` of 16 floats, at most all; the others are zero and not touched."""
        place = self.builder.bitcast(self.address(array, at), FLOATS.as_pointer())
        return self._masked("llvm.masked.load.v16f32.p0v16f32", FLOATS, place, count, self.constant(0.0))

    def store_first(self, value: Value, array: Pointer, at: Value, count: Value) -> None:
        """Store the first ``count`` of 16 floats, at most all."""
        place = self.builder.bitcast(self.address(array, at), FLOATS.as_pointer())
        self._masked("llvm.masked.store.v16f32.p0v16f32", ir.VoidType(), place, count, value)

    def _masked(self, name: str, kind: Any, place: Value, count: Value, value: Value) -> Value:
        b = self.builder
        lanes = ir.Constant(INTS, list(range(LANES)))
        mask = b.icmp_signed("<", lanes, self.splat(b.trunc(count, INT)))
        align = ir.Constant(INT, 4)
        loads = kind == FLOATS
        arguments = (place, align, mask, value) if loads else (value, place, align, mask)
        return self.call(name, kind, *arguments)

    def broadcast(self, array: Pointer, at: Value, plus: int = 0) -> Value:
        """Load one float into all lanes."""
        return self.splat(self.builder.load(self.address(array, at, plus)))

    def gather(self, array: Pointer, places: Value) -> Value:
        """Load four bytes from each of 16 places, a vector of integers, as 16 little-endian integers."""
        addresses = self.builder.gep(array.base, [FIRST])
        addresses.indices, addresses.type = [places], ir.VectorType(addresses.type, LANES)  # llvmlite knows no such gep
        addresses = self.builder.bitcast(addresses, ir.VectorType(INT.as_pointer(), LANES))
        every, nothing = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] * LANES), ir.Constant(INTS, ir.Undefined)
        return self.call("llvm.masked.gather.v16i32.v16p0i32", INTS, addresses, ir.Constant(INT, 1), every, nothing)

    def gather_at(self, array: Pointer, places: Sequence[Value]) -> Value:
        """Load four bytes from each of 16 places as 16 little-endian integers."""
        found = ir.Constant(INTS, ir.Undefined)
        for lane, place in enumerate(places):
            address = self.builder.bitcast(self.builder.gep(array.base, [place]), INT.as_pointer())
            found = self.builder.insert_element(found, self.builder.load(address, align=1), ir.Constant(INT, lane))
        return found

    def moved(self, array: Pointer, at: Value, plus: int) -> tuple[Pointer, Value]:
        """Return the place ``plus`` elements on."""
        return array, self.builder.add(at, ir.Constant(at.type, plus)) if plus else at

    # arithmetic

    def constant(self, number: float) -> Value:
        """Return a float in all lanes."""
        return ir.Constant(FLOATS, [float(np.float32(number))] * LANES)

    def integer(self, number: int) -> Value:
        """Return an integer in all lanes."""
        return ir.Constant(INTS, [number] * LANES)

    def splat(self, number: Value) -> Value:
        """Return a number in all lanes."""
        kind = ir.VectorType(number.type, LANES)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(INT, 0))
        return self.shuffle(one, one, [0] * LANES)

    def whole(self, x: Value) -> Value:
        """Return floats as integers, toward zero."""
        return self.builder.fptosi(x, INTS)

    def real(self, x: Value) -> Value:
        """Return integers as floats."""
        return self.builder.sitofp(x, FLOATS)

    def shuffle(self, x: Value, y: Value, lanes: Sequence[int]) -> Value:
        """Pick lanes of x (0..15) and of y (16..31)."""
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(INT, LANES), list(lanes)))

    def call(self, name: str, kind: Any, *arguments: Value) -> Value:
        """Call an intrinsic of LLVM."""
        signature = ir.FunctionType(kind, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, name), arguments)

    def add(self, x: Value, y: Value) -> Value:
        """Return x + y."""
        return self.builder.fadd(x, y)

    def sub(self, x: Value, y: Value) -> Value:
        """Return x - y."""
        return self.builder.fsub(x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """Return x y."""
        return self.builder.fmul(x, y)

    def div(self, x: Value, y: Value) -> Value:
        """Return x / y."""
        return self.builder.fdiv(x, y)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """Return x y + z, in one instruction where the processor has it."""
        return self.call("llvm.fmuladd.v16f32", FLOATS, x, y, z)

    def sqrt(self, x: Value) -> Value:
        """Return the square root."""
        return self.call("llvm.sqrt.v16f32", FLOATS, x)

    def maximum(self, x: Value, y: Value) -> Value:
        """Return the larger of x and y; NaN where either is."""
        larger = self.builder.fcmp_ordered(">=", x, y)
        return self.builder.select(self.builder.or_(larger, self.builder.fcmp_unordered("uno", x, x)), x, y)

    def clamp(self, x: Value, low: float, high: float) -> Value:
        """Return x within two limits; NaN stays NaN."""
        for limit, beyond in ((low, "<"), (high, ">")):
            bound = self.constant(limit)
            x = self.builder.select(self.builder.fcmp_ordered(beyond, x, bound), bound, x)
        return x

    def limit(self, x: Value, low: float, high: float) -> Value:
        """Return x within two limits; the lower one for NaN."""
        lowest, highest = self.constant(low), self.constant(high)
        x = self.builder.select(self.builder.fcmp_ordered(">", x, lowest), x, lowest)
        return self.builder.select(self.builder.fcmp_ordered("<", x, highest), x, highest)

    def total(self, x: Value) -> Value:
        """Return the sum of the 16 lanes as one float, halves first: always in the same order."""
        for half in (8, 4, 2, 1):
            x = self.add(x, self.shuffle(x, x, [(lane + half) % LANES for lane in range(LANES)]))
        return self.builder.extract_element(x, ir.Constant(INT, 0))

    def totals(self, rows: Sequence[Value]) -> Value:
        """Return the sums of the lanes of up to 16 vectors, that of vector i in lane i."""
        rows = [*rows, *[self.constant(0.0)] * (LANES - len(rows))]
        for distance in (1, 2, 4, 8):
            low, high = _swap_lanes(distance)
            pairs = zip(rows[::2], rows[1::2], strict=True)
            rows = [self.add(self.shuffle(x, y, low), self.shuffle(x, y, high)) for x, y in pairs]
        return rows[0]

    def exp(self, x: Value, limit: float = EXP_LIMIT) -> Value:
        """Return e^x = 2^n 2^f, n whole, |f| <= 1/2; NaN stays NaN.

        Relative error 3e-7 + 1e-7 |x|, without fused multiply-add; x is limited to ±``limit``.
        """
        b, log2_e = self.builder, self.constant(LOG2_E)
        x = self.clamp(x, -limit, limit)
        shifted = self.fma(x, log2_e, self.constant(ROUND))
        n = self.sub(shifted, self.constant(ROUND))
        f = self.fma(x, log2_e, self.sub(self.constant(0.0), n))
        *others, power = map(self.constant, _exp2_series())
        for coefficient in reversed(others):
            power = self.fma(power, f, coefficient)
        # The whole number sits in the low bits of `shifted`; 23 places up, it adds to the exponent.
        exponent = b.shl(b.bitcast(shifted, INTS), self.integer(23))
        return b.bitcast(b.add(b.bitcast(power, INTS), exponent), FLOATS)

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """Transpose a 16 x 16 block in four rounds, swapping halves, quarters, pairs and neighbors."""
        rows = list(rows)
        for distance in (1, 2, 4, 8):
            low, high = _swap_lanes(distance)
            for i in range(LANES):
                if not i & distance:
                    upper, lower = rows[i], rows[i | distance]
                    rows[i] = self.shuffle(upper, lower, low)
                    rows[i | distance] = self.shuffle(upper, lower, high)
        return rows


def _exp2_series() -> list[float]:
    """Return the coefficients of 2^f = 1 + f q(f), q being its Taylor series economized by Chebyshev's polynomials."""
    taylor = Polynomial([math.log(2) ** (k + 1) / math.factorial(k + 1) for k in range(2 * EXP2_TERMS)])
    chebyshev = taylor.convert(domain=[-0.5, 0.5], kind=Chebyshev)
    return [1.0, *chebyshev.truncate(EXP2_TERMS).convert(kind=Polynomial).coef]


def _swap_lanes(distance: int) -> tuple[list[int], list[int]]:
    """Return the lanes that exchange what two vectors have ``distance`` lanes apart: one round of a transposition."""
    lanes = range(LANES)
    low = [LANES + (lane ^ distance) if lane & distance else lane for lane in lanes]
    high = [LANES + lane if lane & distance else lane | distance for lane in lanes]
    return low, high


def _emitted(context: Any, builder: Any, kind: Any, value: Value) -> Any:
    if isinstance(kind, Frozen):
        return kind.value
    if isinstance(kind, types.Array):
        return Pointer(context.make_array(kind)(context, builder, value).data)
    if isinstance(kind, types.UniTuple):
        return cgutils.unpack_tuple(builder, value)
    return value


def micro_kernel(returns: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a micro-kernel callable from jitted code.

    ``returns`` is the Numba type of the result, or a function from the Numba types of the arguments to it.
    """

    def decorate(body: Callable[..., Any]) -> Any:
        def typed(typing_context: Any, *kinds: Any) -> Any:
            result = returns if isinstance(returns, types.Type) else returns(*kinds)

            def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                pairs = zip(signature.args, values, strict=True)
                found = body(Emitter(context, builder), *(_emitted(context, builder, *pair) for pair in pairs))
                if result == types.void:
                    return context.get_dummy_value()
                return context.make_tuple(builder, result, found) if isinstance(result, types.UniTuple) else found

            return result(*kinds), emit

        typed.__name__, typed.__qualname__, typed.__module__ = body.__name__, body.__qualname__, body.__module__
        typed.__doc__ = body.__doc__
        names = list(inspect.signature(body).parameters.values())
        typed.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate


# the simplest micro-kernels


@micro_kernel(vector)
def zero(v: Emitter) -> Value:
    """Return 0 in all lanes."""
    return v.constant(0.0)


@micro_kernel(vector)
def plus(v: Emitter, x: Value, y: Value) -> Value:
    """Return x + y."""
    return v.add(x, y)


@micro_kernel(types.float32)
def total_of(v: Emitter, x: Value) -> Value:
    """Return the sum of all lanes."""
    return v.total(x)


@micro_kernel(vector)
def fetch(v: Emitter, array: Pointer, at: Value) -> Value:
    """Load 16 floats."""
    return v.load(array, at)


@micro_kernel(types.void)
def deposit(v: Emitter, x: Value, array: Pointer, at: Value, count: Value) -> None:
    """Store the first ``count`` of 16 floats."""
    v.store_first(x, array, at, count)
