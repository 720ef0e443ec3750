"""The `backend` fixture: every test that asks for it runs once on each backend that the package has."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import cuda_on_cpu
import numpy as np
import pytest

from lenet import backends
from lenet.backends.base import Backend
from lenet.errors import DeviceUnusable

ON_CPU = "cupy-on-cpu"

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "numpy-float64": ("numpy", {"dtype": np.float64}),
    "numpy-float32": ("numpy", {}),
    "numba": ("numba", {}),
    ON_CPU: ("cupy", {}),
    "cupy": ("cupy", {}),
}
"""Name of the registry and options of each variant under test."""

UNCHECKED = ("test_golden",)
"""Modules in which the stand-in runs kernels without looking at every access: for they train for minutes else."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-backend",
        action="append",
        default=[],
        choices=backends.NAMES,
        metavar="NAME",
        help=f"fail instead of skip where this backend cannot run ({', '.join(backends.NAMES)}); may be repeated",
    )
    parser.addoption(
        "--require-cuda-tools",
        action="store_true",
        help="fail instead of skip where there is no g++, CuPy or NVRTC to check CUDA kernels with, without a GPU",
    )
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail instead of skip where there is no Chromium, or no Playwright to drive it with",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where none works; `test_a_gpu_takes_part` says why, once for all of them."""
    if "cupy" in config.getoption("--require-backend") or backends.probe("cupy").ok:
        return

    def needs_gpu(item: pytest.Item) -> bool:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        return parameters.get("backend") == "cupy" or parameters.get("cuda") == "gpu"

    config.hook.pytest_deselected(items=[item for item in items if needs_gpu(item)])
    items[:] = [item for item in items if not needs_gpu(item)]


@pytest.fixture(scope="session")
def without_tool(request: pytest.FixtureRequest) -> Callable[[str], NoReturn]:
    """Return what a test calls with the reason when something to check CUDA kernels with is missing."""
    return pytest.fail if request.config.getoption("--require-cuda-tools") else pytest.skip


@pytest.fixture(scope="session")
def on_cpu(without_tool: Callable[[str], NoReturn]) -> Any:
    """Return the modules of the CuPy backend on the stand-in, see `cuda_on_cpu.stand_in`."""
    if reason := cuda_on_cpu.missing():
        without_tool(reason)
    return cuda_on_cpu.stand_in()


@pytest.fixture(scope="session", params=VARIANTS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return one backend for the whole session: kernels compile once. Where it cannot run, skip and say why."""
    if request.param == ON_CPU:
        modules = request.getfixturevalue("on_cpu")
        return modules.cupy_backend.CupyBackend()
    name, options = VARIANTS[request.param]
    try:
        return backends.get(name, **options)
    except DeviceUnusable as error:
        if name in request.config.getoption("--require-backend"):
            pytest.fail(f"--require-backend {name}: {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _stand_in(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let `choose`, which imports executors by their names, find those on the stand-in, where that is under test."""
    parameters = getattr(request.node, "callspec", None)
    if parameters is None or parameters.params.get("backend") != ON_CPU:
        yield
        return
    modules = request.getfixturevalue("on_cpu")
    # The order of threads is another in every launch, and the same when a test is repeated.
    modules.machine.launches = 0
    mode = "fast" if request.module.__name__ in UNCHECKED else "check"
    with cuda_on_cpu.installed(), modules.machine.running(mode):
        yield


@pytest.fixture(scope="session")
def float64() -> Backend:
    """Return NumPy in float64: exact enough for finite differences."""
    return backends.get("numpy", dtype=np.float64)
