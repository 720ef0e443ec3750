"""How a network is laid out for the fused kernels: places, and how much is worked at once in registers."""

import numba
import numpy as np
from numba.core.codegen import get_host_cpu_features

from lenet.errors import Unsupported
from lenet.kernels.cpu import fused
from lenet.kernels.cpu.fused import Block, Connections, ConvStage, DenseStage, Plan
from lenet.kernels.cpu.simd import LANES
from lenet.layers import Activation, Conv2D, Dense, Layer, Pool2D
from lenet.network import Network
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule


def vector_registers() -> int:
    """Return how many vectors of 16 floats the processor's registers hold, as far as Numba may use them."""
    forced = numba.config.CPU_FEATURES  # NUMBA_CPU_FEATURES
    features = set((get_host_cpu_features() if forced is None else forced).split(","))
    if "+avx512f" in features:
        return 32
    return 8 if features & {"+avx2", "+neon"} else 4


class _Places:
    """Hands out places in an array, a cache line each."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, count: int) -> int:
        place = self.size
        self.size += -(-count // LANES) * LANES
        return place


def _divisor(number: int, limit: int, even: bool = False) -> int:
    """Return the largest divisor of ``number`` up to ``limit``, an even one if need be."""
    return max(d for d in range(1, limit + 1) if number % d == 0 and not (even and d % 2))


def _blocks(count: int, limit: int) -> tuple[Block, Block]:
    """Cut ``count`` things into blocks of about ``limit``: the size of most, and of what is left over."""
    whole = _divisor(count, min(limit, count))
    if 2 * whole >= min(limit, count):
        return Block(whole), Block(1)
    return Block(limit), Block(count % limit)


class Planner:
    """Lays out a network for the kernels; refuses what they are not made for."""

    def __init__(self, network: Network, registers: int) -> None:
        self._network, self._registers = network, registers
        self._offsets = {parameter.key: parameter.offset for parameter in network.parameters}
        self._scratch, self._record = _Places(), _Places()

    def plan(self, rule: Rule | None, averaging: bool, distorted: bool) -> Plan:
        """Return the plan for training with ``rule`` on images ``distorted`` or as they are; without, for answering.

        Raises
        ------
        Unsupported
            When the network is no LeNet-5, or has windows or kernels that the kernels here have not.
        """
        match self._network.layers:
            case (
                Conv2D() as c1, Activation() as a1, Pool2D() as s2, Conv2D() as c3, Activation() as a3, Pool2D() as s4,
                Dense() as f5, Activation() as a5, Dense() as f6, Activation() as a6, Dense() as output,
            ):  # fmt: skip
                pass
            case _:
                raise Unsupported("the fused executor runs LeNet-5 only: C1, S2, C3, S4, F5, F6, output")
        _, height, width = self._network.input_shape
        pixels = self._scratch.take(height * width * LANES)
        first = self._conv(c1, a1, s2, pixels, rule)
        third = self._conv(c3, a3, s4, first.y, rule)
        fifth = self._dense(f5, a5, third.y, "")
        sixth = self._dense(f6, a6, fifth.y, a5.spec.kind)
        last = self._dense(output, None, sixth.y, a6.spec.kind)
        convolutions = self._offsets["F5.weight"]
        return Plan(
            source=fused.SOURCE,
            height=height,
            width=width,
            classes=self._network.classes,
            c1=first,
            c3=third,
            f5=fifth,
            f6=sixth,
            output=last,
            rule=_rule(rule, averaging),
            distorted=int(distorted),
            pixels=pixels,
            targets=self._scratch.take((self._network.classes + 4) * LANES),
            convolutions=convolutions,
            gradient=self._record.take(convolutions + LANES),
            scratch=self._scratch.size + LANES * LANES,
            record=self._record.size,
        )

    def _conv(self, conv: Conv2D, activation: Activation, pool: Pool2D, x: int, rule: Rule | None) -> ConvStage:
        spec = conv.spec
        outputs, rows, columns = spec.output_shape
        if pool.spec.window != 2:
            raise Unsupported(f"the fused executor pools windows of 2 x 2, not {pool.spec.window} x {pool.spec.window}")
        if spec.kernel_width > LANES // 2:
            raise Unsupported(
                f"the fused executor has kernels of at most {LANES // 2} columns, not {spec.kernel_width}"
            )
        most = {32: 8, 8: 2, 4: 2}[self._registers]
        return ConvStage(
            learns=int(rule is not None),
            inputs=spec.table.inputs,
            height=spec.height,
            width=spec.width,
            outputs=outputs,
            rows=rows,
            columns=columns,
            kernel_height=spec.kernel_height,
            kernel_width=spec.kernel_width,
            activation=activation.spec.kind,
            pool=pool.spec.mode,
            weight=self._offsets[f"{conv.name}.weight"],
            bias=self._offsets[f"{conv.name}.bias"],
            x=x,
            slope=self._scratch.take(outputs * rows * columns * LANES),
            y=self._scratch.take(outputs * rows * columns // 4 * LANES),
            dy=self._scratch.take(outputs * rows * columns // 4 * LANES),
            block=_divisor(columns, most, even=True),
            pair=Block(2 if self._registers == 32 else 1),
            single=Block(1),
            run=Block(_divisor(-(-rows * spec.width // LANES), {32: 14, 8: 6, 4: 3}[self._registers])),
        )

    def _dense(self, dense: Dense, activation: Activation | None, x: int, below: str) -> DenseStage:
        inputs, outputs = dense.spec.inputs, dense.spec.outputs
        stride = -(-inputs // LANES) * LANES
        few, units, wide = {32: (28, 6, 4), 8: (6, 2, 2), 4: (3, 2, 1)}[self._registers]
        out, out_rest = _blocks(outputs, few)
        back, back_rest = _blocks(inputs, few)
        share = Block(min(units, outputs))
        return DenseStage(
            inputs=inputs,
            outputs=outputs,
            activation=activation.spec.kind if activation else "",
            below=below,
            weight=self._offsets[f"{dense.name}.weight"],
            bias=self._offsets[f"{dense.name}.bias"],
            x=x,
            y=self._scratch.take(outputs * LANES),
            rows=self._record.take(LANES * stride),
            stride=stride,
            delta=self._record.take(outputs * LANES),
            out=out,
            out_rest=out_rest,
            back=back,
            back_rest=back_rest,
            share=share,
            share_rest=Block(outputs % share.count or 1),
            wide=Block(_divisor(stride // LANES, wide)),
            units=Block(_divisor(outputs, min(LANES, few))),
            step=Block(inputs),
            one=Block(1),
            row=Block(stride),
        )


def _rule(rule: Rule | None, averaging: bool) -> fused.Rule:
    match rule:
        case Adam(beta1, beta2, epsilon):
            return fused.Rule("adam", 0.0, beta1, beta2, epsilon, int(averaging))
        case Momentum(momentum):
            return fused.Rule("momentum", momentum, 0.0, 0.0, 0.0, int(averaging))
        case GradientDescent() | None:
            return fused.Rule("gd", 0.0, 0.0, 0.0, 0.0, int(averaging))


def connections(layer: Layer) -> Connections:
    """Return the connection table of a convolution as the kernels read it."""
    assert isinstance(layer, Conv2D)
    table = layer.spec.table
    k, c = np.array(table.connections, dtype=np.int64).T
    into = np.argsort(c, kind="stable")
    return Connections(
        first=np.searchsorted(k, np.arange(table.outputs + 1)),
        inputs=c,
        first_into=np.searchsorted(c[into], np.arange(table.inputs + 1)),
        into=into,
        outputs=k[into],
    )
