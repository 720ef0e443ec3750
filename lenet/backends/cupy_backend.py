"""The GPU backend: CuPy's arrays, and every primitive in CUDA C (`lenet.kernels.cuda`)."""

import re
from typing import Any

import cupy as cp
import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.backends.base import Array, Backend
from lenet.errors import DeviceUnusable, Unsupported
from lenet.kernels.cuda.loader import STATIC_SHARED, KernelError, Macro, Module, load
from lenet.optimizers import Adam, GradientDescent, Momentum, Rule
from lenet.specs import ActivationKind, Conv2DSpec, DenseSpec, Pool2DSpec

THREADS = 256  # of a block, where each works by itself
CONV_BLOCK, CONV_WIDE = 128, 4  # threads of a block of a convolution, and outputs of a thread
DENSE_TILE = 16  # rows and columns of a block's part of a product of matrices
NO_GPU = "no NVIDIA GPU is visible", "nvidia-smi lists those there are; CUDA_VISIBLE_DEVICES may hide them"
NO_MEMORY = "the GPU has no memory left", "end other programs that use it; nvidia-smi lists them"
LIBRARY = re.compile(r"lib\w+\.so[.\d]*|\w+64_\w+\.dll")
GROUP = 4  # images whose part of the kernels' gradients is summed in one block


