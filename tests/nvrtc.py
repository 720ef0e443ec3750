"""NVIDIA's run-time compiler, which needs no GPU: registers, local and shared memory of every kernel."""

import ctypes
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WHEELS = ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc")
OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy adds to the options that it is given, besides the architecture and its own headers."""

_REPORT = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for .*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


class CompileError(Exception):
    """The compiler's words."""


@dataclass(frozen=True)
class Usage:
    """Of a kernel: registers of a thread, its bytes of local memory, and bytes of static shared memory of a block."""

    registers: int
    local: int
    shared: int


class Nvrtc:
    """One version of the library."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    @property
    def version(self) -> tuple[int, int]:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    @property
    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", found)
        return list(found)

    def compile(self, source: str, options: Sequence[str], architecture: int) -> dict[str, Usage]:
        """Compile to machine code, as CuPy does; return what each kernel uses."""
        words = [f"-arch=sm_{architecture}", *OPTIONS, *options, "--ptxas-options=-v"]
        array = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        try:
            failed = self._library.nvrtcCompileProgram(program, len(words), array)
            size = ctypes.c_size_t()
            self._call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
            buffer = ctypes.create_string_buffer(size.value)
            self._call("nvrtcGetProgramLog", program, buffer)
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))
        log = buffer.value.decode()
        if failed:
            raise CompileError(log)
        return {found["kernel"]: _usage(found) for found in _REPORT.finditer(log)}

    def _call(self, name: str, *arguments: Any) -> None:
        if error := getattr(self._library, name)(*arguments):
            raise RuntimeError(f"{name}: {self._library.nvrtcGetErrorString(error).decode()}")


def installed() -> list[Nvrtc]:
    """Return every NVRTC that is installed as a wheel."""
    found = []
    for wheel in WHEELS:
        try:
            files = importlib.metadata.files(wheel) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found += [Nvrtc(str(file.locate())) for file in files if re.fullmatch(r"libnvrtc\.so\.\d+", file.name)]
    return found


def _usage(found: re.Match[str]) -> Usage:
    shared = re.search(r"(\d+) bytes smem", found["rest"])
    local = int(found["stack"]) + int(found["stores"]) + int(found["loads"])
    return Usage(int(found["registers"]), local, int(shared[1]) if shared else 0)
