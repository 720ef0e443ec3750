"""Compiles unchanged CUDA C with g++ into libraries whose kernels run on the CPU."""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = [HERE / name for name in ("language.h", "runtime.cpp", "checker.h")]
CACHE = Path(os.environ.get("CUDA_ON_CPU_CACHE", Path(tempfile.gettempdir()) / f"cuda-on-cpu-{os.getuid()}"))
"""Where libraries are kept, by a checksum of all that they are made of."""

FLAGS = ["-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
CHECK_FLAGS = ["-fsanitize=alignment", "-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"]

_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+(?:void\s+)?'
    r"(?:__launch_bounds__\s*\((?P<bounds>[^;{}]*?)\)\s*)?(?:void\s+)?(?P<name>\w+)\s*\("
)
_DYNAMIC = re.compile(r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


class CompileError(Exception):
    """The compiler's words."""


class KernelFault(Exception):
    """What a kernel did that it must not do, and where."""


def missing() -> str:
    """Return what keeps kernels from running here, or nothing."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "CUDA kernels run on the CPU of x86-64 Linux only"
    if shutil.which("g++") is None:
        return "CUDA kernels run on the CPU where there is g++"
    return ""


@dataclass(frozen=True)
class Program:
    """A CUDA source, and the options that it is compiled with."""

    source: str
    options: tuple[str, ...] = ()

    @functools.cache  # noqa: B019, programs live as long as the process
    def library(self, mode: str) -> "Library":
        return Library(self, mode)


class Library:
    """A compiled program, loaded."""

    def __init__(self, program: Program, mode: str) -> None:
        self.program, self.checked = program, mode == "check"
        self._path = _build(program, checked=self.checked)
        self._library = ctypes.CDLL(str(self._path))
        self._runtime = _runtime()

    def kernel(self, name: str) -> "Kernel":
        """Return a kernel; KeyError where there is none of that name."""
        try:
            return Kernel.in_dll(self._library, f"cuda_on_cpu_kernel_{name}")
        except ValueError:
            raise KeyError(name) from None

    def launch(
        self,
        kernel: "Kernel",
        grid: Sequence[int],
        block: Sequence[int],
        shared: int,
        arguments: Sequence[Any],
        arrays: Sequence[tuple[int, int, int]],
        seed: int,
    ) -> None:
        """Run a kernel on ctypes values; ``arrays`` are address, bytes, and bytes of an element of those passed."""
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        flat = (ctypes.c_uint64 * (3 * len(arrays)))(*(number for array in arrays for number in array))
        fault = self._runtime.cuda_on_cpu_launch(
            ctypes.byref(kernel),
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            ctypes.c_size_t(shared),
            pointers,
            ctypes.c_uint(seed),
            ctypes.byref(self._bounds("shared")),
            ctypes.byref(self._bounds("constants")),
            flat if self.checked else None,
            ctypes.c_uint(len(arrays)),
        )
        if fault:
            raise KernelFault(fault.decode() + self._place())

    def _bounds(self, name: str) -> Any:
        return (ctypes.c_void_p * 2).in_dll(self._library, f"cuda_on_cpu_{name}")

    def _place(self) -> str:
        """Return where in the source the fault was."""
        culprit = self._runtime.cuda_on_cpu_culprit()
        if not culprit:
            return ""
        command = ["addr2line", "-e", str(self._path), hex(culprit - self._bounds("constants")[0])]
        line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(":")[-1].split()[0]
        if not line.isdigit():
            return ""
        return f", line {line}: {self.program.source.splitlines()[int(line) - 1].strip()}"


class Kernel(ctypes.Structure):
    """How a kernel is called, a letter for each of its parameters, and the most threads of a block."""

    _fields_ = (("call", ctypes.c_void_p), ("letters", ctypes.c_char_p), ("most_threads", ctypes.c_uint))

    @property
    def parameters(self) -> str:
        return self.letters.decode()


def kernels(source: str) -> dict[str, str]:
    """Return the kernels in a source by name, each with the most threads of a block, as it is written there."""
    return {
        kernel["name"]: (kernel["bounds"] or "1024").split(",")[0] for kernel in _KERNEL.finditer(_uncommented(source))
    }


def _uncommented(source: str) -> str:
    return _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), source)


def _build(program: Program, *, checked: bool) -> Path:
    """Return the library of a program, compiled if there is none yet."""
    # Dynamic shared memory is the runtime's.
    pointer = r"\1* const \2 = reinterpret_cast<\1*>(cuda_on_cpu::dynamic_shared);"
    source = _DYNAMIC.sub(pointer, _uncommented(program.source))
    exported = [f"CUDA_ON_CPU_KERNEL({name}, ({threads}))" for name, threads in kernels(program.source).items()]
    source = "\n".join(['#line 1 "kernel.cu"', source, "CUDA_ON_CPU_BOUNDS", *exported, ""])
    unknown = [option for option in program.options if not re.match(r"-D|--?std=c\+\+17|--?fmad=", option)]
    if unknown:
        raise CompileError(f"the stand-in does not know {' '.join(unknown)}")
    macros = [option for option in program.options if option.startswith("-D")]
    flags = [*FLAGS, *(CHECK_FLAGS if checked else ()), *macros]

    def make(folder: Path, out: Path) -> None:
        (folder / "kernel.cpp").write_text(source)
        _run("g++", *flags, "-include", HERE / "language.h", "-c", folder / "kernel.cpp", "-o", folder / "kernel.o")
        _run(
            "g++",
            "-shared",
            "-nostartfiles",
            "-Wl,-Bsymbolic,--no-undefined",
            folder / "kernel.o",
            _runtime_path(),
            "-o",
            out,
        )

    return _cached(source + " ".join(flags), make)


@functools.cache
def _runtime() -> ctypes.CDLL:
    runtime = ctypes.CDLL(str(_runtime_path()))
    runtime.cuda_on_cpu_launch.restype = ctypes.c_char_p
    runtime.cuda_on_cpu_culprit.restype = ctypes.c_size_t
    return runtime


@functools.cache
def _runtime_path() -> Path:
    flags = ["-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra"]
    return _cached("runtime", lambda _, out: _run("g++", *flags, "-shared", HERE / "runtime.cpp", "-o", out))


def _cached(key: str, make: Any) -> Path:
    """Return the file of this key; if there is none, make it in a folder of its own and move it into its place."""
    digest = hashlib.sha256(key.encode())
    for path in SOURCES:
        digest.update(path.read_bytes())
    file = CACHE / f"{digest.hexdigest()[:24]}.so"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            make(Path(folder), Path(folder) / "out.so")
            (Path(folder) / "out.so").replace(file)
    return file


def _run(*command: Any) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr)
