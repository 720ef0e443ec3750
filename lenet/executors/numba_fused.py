"""The fused executor of the Numba backend: whole stretches of batches in one compiled function a thread."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numba
import numpy as np
from numba.core.codegen import get_host_cpu_features
from numpy.typing import NDArray

from lenet.backends.base import Backend
from lenet.backends.numba_backend import NumbaBackend
from lenet.errors import Unsupported
from lenet.executors.base import WATCH_SECONDS, EpochPlan, Executor, Samples, State, Watch
from lenet.kernels.cpu import fused
from lenet.kernels.cpu.fused import BORDER, Block, Connections, ConvStage, DenseStage, Plan
from lenet.kernels.cpu.simd import LANES
from lenet.kernels.cpu.threads import ABANDON, CONTROL, DONE, STOP
from lenet.layers import Activation, Conv2D, Dense, Layer, Pool2D
from lenet.network import Network
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule

FEW = 128  # images that are answered before other threads would have been started


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


class _Planner:
    """Lays out a network for the kernels; refuses what they are not made for."""

    def __init__(self, network: Network, registers: int) -> None:
        self._network, self._registers = network, registers
        self._offsets = {parameter.key: parameter.offset for parameter in network.parameters}
        self._scratch, self._record = _Places(), _Places()

    def plan(self, rule: Rule | None, averaging: bool, distorted: bool) -> Plan:
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
        first = self._conv(c1, a1, s2, pixels)
        third = self._conv(c3, a3, s4, first.y)
        fifth = self._dense(f5, a5, third.y, "")
        sixth = self._dense(f6, a6, fifth.y, a5.spec.kind)
        last = self._dense(output, None, sixth.y, a6.spec.kind)
        convolutions = self._offsets["F5.weight"]
        return Plan(
            source=fused.source_digest(),
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
            spare=self._scratch.take(3 * LANES),
            convolutions=convolutions,
            gradient=self._record.take(convolutions + LANES),
            scratch=self._scratch.size + LANES * LANES,
            record=self._record.size,
        )

    def _conv(self, conv: Conv2D, activation: Activation, pool: Pool2D, x: int) -> ConvStage:
        spec = conv.spec
        outputs, rows, columns = spec.output_shape
        if pool.spec.window != 2:
            raise Unsupported(f"the fused executor pools windows of 2 x 2, not {pool.spec.window} x {pool.spec.window}")
        most = {32: 8, 8: 2, 4: 2}[self._registers]
        return ConvStage(
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


def _connections(layer: Layer) -> Connections:
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


def _aligned(count: int, dtype: type = np.float32) -> NDArray[Any]:
    """Return zeros that begin a cache line."""
    size = np.dtype(dtype).itemsize
    room: NDArray[Any] = np.zeros(count + 64 // size, dtype)
    start = -room.ctypes.data % 64 // size
    return room[start : start + count]


class FusedExecutor(Executor):
    """Runs whole steps tile by tile; see `lenet.kernels.cpu.fused`."""

    name = "fused"

    def __init__(self, network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> None:
        super().__init__(network, backend, rule, averaging)
        assert isinstance(backend, NumbaBackend), "this executor is a part of the Numba backend"
        self._threads = backend.threads

        self._plans = {
            distorted: _Planner(network, vector_registers()).plan(rule, averaging, distorted)
            for distorted in (False, True)
        }
        plan = self._plans[False]
        self._tables = c1, c3 = _connections(network.layers[0]), _connections(network.layers[3])
        self._one = plan, c1.first, c1.inputs, c3.first, c3.inputs
        total = network.size
        self._parameters = _aligned(total)
        self._gradients = _aligned(total)
        self._moments = _aligned((rule.moments if rule else 0) * total)
        self._average = _aligned(total if averaging else 0)
        border = (plan.height + 2 * BORDER) * (plan.width + 2 * BORDER)
        self._own = [
            (
                _aligned(plan.scratch),
                _aligned(6 * LANES),
                _aligned(LANES, np.int64),
                _aligned(LANES * border + 64, np.uint8),
            )
            for _ in range(self._threads)
        ]
        self._records = _aligned(0)
        self._answer_one: Callable[..., None] | None = None

    def write(self, state: State) -> None:
        self._parameters[:] = state.parameters
        self._moments[:] = state.moments.ravel()
        if self.averaging:
            self._average[:] = state.weights

    def read(self) -> State:
        moments = self._moments.reshape(-1, len(self._parameters)).copy()
        return State(self._parameters.copy(), moments, self._average.copy() if self.averaging else None)

    def train_epoch(self, samples: Samples, plan: EpochPlan, watch: Watch | None = None) -> float:
        tiles = -(-min(plan.batch_size, len(plan.order)) // LANES)
        frozen = self._plans[plan.transforms is not None]
        if len(self._records) < tiles * frozen.record:
            self._records = _aligned(tiles * frozen.record)
        hyper = plan.hyper.astype(np.float32).reshape(-1)
        losses = np.zeros(len(plan.order), np.float32)
        control = _aligned(CONTROL, np.int64)
        transforms = np.zeros(0, np.float32) if plan.transforms is None else plan.transforms.reshape(-1)

        def work(own: tuple[Any, ...], order: NDArray[np.int32] = plan.order) -> None:
            fused.train(
                frozen, self._threads, control, *self._tables, samples.images.reshape(-1), samples.labels, order,
                transforms, hyper, plan.batch_size, losses, self._parameters, self._gradients, self._moments,
                self._average, self._records, *own,
            )  # fmt: skip

        told = 0

        def look() -> None:
            nonlocal told
            done = int(control[DONE])
            if watch and done > told:
                watch(done, float(losses[told:done].mean()))
                told = done

        work(self._own[0], plan.order[:0])  # compiles
        self._run(work, control, look)
        return float(losses.mean(dtype=np.float64))

    def _run(self, work: Callable[[Any], None], control: NDArray[np.int64], look: Callable[[], None]) -> None:
        """Run ``work`` in all threads; whatever ``look`` or a thread raises, or Ctrl-C, first stops them."""
        ended: SimpleQueue[BaseException | None] = SimpleQueue()

        def guarded(own: Any) -> None:
            failure: BaseException | None = None
            try:
                work(own)
            except BaseException as error:
                control[STOP], failure = ABANDON, error
            ended.put(failure)

        threads = [threading.Thread(target=guarded, args=(own,), daemon=True) for own in self._own]
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            running = len(started)
            # Not Thread.join: before Python 3.13, one that Ctrl-C interrupts takes the thread for ended while it runs.
            while running:
                with suppress(Empty):
                    failure = ended.get(timeout=WATCH_SECONDS)
                    running -= 1
                    if failure is not None:
                        raise failure
                look()
        finally:
            control[STOP] = max(control[STOP], 1 if len(started) == len(threads) else ABANDON)
            for thread in started:
                thread.join()

    def evaluate(self, samples: Samples) -> tuple[NDArray[Any], NDArray[np.int32]]:
        logits = self.predict(samples.images)
        largest = logits.max(axis=1, keepdims=True)
        shifted = logits - largest
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(logits)), samples.labels]
        return losses, logits.argmax(axis=1).astype(np.int32)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        count = len(images)
        if count == 1:
            return self._predict_one(images)
        logits = np.empty(count * self.network.classes, np.float32)
        control = _aligned(CONTROL, np.int64)
        order = np.arange(count, dtype=np.int32)
        weights = self._average if self.averaging else self._parameters

        def work(own: tuple[Any, ...], order: NDArray[np.int32] = order) -> None:
            fused.answer(self._plans[False], control, *self._tables, images.reshape(-1), order, weights, logits, *own)

        work(self._own[0], order[:0])  # compiles
        if count <= FEW:
            work(self._own[0])
        else:
            self._run(work, control, lambda: None)
        return logits.reshape(count, self.network.classes)

    def _predict_one(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer a single image, in this thread and without a detour: what a live drawing waits for."""
        logits = np.empty((1, self.network.classes), np.float32)
        weights = self._average if self.averaging else self._parameters
        arguments = (*self._one, images.reshape(-1), weights, logits.reshape(-1), self._own[0][0])
        if self._answer_one is None:
            fused.answer_one(*arguments)
            # Numba takes longer to look at the arguments than the kernel takes for its work; they never change in type.
            self._answer_one = fused.answer_one.get_overload(tuple(map(numba.typeof, arguments)))
        self._answer_one(*arguments)
        return logits
