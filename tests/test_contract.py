"""What `lenet.backends.base` promises of every backend, apart from the numbers, which `test_parity` checks."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import cases
import cuda_on_cpu
import numpy as np
import pytest
from cases import CASES, Case

from lenet import backends
from lenet.backends.array import ArrayBackend
from lenet.backends.base import Backend
from lenet.errors import DeviceUnusable
from lenet.specs import Conv2DSpec

COMPUTING = (
    "distort",
    "conv2d_forward",
    "conv2d_backward",
    "pool2d_forward",
    "pool2d_backward",
    "dense_forward",
    "dense_backward",
    "activation_forward",
    "activation_backward",
    "softmax_cross_entropy",
    "argmax",
    "optimizer_step",
)
PRIMITIVES = ("empty", "to_device", "to_host", "synchronize", *COMPUTING)
ATTRIBUTES = {"name", "device", "dtype"}
DOCUMENTED_EXTRAS = {"ArrayBackend": {"xp"}, "NumbaBackend": {"threads"}}
"""Public attributes beyond the contract, by the class that adds them."""

SMALL = [case for case in CASES if case.batch <= 18]


def concrete_classes() -> list[Any]:
    """Find the class of every backend in its module; one whose library is missing is skipped, and seen to be."""
    folder = Path(inspect.getfile(backends)).parent
    modules = sorted(path.stem for path in folder.glob("*_backend.py"))
    return [pytest.param(name, id=name.removesuffix("_backend")) for name in modules]


@pytest.fixture(params=concrete_classes())
def concrete(request: pytest.FixtureRequest) -> type[Backend]:
    try:
        with cuda_on_cpu.installed():
            module = import_module(f"lenet.backends.{request.param}")
    except ImportError as error:
        pytest.skip(f"{request.param} cannot be imported: {error}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Backend) and value.__module__ == module.__name__
    )
    return found


def public(names: Any) -> set[str]:
    return {name for name in names if not name.startswith("_")}


# by reflection, without the hardware ---------------------------------------------------------------------------------


def test_the_contract_is_these_sixteen_primitives() -> None:
    assert len(PRIMITIVES) == 16
    assert Backend.__abstractmethods__ == set(PRIMITIVES)
    assert public(vars(Backend)) - ATTRIBUTES == set(PRIMITIVES)
    assert public(Backend.__annotations__) == ATTRIBUTES


def test_every_registered_backend_has_a_module_of_its_name() -> None:
    assert {f"{name}_backend" for name in backends.NAMES} == {param.values[0] for param in concrete_classes()}


def test_signatures_are_those_of_the_contract(concrete: type[Backend]) -> None:
    for name in PRIMITIVES:
        wanted = inspect.signature(getattr(Backend, name)).parameters.values()
        actual = inspect.signature(getattr(concrete, name)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in actual] == [(p.name, p.kind, p.default) for p in wanted], name


def test_a_backend_has_nothing_public_besides(concrete: type[Backend]) -> None:
    assert not concrete.__abstractmethods__
    assert concrete.name in backends.NAMES
    extras = set().union(*(DOCUMENTED_EXTRAS.get(parent.__name__, set()) for parent in concrete.__mro__))
    assert public(dir(concrete)) - set(PRIMITIVES) <= ATTRIBUTES | extras


def test_an_instance_has_nothing_public_besides(backend: Backend) -> None:
    extras = set().union(*(DOCUMENTED_EXTRAS.get(parent.__name__, set()) for parent in type(backend).__mro__))
    assert public(vars(backend)) <= ATTRIBUTES | extras
    assert isinstance(backend.name, str)
    assert backend.device
    assert backend.dtype in (np.float32, np.float64)


def test_every_computing_primitive_has_cases() -> None:
    assert {case.op for case in CASES} == set(COMPUTING) == set(cases.TOLERANCES)
    assert len({str(case) for case in CASES}) == len(CASES)


def test_only_array_backends_have_a_namespace(concrete: type[Backend]) -> None:
    assert issubclass(concrete, ArrayBackend) or not hasattr(concrete, "xp")


# arrays --------------------------------------------------------------------------------------------------------------


def test_empty_has_the_shape_and_type_asked_for(backend: Backend) -> None:
    for shape in ((3, 4, 5), (0, 7), (1,)):
        assert backend.empty(shape).shape == shape
        assert backend.empty(shape).dtype == backend.dtype
        assert backend.empty(shape, np.int32).dtype == np.int32


def test_to_host_is_an_independent_copy(backend: Backend) -> None:
    array = backend.to_device(np.arange(6, dtype=np.int32))
    copy = backend.to_host(array)
    copy[:] = -1
    np.testing.assert_array_equal(backend.to_host(array), np.arange(6))
    part = backend.to_host(array[2:4])
    assert type(part) is np.ndarray
    np.testing.assert_array_equal(part, [2, 3])


def test_to_device_is_an_independent_copy(backend: Backend) -> None:
    host = np.arange(6, dtype=np.int32)
    array = backend.to_device(host)
    host[:] = -1
    np.testing.assert_array_equal(backend.to_host(array), np.arange(6))


def test_to_device_keeps_the_type_and_makes_arrays_contiguous(backend: Backend) -> None:
    host = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    array = backend.to_device(host)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(backend.to_host(array), host)


def test_to_device_into_an_array_converts_to_its_type(backend: Backend) -> None:
    array = backend.empty((4,))
    array_view = array[1:3]
    backend.to_device(np.zeros(4), out=array)
    returned = backend.to_device(np.array([7, 8], np.int64), out=array_view)
    assert returned is array_view
    assert array.dtype == backend.dtype
    np.testing.assert_array_equal(backend.to_host(array), [0, 7, 8, 0])


def test_synchronize_returns_nothing(backend: Backend) -> None:
    assert backend.synchronize() is None


# outputs and inputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_outputs_do_not_depend_on_what_they_held(backend: Backend, case: Case) -> None:
    """`cases.run` also checks that inputs stay as they are and that nothing is returned."""
    after_nan = cases.run(backend, case, poison=np.nan)
    after_number = cases.run(backend, case, poison=1e30)
    for name, array in after_nan.items():
        assert array.tobytes() == after_number[name].tobytes(), name


def test_gradients_do_not_depend_on_whether_dx_is_asked_for(backend: Backend) -> None:
    for case in CASES:
        if case.op == "conv2d_backward" and case.fill == "without-dx":
            problem, spec = cases.build(case), case.spec
            assert isinstance(spec, Conv2DSpec)
            arguments = {name: cases.upload(backend, name, array) for name, array in problem.inputs.items()}
            written = {name: backend.empty(shape) for name, (shape, _) in problem.outputs.items()}
            backend.conv2d_backward(spec, **arguments, **written, dx=backend.empty(problem.inputs["x"].shape))
            for name, array in cases.run(backend, case).items():
                np.testing.assert_array_equal(array, backend.to_host(written[name]), err_msg=name)


@pytest.mark.parametrize("kind", cases.ACTIVATIONS)
def test_activations_work_in_place(backend: Backend, kind: Any) -> None:
    host = np.linspace(-4, 4, 3 * 35).reshape(3, 35)
    x, y = backend.to_device(host.astype(backend.dtype)), backend.empty(host.shape)
    backend.activation_forward(kind, x, out=y)
    backend.activation_forward(kind, x, out=x)
    np.testing.assert_array_equal(backend.to_host(x), backend.to_host(y))

    dy, dx = backend.to_device(host[::-1].astype(backend.dtype)), backend.empty(host.shape)
    backend.activation_backward(kind, dy, y, dx=dx)
    backend.activation_backward(kind, dy, y, dx=dy)
    np.testing.assert_array_equal(backend.to_host(dy), backend.to_host(dx))
    np.testing.assert_array_equal(backend.to_host(x), backend.to_host(y))


@pytest.mark.parametrize("kind", cases.ACTIVATIONS)
def test_a_number_that_is_none_is_not_hidden_by_an_activation(backend: Backend, kind: Any) -> None:
    """A run that has diverged must be seen to have diverged."""
    x = backend.to_device(np.array([[1.0, np.nan, -1.0] * 11], backend.dtype))
    backend.activation_forward(kind, x, out=x)
    np.testing.assert_array_equal(np.isnan(backend.to_host(x)), [[False, True, False] * 11])


def test_a_number_that_is_none_is_not_hidden_by_the_loss(backend: Backend) -> None:
    logits = np.zeros((20, 10), backend.dtype)
    logits[7, 3] = np.nan
    losses, dlogits = backend.empty((20,)), backend.empty((20, 10))
    targets = np.zeros((20, 10), backend.dtype)
    targets[:, 0] = 1
    backend.softmax_cross_entropy(backend.to_device(logits), backend.to_device(targets), losses, dlogits)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(backend.to_host(losses))), [7])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(backend.to_host(dlogits)).all(axis=1)), [7])


# the same bits -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_and_two_threads() -> tuple[Backend, Backend]:
    try:
        return backends.get("numba", threads=1), backends.get("numba", threads=2)
    except DeviceUnusable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_number_of_threads_does_not_change_a_bit(one_and_two_threads: tuple[Backend, Backend], case: Case) -> None:
    after_one, after_two = (cases.run(backend, case) for backend in one_and_two_threads)
    for name, array in after_one.items():
        assert array.tobytes() == after_two[name].tobytes(), name
