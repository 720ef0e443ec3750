"""What a machine can do at best, as works to be timed beside the others."""

import numpy as np

from lenet.backends import Backend
from lenet.bench.primitives import Primitive

MULTIPLY_ADDS = "multiply-adds"
SIZES = tuple(4**power for power in range(7, 14))
"""Bytes that are streamed, 16 KiB to 64 MiB: from within a core's cache to memory."""

BLOCKS, THREADS, CHAINS, ROUNDS = 4096, 256, 8, 1024  # of the multiply-adds on a GPU


def stream_name(size: int) -> str:
    """Return the name of the stream of so many bytes."""
    return f"stream of {size >> 10:,} KiB"


def ceiling_names() -> list[str]:
    """Return the names of all ceilings."""
    return [MULTIPLY_ADDS, *map(stream_name, SIZES)]


def ceilings(backend: Backend) -> list[Primitive]:
    """Return the multiply-adds and the streams for the processor of a backend, with the threads that it uses."""
    return _of_gpu(backend) if backend.name == "cupy" else _of_cpu(getattr(backend, "threads", 1))


def _of_cpu(threads: int) -> list[Primitive]:
    from lenet.kernels.cpu.peak import MultiplyAdds, Stream

    adds = MultiplyAdds(threads)
    streams = [(size, Stream(size, threads)) for size in SIZES]
    return [
        Primitive(MULTIPLY_ADDS, adds.seconds, adds.operations, 0),
        *(Primitive(stream_name(size), stream.seconds, 0, stream.traffic) for size, stream in streams),
    ]


def _of_gpu(backend: Backend) -> list[Primitive]:
    from lenet.kernels.cuda.loader import load

    module = load("peak", CHAINS=CHAINS)
    sums = backend.empty((BLOCKS * THREADS,))

    def multiply_adds() -> None:
        module.launch("multiply_add", BLOCKS, THREADS, sums, np.int32(ROUNDS), np.float32(0.5), np.float32(1.0))

    def stream(size: int) -> Primitive:
        count = size // 12
        arrays = [backend.to_device(np.ones(count, np.float32)) for _ in range(3)]
        blocks = -(-count // THREADS)

        def run() -> None:
            module.launch("stream", blocks, THREADS, *arrays, np.float32(2.0), np.int32(count))

        return Primitive(stream_name(size), run, 0, 12 * count)

    operations = 2 * CHAINS * ROUNDS * BLOCKS * THREADS
    return [Primitive(MULTIPLY_ADDS, multiply_adds, operations, 0), *map(stream, SIZES)]


class Roofline:
    """The least time that the ceilings allow.

    Parameters
    ----------
    speeds : by the name of a ceiling, operations or bytes a second
    """

    def __init__(self, speeds: dict[str, float]) -> None:
        self.operations = speeds[MULTIPLY_ADDS]
        self._bytes = [speeds[stream_name(size)] for size in SIZES]

    def bytes(self, size: int) -> float:
        """Return how many bytes a second move at best, if so many are touched: what lies between two streams."""
        return float(np.exp(np.interp(np.log(size), np.log(SIZES), np.log(self._bytes))))

    def seconds(self, operations: int, traffic: int) -> float:
        """Return the least time of so many operations on so many bytes: whichever of the two takes longer."""
        return max(operations / self.operations, traffic / self.bytes(traffic))
