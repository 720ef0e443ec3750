"""The `backend` fixture: every test that asks for it runs once on each backend that the package has."""

from typing import Any

import numpy as np
import pytest

from lenet import backends
from lenet.backends.base import Backend
from lenet.errors import DeviceUnusable

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "numpy-float64": ("numpy", {"dtype": np.float64}),
    "numpy-float32": ("numpy", {}),
    "numba": ("numba", {}),
}
"""Name of the registry and options of each variant under test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-backend",
        action="append",
        default=[],
        choices=backends.NAMES,
        metavar="NAME",
        help=f"fail instead of skip where this backend cannot run ({', '.join(backends.NAMES)}); may be repeated",
    )


@pytest.fixture(scope="session", params=VARIANTS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return one backend for the whole session: kernels compile once. Where it cannot run, skip and say why."""
    name, options = VARIANTS[request.param]
    try:
        return backends.get(name, **options)
    except DeviceUnusable as error:
        if name in request.config.getoption("--require-backend"):
            pytest.fail(f"--require-backend {name}: {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def float64() -> Backend:
    """Return NumPy in float64: exact enough for finite differences."""
    return backends.get("numpy", dtype=np.float64)
