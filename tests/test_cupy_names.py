"""Every name of CuPy that the package uses is one of the real CuPy, and its stand-in takes the same arguments.

CuPy can be imported without a GPU.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from cuda_on_cpu.fake_cupy import make_module

import lenet

PACKAGE = Path(lenet.__file__).parent


@pytest.fixture(scope="module")
def cupy(without_tool: Callable[[str], NoReturn]) -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        without_tool(f"CuPy cannot be imported, to look its names up: {error}")


def used_names() -> dict[str, str]:
    """Return every dotted name behind ``cp`` or ``cupy`` in files that import CuPy, and a place where it is used."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "cupy"
        }
        for node in ast.walk(tree):
            first, _, rest = dotted(node).partition(".")
            if rest and first in aliases:
                names[rest] = f"{path.relative_to(PACKAGE)}:{node.lineno}"  # type: ignore[attr-defined]
    return names


def dotted(node: ast.AST) -> str:
    """Return a.b.c as text; nothing for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def find(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


def stand_in_names(module: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every public name of the stand-in and what it is, down to the methods of its classes."""
    for name, value in vars(module or make_module()).items():
        if name.startswith("_") and name != "__call__":
            continue
        yield prefix + name, value
        if isinstance(value, SimpleNamespace | type) and not issubclass(value_type(value), Exception):
            yield from stand_in_names(value, f"{prefix}{name}.")


def value_type(value: Any) -> type:
    return value if isinstance(value, type) else type(value)


def parameters(function: Any) -> list[str]:
    """Return the names of a function's parameters, where it says them: Cython's functions do in their docstrings."""
    try:
        return [name for name in inspect.signature(function).parameters if name != "self"]
    except (TypeError, ValueError):
        documented = re.findall(r"\w\(([^)]*)\)", (function.__doc__ or "").partition("\n\n")[0].replace("\\*", "*"))
        words = max(documented, key=len, default="").split(",")
        names = [word.partition("=")[0].split()[-1] for word in words if word.strip()]
        return [name.lstrip("*") for name in names if name not in ("self", "*")]


USED = used_names()
OURS = dict(stand_in_names())


def test_names_are_found() -> None:
    assert {"ndarray", "RawModule", "cuda.Stream", "cuda.runtime.driverGetVersion"} <= USED.keys()
    assert {"cuda.Stream.begin_capture", "ndarray.set", "RawModule.get_function"} <= OURS.keys()


@pytest.mark.parametrize("name", USED)
def test_used_names_are_cupys(cupy: Any, name: str) -> None:
    assert find(cupy, name) is not None, USED[name]


@pytest.mark.parametrize("name", OURS)
def test_the_stand_in_is_like_cupy(cupy: Any, name: str) -> None:
    ours, theirs = OURS[name], find(cupy, name)
    assert isinstance(ours, type) == isinstance(theirs, type)
    if not callable(ours) or issubclass(value_type(ours), Exception):
        return
    accepted = parameters(theirs)
    if "kwargs" not in accepted:
        taken = [parameter for parameter in parameters(ours) if parameter in accepted]
        assert parameters(ours) == taken, f"CuPy's are {accepted}"
        assert taken == [parameter for parameter in accepted if parameter in taken], "another order"
