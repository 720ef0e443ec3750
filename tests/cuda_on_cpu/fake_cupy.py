"""The part of CuPy that the project uses, on the CPU.

It is stricter than a GPU, which would go on with wrong numbers: no NumPy arrays and no Python numbers for kernels, no
arrays in graphs that are gone when the graph is replayed, nothing but launches, copies and fills while a stream is
recorded, fresh memory full of NaN.
"""

import contextlib
import ctypes
import math
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .build import CompileError, Kernel, KernelFault, Library, Program

ALIGNMENT = 512  # of CuPy's memory
MARGIN = 512  # bytes before and behind each array, for kernels that miss it
POISON = 0xFF
ATTRIBUTES = {
    "MaxThreadsPerBlock": 1024,
    "MaxSharedMemoryPerBlock": 48 << 10,
    "MaxSharedMemoryPerBlockOptin": 227 << 10,
    "MultiProcessorCount": 132,
}
"""An H100's."""
MOST_BLOCKS = (2**31 - 1, 65_535, 65_535)
MOST_THREADS = (1024, 1024, 64)


@dataclass(frozen=True)
class Launch:
    """What was launched: a kernel of a program, with so many threads a block, and bytes of dynamic shared memory."""

    program: Program
    kernel: str
    threads: int
    shared: int


@dataclass
class Machine:
    """What stands in for the GPU, and how it runs kernels.

    Attributes
    ----------
    mode : ``check``, with every access checked; ``fast``; or ``record``, in which kernels are neither compiled nor run
    seed : the order of threads and blocks: 0 ascending, 1 descending, others shuffled; None for another in every launch
    launched : every kernel that was launched, and how
    launches : how many there were
    """

    mode: str = "check"
    seed: int | None = None
    launched: set[Launch] = field(default_factory=set)
    launches: int = 0

    @contextlib.contextmanager
    def running(self, mode: str, seed: int | None = None) -> Iterator[None]:
        """Run kernels in this way for a while."""
        before = self.mode, self.seed
        self.mode, self.seed = mode, seed
        try:
            yield
        finally:
            self.mode, self.seed = before


machine = Machine()


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class CompileException(Exception):
    pass


class OutOfMemoryError(MemoryError):
    pass


# streams and graphs --------------------------------------------------------------------------------------------------


class Graph:
    def __init__(self, work: list[Callable[[], None]]) -> None:
        self._work = work

    def launch(self, stream: "Stream | None" = None) -> None:
        _not_recorded("a launch of a graph")
        for work in self._work:
            work()


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self._recorded: float | None = None

    def record(self, stream: "Stream | None" = None) -> None:
        self._recorded = time.perf_counter()

    def synchronize(self) -> None:
        _not_recorded("waiting")


class Stream:
    """All streams run at once what they are given; one of them may be recorded instead."""

    null: "Stream"
    _recorded: "Stream | None" = None
    _entered: list["Stream"] = []  # noqa: RUF012, of the class

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None):
        self._work: list[Callable[[], None]] = []

    def __enter__(self) -> "Stream":
        Stream._entered.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        Stream._entered.pop()

    def synchronize(self) -> None:
        _not_recorded("waiting")

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def begin_capture(self, mode: int | None = None) -> None:
        if self is Stream.null or Stream._recorded:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
            )
        Stream._recorded, self._work = self, []

    def end_capture(self) -> Graph:
        if Stream._recorded is not self:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed in the present state")
        Stream._recorded = None
        return Graph(self._work)


Stream.null = Stream(null=True)


def get_current_stream() -> Stream:
    return Stream._entered[-1] if Stream._entered else Stream.null


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    assert start_event._recorded is not None
    assert end_event._recorded is not None
    return 1e3 * (end_event._recorded - start_event._recorded)


def _not_recorded(what: str) -> None:
    if Stream._recorded:
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what}, while a stream is recorded")


def _queue(work: Callable[[], None], arrays: Sequence["ndarray"]) -> None:
    """Do it, or record it: a graph keeps no array alive."""
    if Stream._recorded is None:
        work()
        return
    if get_current_stream() is not Stream._recorded:
        raise CUDARuntimeError("cudaErrorStreamCaptureImplicit: the current stream is not the one that is recorded")
    alive = [weakref.ref(array._memory) for array in arrays]

    def replay() -> None:
        if not all(memory() for memory in alive):
            raise KernelFault("a graph uses an array that is gone")
        work()

    Stream._recorded._work.append(replay)


