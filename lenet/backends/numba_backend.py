"""The Numba backend: the primitives as compiled loops on all CPUs, in float32."""

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from lenet.backends.base import Array
from lenet.backends.numpy_backend import NumpyBackend
from lenet.errors import Unsupported, UsageError
from lenet.kernels.cpu import activation, conv2d, cpus, dense, distort, optimizer, options, pool2d, softmax
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule
from lenet.specs import ActivationKind, Conv2DSpec, DenseSpec, Pool2DSpec

KINDS = {
    "sigmoid": activation.SIGMOID,
    "tanh": activation.TANH,
    "scaled_tanh": activation.SCALED_TANH,
    "relu": activation.RELU,
}

WORTH_THREADS = 500_000  # multiply-adds, some 20 us: below, other threads would take longer to wake than to help
EACH = 8  # multiply-adds that the time for one number of an elementwise kernel is worth, by and large

CACHE_LINE = 64  # bytes; a vector that straddles two costs twice

# What a kernel takes for an optional array that is not there: None would be another type, and another compilation.
NO_INDEX = np.empty(0, np.int32)
NO_IMAGES = np.empty((0, 0, 0, 0), np.float32)
NO_PARAMETERS = np.empty(0, np.float32)


@lru_cache
def _taps(spec: Conv2DSpec) -> conv2d.Taps:
    return conv2d.taps(spec.table.connections, spec.height, spec.width, spec.kernel_height, spec.kernel_width)


