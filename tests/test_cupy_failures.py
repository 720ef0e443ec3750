"""Why a GPU cannot be used: each cause is faked, told apart, said in one line, and ends with exit code 3."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lenet import backends, cli
from lenet.backends import BackendStatus

GPU_MODULES = ("lenet.kernels.cuda.loader", "lenet.backends.cupy_backend")


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class CompileException(Exception):
    pass


class FakeArray:
    """Enough of an array to be handed to a kernel."""

    flags = SimpleNamespace(c_contiguous=True)


def fake_cupy(**failures: Exception) -> ModuleType:
    """Return a CuPy on which everything works but what is named in ``failures``."""

    def works(name: str, result: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name in failures:
                raise failures[name]
            return result

        return call

    def kernel(*arguments: Any, **options: Any) -> None:
        pass

    cupy = ModuleType("cupy")
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=works("count", 1),
        getDeviceProperties=works("properties", {"name": b"Imaginary 9000"}),
        driverGetVersion=works("driver", 11_040),
        runtimeGetVersion=works("runtime", 12_090),
    )
    cuda = SimpleNamespace(
        runtime=runtime,
        Device=lambda: SimpleNamespace(id=0),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        compiler=SimpleNamespace(CompileException=CompileException),
    )
    module = SimpleNamespace(get_function=works("compile", kernel))
    vars(cupy).update(
        __version__="14.2.0",
        cuda=cuda,
        ndarray=FakeArray,
        zeros=works("memory", FakeArray()),
        asnumpy=works("copy", np.zeros(1)),
        RawModule=lambda code, options: module,
    )
    return cupy


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType | None], None]:
    """Return a function that puts a fake, or nothing, in the place of CuPy."""

    def put(cupy: ModuleType | None) -> None:
        for name in GPU_MODULES:
            monkeypatch.delitem(sys.modules, name, raising=False)
            package, _, short = name.rpartition(".")
            monkeypatch.delattr(f"{package}.{short}", raising=False)
        monkeypatch.setitem(sys.modules, "cupy", cupy)

    yield put
    for name in GPU_MODULES:  # what was imported upon the fake is of no use to others
        sys.modules.pop(name, None)


CAUSES: dict[str, tuple[dict[str, Exception], str, str]] = {
    "driver too old": (
        {"count": CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")},
        "the NVIDIA driver is too old: it serves CUDA 11.4, CuPy wants 12.9",
        "update the driver",
    ),
    "no device": (
        {"count": CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")},
        "no NVIDIA GPU is visible",
        "CUDA_VISIBLE_DEVICES",
    ),
    "out of memory in the pool": (
        {"memory": OutOfMemoryError("Out of memory allocating 512 bytes")},
        "the GPU has no memory left",
        "nvidia-smi",
    ),
    "out of memory in the driver": (
        {"memory": CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")},
        "the GPU has no memory left",
        "nvidia-smi",
    ),
    "no NVRTC": (
        {
            "compile": RuntimeError(
                "CuPy failed to load libnvrtc.so.12: OSError: libnvrtc.so.12: cannot open shared object"
            )
        },
        "CuPy finds no libnvrtc.so.12, a library of CUDA",
        "[ctk]",
    ),
    "no NVRTC on Windows": (
        {"compile": RuntimeError("CuPy failed to load nvrtc64_120_0.dll: FileNotFoundError")},
        "CuPy finds no nvrtc64_120_0.dll, a library of CUDA",
        "[ctk]",
    ),
    "something else": (
        {"copy": CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")},
        "the GPU does not work: cudaErrorIllegalAddress",
        "nvidia-smi",
    ),
    "something else still": (
        {"count": RuntimeError("the stars\nare not right")},
        "the GPU does not work: the stars are not right",
        "",
    ),
}


def probe() -> BackendStatus:
    return backends.probe("cupy")


def test_a_gpu_that_works(install: Callable[[ModuleType | None], None]) -> None:
    install(fake_cupy())
    assert probe() == BackendStatus("cupy", ok=True, device="gpu (Imaginary 9000, CuPy 14.2.0)")
    assert backends.select("auto").name == backends.select("gpu").name == "cupy"
    assert backends.select("cpu").name == "numba"


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_told_apart(install: Callable[[ModuleType | None], None], cause: str) -> None:
    failures, reason, hint = CAUSES[cause]
    install(fake_cupy(**failures))
    status = probe()
    assert not status.ok
    assert status.reason.startswith(reason)
    assert hint in status.hint


def test_not_installed(install: Callable[[ModuleType | None], None]) -> None:
    install(None)
    assert probe().reason == "cupy is not installed"
    assert "pip install cupy-cuda12x" in probe().hint


def test_not_importable(install: Callable[[ModuleType | None], None], monkeypatch: pytest.MonkeyPatch) -> None:
    install(fake_cupy())

    def fail(name: str) -> None:
        raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(backends, "import_module", fail)
    assert probe().reason == "cupy is installed but cannot be imported: libcuda.so.1: cannot open shared object file"


def test_no_folder_for_its_cache(install: Callable[[ModuleType | None], None], monkeypatch: pytest.MonkeyPatch) -> None:
    install(fake_cupy())

    def fail(name: str) -> None:
        raise NotADirectoryError(20, "Not a directory", "/home/.cupy")

    monkeypatch.setattr(backends, "import_module", fail)
    assert "cannot be imported: [Errno 20] Not a directory: '/home/.cupy'" in probe().reason
    assert "CUPY_CACHE_DIR" in probe().hint


def test_no_driver_at_all(install: Callable[[ModuleType | None], None]) -> None:
    cupy = fake_cupy(count=CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient"))
    cupy.cuda.runtime.driverGetVersion = lambda: 0
    install(cupy)
    assert probe().reason == "there is no NVIDIA driver"


def test_no_device_is_counted(install: Callable[[ModuleType | None], None]) -> None:
    cupy = fake_cupy()
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    install(cupy)
    assert probe().reason == "no NVIDIA GPU is visible"


def test_a_kernel_that_does_not_compile_keeps_the_compilers_messages(
    install: Callable[[ModuleType | None], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    install(fake_cupy(compile=CompileException('activation.cu(7): error: identifier "x" is undefined')))
    status = probe()
    (log,) = tmp_path.glob("lenet-activation-*.log")
    assert status.reason == (f"activation.cu does not compile for this GPU; the compiler's messages are in {log}")
    assert "identifier" in log.read_text()
    assert "lenet info" in status.hint


# on the command line -------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("command", ["train", "test"])
def test_a_gpu_asked_for_is_never_replaced(
    install: Callable[[ModuleType | None], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    cause: str,
) -> None:
    failures, reason, _ = CAUSES[cause]
    install(fake_cupy(**failures))
    path = ["--path", str(tmp_path / "net")] if command == "train" else []
    code, _, errors = run(capsys, command, "--device", "gpu", *path)
    assert code == 3
    (line,) = errors.splitlines()
    assert line.startswith(f"Error: {reason}")
    assert not (tmp_path / "net").exists()


def test_info_says_why(install: Callable[[ModuleType | None], None], capsys: pytest.CaptureFixture[str]) -> None:
    failures, reason, hint = CAUSES["no device"]
    install(fake_cupy(**failures))
    code, out, _ = run(capsys, "info")
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("cupy "))
    assert f"unusable: {reason}" in line
    assert hint in line
