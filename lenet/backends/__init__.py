"""The backends by name: which there are, which can run here, and why not. Each is imported only when asked for."""

from importlib import import_module
from typing import Any

from lenet.backends.base import Array, Backend, BackendStatus
from lenet.errors import DeviceUnusable, UsageError

__all__ = ["NAMES", "Array", "Backend", "BackendStatus", "get", "probe", "select"]

_CLASSES = {
    "numpy": ("lenet.backends.numpy_backend", "NumpyBackend"),
    "numba": ("lenet.backends.numba_backend", "NumbaBackend"),
    "cupy": ("lenet.backends.cupy_backend", "CupyBackend"),
}

NAMES = tuple(_CLASSES)
"""All backends, the readable reference first."""


def get(name: str, **options: Any) -> Backend:
    """Return a new backend; ``options`` go to its class: ``dtype`` (numpy), ``threads`` (numba).

    Raises
    ------
    DeviceUnusable
        When it cannot run here, with the reason and a hint.
    """
    module, class_name = _CLASSES[name]
    try:
        backend: Backend = getattr(import_module(module), class_name)(**options)
    except (ImportError, OSError) as error:  # CuPy makes a folder for its cache when it is imported
        raise _import_failure(name, error) from error
    return backend


def select(device: str = "auto", name: str | None = None, threads: int | None = None) -> Backend:
    """Return the backend that a user's choice of device, of backend, or of neither stands for.

    ``cpu`` is Numba, ``gpu`` is CuPy. ``auto`` takes the fastest backend that can run here. An explicit choice never
    falls back.

    Raises
    ------
    UsageError
        When there is no such device or backend, or the two contradict each other.
    DeviceUnusable
        When what was asked for cannot run here.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise UsageError(f"--device is auto, cpu or gpu, not {device!r}")
    if name is not None and name not in NAMES:
        raise UsageError(f"--backend is one of {', '.join(NAMES)}, not {name!r}")
    if name is not None and device != "auto" and (device == "gpu") != (name == "cupy"):
        raise UsageError(f"--device {device} contradicts --backend {name}, which runs on the {_PLACES[name]}")
    if name is None:
        name = {"cpu": "numba", "gpu": "cupy", "auto": None}[device]
    for candidate in ("cupy", "numba") if name is None else ():
        try:
            return get(candidate, **_options(candidate, threads))
        except DeviceUnusable:
            continue
    return get(name or "numpy", **_options(name, threads))


_PLACES = {"numpy": "CPU", "numba": "CPU", "cupy": "GPU"}


def _options(name: str | None, threads: int | None) -> dict[str, Any]:
    return {"threads": threads} if name == "numba" else {}


def probe(name: str) -> BackendStatus:
    """Say whether a backend can run here, and if not, why, and what to do."""
    try:
        return BackendStatus(name, ok=True, device=get(name).device)
    except DeviceUnusable as error:
        return BackendStatus(name, ok=False, reason=error.reason, hint=error.hint)


_INSTALL = {
    "numba": "pip install numba",
    "cupy": "with an NVIDIA GPU: pip install cupy-cuda12x, or cupy-cuda13x for a driver of CUDA 13",
}


def _import_failure(name: str, error: ImportError | OSError) -> DeviceUnusable:
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        return DeviceUnusable(f"{name} is not installed", _INSTALL[name])
    text = " ".join(str(error).split())
    hint = "" if isinstance(error, ImportError) else "CUPY_CACHE_DIR=FOLDER names a folder that it can write"
    return DeviceUnusable(f"{name} is installed but cannot be imported: {text}", hint)
