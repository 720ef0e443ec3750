"""Runs the unchanged CUDA kernels, and the unchanged code that launches them, on the CPU; see ``docs/testing.md``."""

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from . import fake_cupy
from .build import missing

__all__ = ["installed", "missing", "stand_in"]

MODULES = (
    "lenet.kernels.cuda.loader",
    "lenet.backends.cupy_backend",
    "lenet.executors.cuda_graph",
    "lenet.executors.cuda_fused",
)
"""All that import CuPy."""


@functools.cache
def stand_in() -> Any:
    """Return fresh copies of the modules that import CuPy, with the stand-in in its place.

    Their last names are attributes: ``loader``, ``cupy_backend``, ``cuda_graph``, ``cuda_fused``. And there are
    ``cupy``, the stand-in itself, and ``machine``, the `fake_cupy.Machine` that runs the kernels.
    """
    cupy = fake_cupy.make_module()
    fresh: dict[str, ModuleType | None] = {"cupy": cupy, **dict.fromkeys(MODULES)}
    with _modules(fresh):
        modules = {name.rpartition(".")[2]: importlib.import_module(name) for name in MODULES}
    return SimpleNamespace(cupy=cupy, machine=fake_cupy.machine, **modules)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Let whoever imports these modules meanwhile get the stand-in's."""
    modules = stand_in()
    with _modules({"cupy": modules.cupy, **{name: getattr(modules, name.rpartition(".")[2]) for name in MODULES}}):
        yield


@contextlib.contextmanager
def _modules(modules: dict[str, ModuleType | None]) -> Iterator[None]:
    """Put modules in place of those of the same names, None for those that are to be imported; then the others back."""
    before = {name: sys.modules.get(name) for name in modules}
    _put(modules)
    try:
        yield
    finally:
        _put(before)


def _put(modules: dict[str, ModuleType | None]) -> None:
    for name, module in modules.items():
        package, _, attribute = name.rpartition(".")
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module
        if not package:
            continue
        parent = importlib.import_module(package)  # `from package import module` looks for an attribute first
        if module is not None:
            setattr(parent, attribute, module)
        elif hasattr(parent, attribute):
            delattr(parent, attribute)