class CupyBackend(Backend):
    """Every primitive queues kernels on CuPy's current stream, and returns at once.

    Raises
    ------
    DeviceUnusable
        When there is no GPU that works, with the reason.
    """

    name = "cupy"

    def __init__(self) -> None:
        self.device = f"gpu ({_working_gpu()}, CuPy {cp.__version__})"
        self.dtype = np.dtype(np.float32)
        self._partials: dict[tuple[Conv2DSpec, int], Array] = {}

    # arrays ------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Array:
        return cp.empty(shape, self.dtype if dtype is None else dtype)

    def to_device(self, host: NDArray[Any], out: Array | None = None) -> Array:
        array: Any = cp.empty(host.shape, host.dtype) if out is None else out
        array.set(np.ascontiguousarray(host, array.dtype))
        return array

    def to_host(self, array: Array) -> NDArray[Any]:
        return cp.asnumpy(array)

    def synchronize(self) -> None:
        cp.cuda.get_current_stream().synchronize()

    # images ------------------------------------------------------------------------------------------------------

    def distort(self, images: Array, index: Array | None, transforms: Array | None, out: Array) -> None:
        count, _, height, width = out.shape
        module = load("distort", HEIGHT=height, WIDTH=width)
        module.launch("distort", _blocks(out.size), THREADS, images, index, transforms, out, np.int32(count))

    # layers ------------------------------------------------------------------------------------------------------

    def conv2d_forward(self, spec: Conv2DSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        maps, rows, columns = spec.output_shape
        blocks = len(x), _blocks(maps * rows * _blocks(columns, CONV_WIDE), CONV_BLOCK)
        _conv2d(spec).launch("forward", blocks, CONV_BLOCK, x, weight, bias, out)

    def conv2d_backward(
        self, spec: Conv2DSpec, dy: Array, x: Array, weight: Array, dx: Array | None, dweight: Array, dbias: Array
    ) -> None:
        module, count = _conv2d(spec), len(x)
        groups, partial = _blocks(count, GROUP), self._partial(spec, count)
        connections = spec.weight_shape[0]
        module.launch("backward_weight", (connections, groups), CONV_BLOCK, dy, x, partial, np.int32(count))
        module.launch("backward_bias", (len(dbias), groups), CONV_BLOCK, dy, partial, np.int32(count))
        sums = _blocks(dweight.size + dbias.size)
        module.launch("sum_groups", sums, THREADS, partial, dweight, dbias, np.int32(groups))
        if dx is not None:
            maps, height, width = spec.input_shape
            blocks = count, _blocks(maps * height * _blocks(width, CONV_WIDE), CONV_BLOCK)
            module.launch("backward_input", blocks, CONV_BLOCK, dy, weight, dx)

    def _partial(self, spec: Conv2DSpec, count: int) -> Array:
        """Return room for the gradients of each group of images: a workspace that stays."""
        key = spec, _blocks(count, GROUP)
        if key not in self._partials:
            self._partials[key] = self.empty((key[1], int(np.prod(spec.weight_shape)) + spec.table.outputs))
        return self._partials[key]

    def pool2d_forward(self, spec: Pool2DSpec, x: Array, out: Array, argmax: Array | None) -> None:
        windows = np.int32(out.size)
        if argmax is None:
            _pool2d(spec).launch("mean_forward", _blocks(out.size), THREADS, x, out, windows)
        else:
            _pool2d(spec).launch("max_forward", _blocks(out.size), THREADS, x, out, argmax, windows)

    def pool2d_backward(self, spec: Pool2DSpec, dy: Array, argmax: Array | None, dx: Array) -> None:
        windows = np.int32(dy.size)
        if argmax is None:
            _pool2d(spec).launch("mean_backward", _blocks(dy.size), THREADS, dy, dx, windows)
        else:
            _pool2d(spec).launch("max_backward", _blocks(dy.size), THREADS, dy, argmax, dx, windows)

    def dense_forward(self, spec: DenseSpec, x: Array, weight: Array, bias: Array, out: Array) -> None:
        blocks = _tiles(len(x), spec.outputs)
        _dense(spec).launch("forward", blocks, DENSE_TILE**2, x, weight, bias, out, np.int32(len(x)))

    def dense_backward(
        self, spec: DenseSpec, dy: Array, x: Array, weight: Array, dx: Array, dweight: Array, dbias: Array
    ) -> None:
        module, count = _dense(spec), len(x)
        blocks = _tiles(count, spec.inputs)
        module.launch("backward_input", blocks, DENSE_TILE**2, dy, weight, dx, np.int32(count))
        blocks = _tiles(spec.outputs, spec.inputs)
        module.launch("backward_weight", blocks, DENSE_TILE**2, dy, x, dweight, dbias, np.int32(count))

    def activation_forward(self, kind: ActivationKind, x: Array, out: Array) -> None:
        _activation(kind).launch("forward", _blocks(x.size), THREADS, x, out, np.int32(x.size))

    def activation_backward(self, kind: ActivationKind, dy: Array, y: Array, dx: Array) -> None:
        _activation(kind).launch("backward", _blocks(dy.size), THREADS, dy, y, dx, np.int32(dy.size))

    def softmax_cross_entropy(self, logits: Array, targets: Array, losses: Array, dlogits: Array) -> None:
        count, classes = logits.shape
        sizes = np.int32(count), np.int32(classes)
        load("softmax").launch("cross_entropy", _blocks(count), THREADS, logits, targets, losses, dlogits, *sizes)

    def argmax(self, x: Array, out: Array) -> None:
        count, classes = x.shape
        load("softmax").launch("argmax", _blocks(count), THREADS, x, out, np.int32(count), np.int32(classes))

    # training ----------------------------------------------------------------------------------------------------

    def optimizer_step(
        self, rule: Rule, parameters: Array, gradients: Array, moments: Array, average: Array | None, hyper: Array
    ) -> None:
        load("optimizer", **rule_macros(rule)).launch(
            "step", _blocks(parameters.size), THREADS, parameters, gradients, moments, average, hyper,
            np.int32(parameters.size),
        )  # fmt: skip


def _working_gpu() -> str:
    """Return the name of the GPU, once it has compiled and run a kernel; else raise what stands in the way."""
    runtime = cp.cuda.runtime
    try:
        if runtime.getDeviceCount() == 0:
            raise DeviceUnusable(*NO_GPU)
        name = runtime.getDeviceProperties(cp.cuda.Device().id)["name"].decode()
        array = cp.zeros((1,), np.float32)
        _activation("relu").launch("forward", 1, THREADS, array, array, np.int32(1))
        cp.asnumpy(array)
    except KernelError as error:
        raise DeviceUnusable(str(error), "please report it with them and the output of lenet info") from error
    except cp.cuda.memory.OutOfMemoryError as error:
        raise DeviceUnusable(*NO_MEMORY) from error
    except runtime.CUDARuntimeError as error:
        raise DeviceUnusable(*_explained(str(error))) from error
    except (RuntimeError, ImportError, OSError) as error:
        text = " ".join(str(error).split())
        library = LIBRARY.search(text)
        if library is None:
            raise DeviceUnusable(f"the GPU does not work: {text}") from error
        hint = 'pip install "cupy-cuda12x[ctk]" brings it, and so does a CUDA toolkit'
        raise DeviceUnusable(f"CuPy finds no {library.group()}, a library of CUDA", hint) from error
    return str(name)


def _explained(error: str) -> tuple[str, str]:
    """Return reason and hint for an error of the CUDA runtime, which begins with its name."""
    match error.partition(":")[0]:
        case "cudaErrorInsufficientDriver":
            driver, needed = cp.cuda.runtime.driverGetVersion(), cp.cuda.runtime.runtimeGetVersion()
            if driver == 0:
                return "there is no NVIDIA driver", "install it if there is an NVIDIA GPU; else use --device cpu"
            return (
                f"the NVIDIA driver is too old: it serves CUDA {_version(driver)}, CuPy wants {_version(needed)}",
                "update the driver, or install CuPy for an older CUDA",
            )
        case "cudaErrorNoDevice":
            return NO_GPU
        case "cudaErrorMemoryAllocation":
            return NO_MEMORY
    return f"the GPU does not work: {error}", "nvidia-smi may tell more"


def _version(number: int) -> str:
    """Return 12.9 for 12090."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _blocks(count: int, size: int = THREADS) -> int:
    return -(-count // size)


def _tiles(rows: int, columns: int) -> tuple[int, int]:
    return _blocks(columns, DENSE_TILE), _blocks(rows, DENSE_TILE)


def _conv2d(spec: Conv2DSpec) -> Module:
    # What backward_weight has in shared memory: a map, its deltas, and the sums of some threads.
    floats = spec.height * spec.width + int(np.prod(spec.output_shape[1:])) + CONV_BLOCK * spec.kernel_width
    if 4 * floats > STATIC_SHARED:
        raise Unsupported(f"the CuPy backend has no room for maps of {spec.height} x {spec.width}; use another backend")
    connections = spec.table.connections
    kernel_of = {connection: e for e, connection in enumerate(connections)}
    pairs = [(k, c) for k in range(spec.table.outputs) for c in range(spec.table.inputs)]
    return load(
        "conv2d",
        INPUTS=spec.table.inputs,
        HEIGHT=spec.height,
        WIDTH=spec.width,
        OUTPUTS=spec.table.outputs,
        KERNEL_HEIGHT=spec.kernel_height,
        KERNEL_WIDTH=spec.kernel_width,
        CONNECTIONS=len(connections),
        KERNEL_OF=listed(kernel_of.get(pair, -1) for pair in pairs),
        OUTPUT=listed(k for k, _ in connections),
        SOURCE=listed(c for _, c in connections),
        GROUP=GROUP,
        BLOCK=CONV_BLOCK,
        WIDE=CONV_WIDE,
    )


def _pool2d(spec: Pool2DSpec) -> Module:
    _, height, width = spec.input_shape
    return load("pool2d", HEIGHT=height, WIDTH=width, WINDOW=spec.window)


def _dense(spec: DenseSpec) -> Module:
    return load("dense", INPUTS=spec.inputs, OUTPUTS=spec.outputs, TILE=DENSE_TILE)


def _activation(kind: ActivationKind) -> Module:
    return load("activation", ACTIVATION=kind.upper())


def rule_macros(rule: Rule) -> dict[str, Macro]:
    """Return an update rule as macros: its name and its numbers."""
    # 1 - beta is formed here, in double precision: of 0.999 in single precision it would be off by 1e-5.
    numbers = dict.fromkeys(("BETA1", "SHARE1", "BETA2", "SHARE2", "EPSILON", "MOMENTUM_DECAY"), 0.0)
    match rule:
        case Adam(beta1, beta2, epsilon):
            numbers |= {"BETA1": beta1, "SHARE1": 1 - beta1, "BETA2": beta2, "SHARE2": 1 - beta2, "EPSILON": epsilon}
            return {"RULE": "ADAM", **numbers}
        case Momentum(momentum):
            return {"RULE": "MOMENTUM", **numbers, "MOMENTUM_DECAY": momentum}
        case GradientDescent():
            return {"RULE": "GRADIENT_DESCENT", **numbers}


def listed(numbers: Any) -> str:
    """Return numbers as the elements of an array in C."""
    return ",".join(map(str, numbers))
