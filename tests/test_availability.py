"""Which backend is taken, why one is not there, and that a wrong one is found out before it trains."""

import sys

import numpy as np
import pytest

from lenet import backends
from lenet.backends.numpy_backend import NumpyBackend
from lenet.errors import DeviceUnusable, UsageError
from lenet.executors import EagerExecutor, choose
from lenet.executors.check import self_check
from lenet.lenet5 import lenet5
from lenet.optimizers import Adam, GradientDescent
from lenet.settings import NetworkSettings

SMALL = lenet5(NetworkSettings(maps=(2, 3), dense=(5, 4), table="full"), 16, 16, 3)


@pytest.fixture
def no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``import numba`` fail as where it is not installed."""
    for name in [name for name in sys.modules if name.startswith(("lenet.backends.numba", "lenet.kernels.cpu"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)


def test_numpy_is_always_there() -> None:
    status = backends.probe("numpy")
    assert status.ok
    assert "NumPy" in status.device


def test_a_gpu_takes_part(request: pytest.FixtureRequest) -> None:
    """Stand for all tests that need a GPU, which are left out where there is none."""
    status = backends.probe("cupy")
    if not status.ok:
        missing = pytest.fail if "cupy" in request.config.getoption("--require-backend") else pytest.skip
        missing(f"hundreds of tests need a GPU: {status.reason}; {status.hint}")


@pytest.mark.usefixtures("no_numba")
def test_a_missing_backend_says_why() -> None:
    status = backends.probe("numba")
    assert not status.ok
    assert status.reason == "numba is not installed"
    assert status.hint == "pip install numba"
    with pytest.raises(DeviceUnusable, match="not installed"):
        backends.select("cpu")
    assert backends.select("auto").name in ("numpy", "cupy")


def test_a_broken_backend_keeps_the_original_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: str) -> None:
        raise ImportError("Numba needs NumPy 2.4 or less. Got NumPy 9.0.")

    monkeypatch.setattr(backends, "import_module", fail)
    status = backends.probe("numba")
    assert status.reason == "numba is installed but cannot be imported: Numba needs NumPy 2.4 or less. Got NumPy 9.0."


@pytest.mark.parametrize(
    ("device", "name", "error", "message"),
    [
        ("gpu", "numpy", UsageError, "--device gpu contradicts --backend numpy, which runs on the CPU"),
        ("cpu", "cupy", UsageError, "--device cpu contradicts --backend cupy, which runs on the GPU"),
        ("abacus", None, UsageError, "auto, cpu or gpu"),
        ("auto", "abacus", UsageError, "one of numpy, numba"),
    ],
)
def test_what_cannot_be_selected(device: str, name: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        backends.select(device, name)


def test_selected_threads_reach_the_backend() -> None:
    pytest.importorskip("numba")
    assert backends.select("cpu", threads=1).threads == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("rule", [None, Adam()])
@pytest.mark.parametrize("distorted", [True, False])
def test_the_self_check_passes_what_is_right(backend: backends.Backend, rule: Adam | None, distorted: bool) -> None:
    self_check(choose(SMALL, backend, rule, averaging=rule is not None), distorted=distorted)


class Wrong(NumpyBackend):
    """A backend with one primitive whose results are twice too large, or loses its numbers."""

    def __init__(self, primitive: str, factor: float) -> None:
        super().__init__()
        self._primitive, self._factor = primitive, factor

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name.startswith("_") or name != self._primitive:
            return found

        def spoiled(*arguments: object, **options: object) -> None:
            found(*arguments, **options)
            out = options.get("out", options.get("dweight"))
            assert isinstance(out, np.ndarray)
            out *= self._factor

        return spoiled


def test_the_self_check_tells_of_whatever_else_goes_wrong() -> None:
    class Failing(NumpyBackend):
        def dense_forward(self, *arguments: object, **options: object) -> None:
            raise MemoryError("Out of memory allocating\n1,024 bytes.")

    with pytest.raises(DeviceUnusable, match=r"failed in a small self-check: Out of memory allocating 1,024 bytes\.;"):
        self_check(EagerExecutor(SMALL, Failing(), Adam()))


@pytest.mark.parametrize("primitive", ["distort", "conv2d_forward", "conv2d_backward", "dense_backward"])
@pytest.mark.parametrize("factor", [2.0, float("nan")])
def test_the_self_check_finds_what_is_wrong(primitive: str, factor: float) -> None:
    # Adam's step depends on the sign of a gradient more than on its size; plain descent shows all of it.
    executor = EagerExecutor(SMALL, Wrong(primitive, factor), GradientDescent())
    with pytest.raises(DeviceUnusable, match=r"computes wrong .* use --backend numpy"):
        self_check(executor)