class _Scratch:
    """One buffer, handed out anew to every primitive; it grows until the largest is served."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.float32)

    def arrays(self, *shapes: tuple[int, int]) -> list[NDArray[np.float32]]:
        """Return arrays of unspecified values; every row begins a cache line."""
        line = CACHE_LINE // self._buffer.itemsize
        padded = [(rows, -(-columns // line) * line) for rows, columns in shapes]
        total = sum(map(prod, padded))
        if self._buffer.size < total:
            room = np.empty(total + line, np.float32)
            start = -(room.ctypes.data // room.itemsize) % line
            self._buffer = room[start : start + total]
        arrays, start = [], 0
        for shape in padded:
            arrays.append(self._buffer[start : start + prod(shape)].reshape(shape))
            start += prod(shape)
        return arrays


class NumbaBackend(NumpyBackend):
    """Loops over images, maps and pixels, compiled by Numba for this CPU, on several threads.

    What is not overridden here (arrays, ``argmax``) is NumPy's.

    Parameters
    ----------
    threads : how many run a primitive together, by default one for each CPU that this process may use. There are never
        more than Numba launches: ``NUMBA_NUM_THREADS`` in the environment, by default one for each CPU. The results
        are the same bits for every number.

    Raises
    ------
    UsageError
        When ``threads`` is not a whole number from 1 up.
    """

    name = "numba"

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(np.float32)
        if threads is None:
            threads = cpus.usable()
        elif not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise UsageError(f"threads must be a whole number from 1 up, not {threads!r}")
        self.threads = threads
        self._launched = min(threads, options.config.NUMBA_NUM_THREADS)
        self.device = f"cpu (Numba {numba.__version__}, {self._launched} thread{'s' * (self._launched > 1)})"
        self._scratch = _Scratch()

    def _run(self, work: int, kernel: Callable[..., None], *arguments: Any) -> None:
        """Run a kernel whose time is worth ``work`` multiply-adds."""
        # Numba keeps the number for each calling thread: it is set anew every time.
        numba.set_num_threads(self._launched if work >= WORTH_THREADS else 1)
        kernel(*arguments)

    # images ------------------------------------------------------------------------------------------------------

    def distort(self, images: Array, index: Array | None, transforms: Array | None, out: Array) -> None:
        rows = NO_INDEX if index is None else index
        if transforms is None:
            self._run(EACH * out.size, distort.scale, images, rows, out)
        else:
            size = distort.scratch_size(*out.shape[2:])
            scratch, place = self._scratch.arrays((self._launched, size), (self._launched, out.shape[3]))
            place = place.view(np.int32)
            self._run(10 * EACH * out.size, distort.resample, images, rows, transforms, out, scratch, place)

    # layers ------------------------------------------------------------------------------------------------------

    def conv2d_forward(self, spec: Conv2DSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        taps = _taps(spec)
        (scratch,) = self._scratch.arrays((self._launched, conv2d.forward_scratch(x, out)))
        work = _conv2d_work(spec, len(x))
        self._run(work, conv2d.forward, x, weight.reshape(-1), bias, taps.first, taps.start, out, scratch)

    def conv2d_backward(
        self, spec: Conv2DSpec, dy: Array, x: Array, weight: Array, dx: Array | None, dweight: Array, dbias: Array
    ) -> None:
        size = conv2d.backward_scratch(x, dy, weight.size)
        tiles = -(-len(x) // conv2d.TILE)
        scratch, partial = self._scratch.arrays((self._launched, size), (tiles, weight.size + dbias.size))
        self._run(
            _conv2d_work(spec, len(x)),
            conv2d.backward,
            dy,
            x,
            weight.reshape(-1),
            *_taps(spec),
            NO_IMAGES if dx is None else dx,
            dweight.reshape(-1),
            dbias,
            scratch,
            partial,
        )

    def pool2d_forward(self, spec: Pool2DSpec, x: Array, out: Array, argmax: Array | None) -> None:
        if argmax is None:
            self._run(EACH * x.size, pool2d.mean_forward, x, spec.window, out)
        else:
            self._run(EACH * x.size, pool2d.max_forward, x, spec.window, out, argmax)

    def pool2d_backward(self, spec: Pool2DSpec, dy: Array, argmax: Array | None, dx: Array) -> None:
        if argmax is None:
            self._run(EACH * dx.size, pool2d.mean_backward, dy, spec.window, dx)
        else:
            self._run(EACH * dx.size, pool2d.max_backward, dy, argmax, spec.window, dx)

    def dense_forward(self, spec: DenseSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        self._run(len(x) * weight.size, dense.forward, x, weight, bias, out)

    def dense_backward(
        self, spec: DenseSpec, dy: Array, x: Array, weight: Array, dx: Array, dweight: Array, dbias: Array
    ) -> None:
        self._run(2 * len(x) * weight.size, dense.backward, dy, x, weight, dx, dweight, dbias)

    def activation_forward(self, kind: ActivationKind, x: Array, out: Array) -> None:
        self._run(EACH * x.size, activation.forward, _kind(kind), x.reshape(-1), out.reshape(-1))

    def activation_backward(self, kind: ActivationKind, dy: Array, y: Array, dx: Array) -> None:
        self._run(EACH * y.size, activation.backward, _kind(kind), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))

    def softmax_cross_entropy(self, logits: Array, targets: Array, losses: Array, dlogits: Array) -> None:
        self._run(10 * EACH * logits.size, softmax.cross_entropy, logits, targets, losses, dlogits)

    # training ----------------------------------------------------------------------------------------------------

    def optimizer_step(
        self, rule: Rule, parameters: Array, gradients: Array, moments: Array, average: Array | None, hyper: Array
    ) -> None:
        mean = NO_PARAMETERS if average is None else average
        work = (2 + len(moments)) * EACH * parameters.size
        match rule:
            case GradientDescent():
                self._run(work, optimizer.gradient_descent, parameters, gradients, mean, hyper)
            case Momentum(momentum):
                factor = np.float32(momentum)
                self._run(work, optimizer.momentum, parameters, gradients, moments[0], mean, hyper, factor)
            case Adam(beta1, beta2, epsilon):
                rates = np.float32(1 - beta1), np.float32(1 - beta2), np.float32(epsilon)
                self._run(work, optimizer.adam, parameters, gradients, moments, mean, hyper, *rates)
            case _:
                raise Unsupported(f"the numba backend has no update rule {rule!r}; use --backend numpy")


def _conv2d_work(spec: Conv2DSpec, count: int) -> int:
    """Return the multiply-adds beyond the first tile: one tile keeps one thread busy, whatever its size."""
    _, rows, columns = spec.output_shape
    return (count - conv2d.TILE) * prod(spec.weight_shape) * rows * columns


def _kind(kind: ActivationKind) -> int:
    if kind not in KINDS:
        raise Unsupported(f"the numba backend has no activation {kind!r}; use --backend numpy")
    return KINDS[kind]