# arrays --------------------------------------------------------------------------------------------------------------


class _Memory:
    """Lives as long as an array of the device that uses it; and what it is made of, at least as long."""


class ndarray:  # noqa: N801, CuPy's name
    """On the device: NumPy's functions refuse it."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: DTypeLike = float, memptr: None = None, strides: None = None, order: str = "C"
    ):
        _not_recorded("an allocation")
        dtype = np.dtype(dtype)
        count = math.prod(shape) if isinstance(shape, tuple) else shape
        raw = np.full(count * dtype.itemsize + 2 * MARGIN + ALIGNMENT, POISON, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT + MARGIN
        self._host = raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape, order=order)
        self._memory = _Memory()

    def _view(self, host: NDArray[Any]) -> "ndarray":
        view = object.__new__(ndarray)
        view._host, view._memory = host, self._memory
        return view

    def __array__(self, *_: object, **__: object) -> None:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> "ndarray":
        if isinstance(key, ndarray):  # rows by their numbers: a copy
            rows = self._host[key._host]
            out = ndarray(rows.shape, rows.dtype)
            out._host[...] = rows
            return out
        keys = key if isinstance(key, tuple) else (key,)
        return self._view(self._host[keys if Ellipsis in keys else (*keys, ...)])  # a view of a single number, too

    def __setitem__(self, key: Any, value: Any) -> None:
        target = self[key]
        if isinstance(value, ndarray):
            source = value._host

            def copy() -> None:
                target_host[...] = source

            target_host = target._host
            _queue(copy, (self, value))
        elif isinstance(value, int | float):
            target.fill(value)
        else:
            raise TypeError(f"Unsupported type {type(value)}")

    def reshape(self, *shape: Any, order: str = "C") -> "ndarray":
        host = self._host.reshape(*shape, order=order)
        assert np.shares_memory(host, self._host) or not self.size, "a copy, not a view"
        return self._view(host)

    def fill(self, value: float) -> None:
        host = self._host
        _queue(lambda: host.fill(value), (self,))

    def get(
        self, stream: Stream | None = None, order: str = "C", out: NDArray[Any] | None = None, blocking: bool = True
    ) -> NDArray[Any]:
        _not_recorded("a copy to the host")
        if out is None:
            return np.array(self._host, order=order)  # type: ignore[call-overload]
        out[...] = self._host
        return out

    def set(self, arr: NDArray[Any], stream: Stream | None = None) -> None:
        _not_recorded("a copy from the host")
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"{arr.dtype}{arr.shape} cannot be set to {self.dtype}{self.shape}")
        self._host[...] = arr


def empty(shape: Any, dtype: DTypeLike = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def zeros(shape: Any, dtype: DTypeLike = float, order: str = "C") -> ndarray:
    out = ndarray(shape, dtype, order=order)
    out.fill(0)
    return out


def asarray(a: Any, dtype: DTypeLike | None = None, order: str | None = None, *, blocking: bool = False) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a.dtype):
        return a
    host = a._host if isinstance(a, ndarray) else a
    return array(host, dtype)


def array(obj: Any, dtype: DTypeLike | None = None, copy: bool = True) -> ndarray:
    host = np.asarray(obj._host if isinstance(obj, ndarray) else obj, dtype)
    out = ndarray(host.shape, host.dtype)
    out._host[...] = host
    return out


def asnumpy(
    a: Any, stream: Stream | None = None, order: str = "C", out: NDArray[Any] | None = None, *, blocking: bool = True
) -> NDArray[Any]:
    return a.get(stream, order, out, blocking)


# kernels -------------------------------------------------------------------------------------------------------------


class RawModule:
    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        if not isinstance(options, tuple):
            raise TypeError("options must be a tuple of strings")
        self._program = Program(code, options)

    def compile(self, log_stream: Any = None) -> None:
        _not_recorded("loading a module")
        if machine.mode != "record":
            _library(self._program)

    def get_function(self, name: str) -> "RawKernel":
        self.compile()
        if machine.mode != "record":
            _kernel(_library(self._program), name)
        return RawKernel(self._program, name)


class RawKernel:
    """As a `RawModule` gives it."""

    def __init__(self, program: Program, name: str) -> None:
        self._program, self.name = program, name
        self.max_dynamic_shared_size_bytes = ATTRIBUTES["MaxSharedMemoryPerBlock"]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "max_dynamic_shared_size_bytes" and value > ATTRIBUTES["MaxSharedMemoryPerBlockOptin"]:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        super().__setattr__(name, value)

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        machine.launched.add(Launch(self._program, self.name, math.prod(block), shared_mem))
        if machine.mode == "record":
            return
        library = _library(self._program)
        kernel = _kernel(library, self.name)
        grid, block = (tuple(size) + (1,) * (3 - len(size)) for size in (grid, block))
        fits = (
            all(1 <= count <= most for count, most in zip(grid + block, MOST_BLOCKS + MOST_THREADS, strict=True))
            and math.prod(block) <= kernel.most_threads
            and shared_mem <= self.max_dynamic_shared_size_bytes
        )
        if not fits:
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: {self.name}, {grid}, {block}, {shared_mem} bytes")
        if len(args) != len(kernel.parameters):
            raise KernelFault(f"{self.name} has {len(kernel.parameters)} parameters, and gets {len(args)}")
        values = [_value(self.name, *each) for each in zip(args, kernel.parameters, strict=True)]
        arrays = [array for array in args if isinstance(array, ndarray)]
        ranges = [(array.data.ptr, array.nbytes, array.itemsize) for array in arrays]

        def launch() -> None:
            machine.launches += 1
            seed = machine.launches % 7 if machine.seed is None else machine.seed
            try:
                library.launch(kernel, grid, block, shared_mem, values, ranges, seed)
            except KernelFault as fault:
                raise KernelFault(f"{self.name}, threads in order {seed}: {fault}") from None

        _queue(launch, arrays)


def _library(program: Program) -> Library:
    try:
        return program.library(machine.mode)
    except CompileError as error:
        raise CompileException(str(error)) from None


def _kernel(library: Library, name: str) -> Kernel:
    try:
        return library.kernel(name)
    except KeyError:
        raise CUDADriverError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}") from None


def _value(kernel: str, argument: Any, letter: str) -> Any:
    """Return an argument as ctypes passes it, where the kernel will read just that."""
    match letter:
        case "P" if argument is None:
            return ctypes.c_void_p()
        case "P" if isinstance(argument, ndarray) and argument.flags.c_contiguous:
            return ctypes.c_void_p(argument.data.ptr)
        case "i" if isinstance(argument, np.int32):
            return ctypes.c_int(int(argument))
        case "f" if isinstance(argument, np.float32):
            return ctypes.c_float(float(argument))
    raise KernelFault(f"{kernel}: {argument!r} is not what the parameter '{letter}' reads")


# devices -------------------------------------------------------------------------------------------------------------


class Device:
    id, attributes = 0, ATTRIBUTES

    def __init__(self, device: int | None = None) -> None:
        if device:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def synchronize(self) -> None:
        _not_recorded("waiting")


def make_module() -> ModuleType:
    """Return what ``import cupy`` is to give."""
    cupy = ModuleType("cupy")
    vars(cupy).update(
        __version__="14.2.0",
        ndarray=ndarray,
        empty=empty,
        zeros=zeros,
        asarray=asarray,
        array=array,
        asnumpy=asnumpy,
        RawModule=RawModule,
        cuda=SimpleNamespace(
            Stream=Stream,
            Event=Event,
            Device=Device,
            Graph=Graph,
            get_current_stream=get_current_stream,
            get_elapsed_time=get_elapsed_time,
            runtime=SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                getDeviceCount=lambda: 1,
                getDeviceProperties=lambda device: {"name": b"a CPU in place of a GPU", "major": 9, "minor": 0},
                driverGetVersion=lambda: 13_000,
                runtimeGetVersion=lambda: 12_090,
            ),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            compiler=SimpleNamespace(CompileException=CompileException),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        ),
    )
    return cupy
