"""Compiles CUDA C for a geometry, once, and launches it on CuPy's current stream."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import cupy as cp
import numpy as np

HERE = Path(__file__).parent
STATIC_SHARED = 48 << 10  # bytes of shared memory that every kernel may have
MAX_BLOCKS = (2**31 - 1, 65_535, 65_535)
OPTIONS = ("--std=c++17",)  # products may be fused into sums, nvcc's default; no flag assumes that nothing is NaN

Macro = int | float | str


class KernelError(Exception):
    """A file that does not compile; what the compiler said is in the file ``log``."""

    def __init__(self, name: str, text: str) -> None:
        with NamedTemporaryFile("w", prefix=f"lenet-{name}-", suffix=".log", delete=False, encoding="utf-8") as file:
            file.write(text)
        self.log = Path(file.name)
        super().__init__(f"{name}.cu does not compile for this GPU; the compiler's messages are in {self.log}")


class Module:
    """The compiled kernels of one file, for one geometry."""

    def __init__(self, name: str, code: str, options: tuple[str, ...]) -> None:
        self._name = name
        self._module = cp.RawModule(code=code, options=options)
        self._functions: dict[str, Any] = {}

    def launch(
        self, kernel: str, blocks: int | tuple[int, ...], threads: int, *arguments: Any, shared: int = 0
    ) -> None:
        """Queue a kernel; no blocks are no launch.

        Parameters
        ----------
        blocks, threads : how many, of how many threads each
        arguments : C-contiguous arrays, ``np.int32``, ``np.float32``, or None for a null pointer: just what the kernel
            declares, since nothing converts them
        shared : bytes of dynamic shared memory

        Raises
        ------
        KernelError
            When the file does not compile.
        """
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        for argument in arguments:
            plain = isinstance(argument, cp.ndarray) and argument.flags.c_contiguous
            assert plain or argument is None or type(argument) in (np.int32, np.float32), f"{kernel}: {argument!r}"
        assert all(count <= most for count, most in zip(grid, MAX_BLOCKS, strict=False)), f"{kernel}: {grid} blocks"
        if 0 in grid:
            return
        if kernel not in self._functions:
            self._functions[kernel] = self._function(kernel)
        function = self._functions[kernel]
        if shared > STATIC_SHARED and function.max_dynamic_shared_size_bytes < shared:
            function.max_dynamic_shared_size_bytes = shared
        function(grid, (threads,), arguments, shared_mem=shared)

    def _function(self, kernel: str) -> Any:
        try:
            return self._module.get_function(kernel)
        except cp.cuda.compiler.CompileException as error:
            raise KernelError(self._name, str(error)) from error


@cache
def load(name: str, parts: tuple[str, ...] = (), **macros: Macro) -> Module:
    """Return the kernels of ``name``.cu, which sees the ``.cuh`` files in ``parts``; they compile at the first launch.

    Each macro becomes a ``-D`` option.
    """
    files = (*(f"{part}.cuh" for part in ("common", *parts)), f"{name}.cu")
    code = "\n".join((HERE / file).read_text(encoding="utf-8") for file in files)
    return Module(name, code, (*OPTIONS, *_defined(macros)))


def _defined(macros: Mapping[str, Macro]) -> list[str]:
    """Return the compiler's options; a float so that C reads the same float32."""
    texts = {key: f"{value!r}f" if isinstance(value, float) else str(value) for key, value in macros.items()}
    return [f"-D{key}={text}" for key, text in texts.items()]
