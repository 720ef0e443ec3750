"""The backends by name: which there are, which can run here, and why not. Each is imported only when asked for."""

from importlib import import_module
from typing import Any

from lenet.backends.base import Array, Backend, BackendStatus
from lenet.errors import DeviceUnusable

__all__ = ["NAMES", "Array", "Backend", "BackendStatus", "get", "probe"]

_CLASSES = {
    "numpy": ("lenet.backends.numpy_backend", "NumpyBackend"),
    "numba": ("lenet.backends.numba_backend", "NumbaBackend"),
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
    except ImportError as error:
        raise DeviceUnusable(_import_failure(name, error)) from error
    return backend


def probe(name: str) -> BackendStatus:
    """Say whether a backend can run here, and if not, why: not installed, or installed but not importable."""
    try:
        return BackendStatus(name, ok=True, device=get(name).device)
    except DeviceUnusable as error:
        return BackendStatus(name, ok=False, reason=str(error))


def _import_failure(name: str, error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        return f"{name} is not installed; pip install {name}"
    return f"{name} is installed but cannot be imported: {error}"
