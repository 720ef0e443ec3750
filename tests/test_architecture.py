"""Imports go one way, heavy libraries load late, and only the backends know what they are made of."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lenet

PACKAGE = Path(lenet.__file__).parent
TESTS = Path(__file__).parent

LEVELS = (
    {"errors", "files", "lock", "optimizers", "settings", "specs", "stopping", "streams"},
    {"kernels"},
    {"backends"},
    {"layers"},
    {"network"},
    {"initialize", "lenet5"},
    {"data", "drawing", "executors", "info", "storage"},
    {"curves", "distillation", "evaluation", "gallery", "inspection", "studio", "terminal", "training"},
    {"bench", "sweep"},
    {"commands"},
    {"cli"},
    {"__init__", "__main__"},
)
"""The parts of the package, the ground first. A part imports its own level and those below it, without a circle."""

LIBRARY_USERS = {
    "numba": ("*numba*", "kernels/cpu/*"),
    "llvmlite": ("*numba*", "kernels/cpu/*"),
    "cupy": ("backends/cupy_backend.py", "kernels/cuda/*", "executors/cuda_*"),
    "matplotlib": ("curves.py", "bench/chart.py", "sweep/chart.py"),
    "optuna": ("sweep/study.py",),
    "PIL": ("drawing.py", "gallery.py"),
    "flask": ("studio/*",),
    "werkzeug": ("studio/*",),
}
"""Which files may import a library."""

NAMING_BACKENDS = ("backends/*", "kernels/*", "executors/*", "bench/*", "commands/*", "info.py", "inspection.py")
"""Which files may name a concrete backend.

info.py lists packages, some of which are called the same; inspection.py looks inside the reference.
"""

NO_NUMPY = ("layers.py", "network.py", "lenet5.py", "specs.py")
"""The math is written against a backend: it never computes on arrays itself."""


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def module_name(file: Path) -> str:
    parts = ["lenet", *file.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    """Yield the full name of everything imported anywhere in a file, in functions and for type checkers too."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(file)} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def modules() -> dict[str, Path]:
    return {module_name(file): file for file in files()}


def imported_modules(file: Path) -> set[str]:
    """Resolve what a file imports of the package to modules: ``lenet.specs.Conv2DSpec`` is of ``lenet.specs``.

    The package itself, imported for its version, loads nothing; one of its public names, ``lenet.choose``, does.
    """
    found = set()
    for name in imports(file):
        if name.startswith("lenet.") and name != "lenet.__version__":
            found.add(name if name in modules() else name.rpartition(".")[0])
    return found


def level(module: str) -> int:
    part = module.split(".")[1] if "." in module else "__init__"
    found = [number for number, parts in enumerate(LEVELS) if part in parts]
    assert found, f"lenet/{part} has no place in LEVELS"
    return found[0]


# one way -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", files(), ids=relative)
def test_imports_go_down(file: Path) -> None:
    module = module_name(file)
    if module != "lenet.recipes":
        upwards = {name for name in imported_modules(file) if level(name) > level(module)}
        assert not upwards


def test_imports_go_in_no_circle() -> None:
    graph = {name: imported_modules(file) - {name} for name, file in modules().items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("lenet.specs") < order.index("lenet.backends.base") < order.index("lenet.executors.eager")


def test_kernels_import_nothing_but_kernels() -> None:
    for file in (PACKAGE / "kernels").rglob("*.py"):
        assert all(name.startswith("lenet.kernels") for name in imported_modules(file)), relative(file)


def test_backends_know_nothing_of_layers_networks_and_executors() -> None:
    ground = ("backends", "kernels", "specs", "optimizers", "errors")
    for file in (PACKAGE / "backends").rglob("*.py"):
        assert {name.split(".")[1] for name in imported_modules(file)} <= set(ground), relative(file)


# who may use what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARY_USERS)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {relative(file) for file in files() if library in {name.split(".")[0] for name in imports(file)}}
    assert {user for user in users if not any(fnmatch(user, pattern) for pattern in LIBRARY_USERS[library])} == set()


def test_only_executors_and_the_command_line_name_a_concrete_backend() -> None:
    names = {"numpy", "numba", "cupy"}
    for file in files():
        if any(fnmatch(relative(file), pattern) for pattern in NAMING_BACKENDS):
            continue
        strings = {node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant)}
        assert not strings & names, relative(file)
        concrete = {name for name in imported_modules(file) if name.endswith("_backend")}
        assert not concrete, relative(file)


@pytest.mark.parametrize("name", NO_NUMPY)
def test_the_math_does_not_compute_on_arrays(name: str) -> None:
    assert "numpy" not in {imported.split(".")[0] for imported in imports(PACKAGE / name)}


def test_the_oracle_shares_no_code_with_the_package() -> None:
    source = ast.parse((TESTS / "oracle.py").read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(source) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(source) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"collections.abc", "itertools", "math", "numpy", "numpy.typing", "typing"}


# what loads when -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("lenet", {"numpy", "numba", "llvmlite", "cupy", "matplotlib", "flask", "PIL", "click", "rich", "optuna"}),
        ("lenet.cli", {"numpy", "numba", "llvmlite", "cupy", "matplotlib", "flask", "PIL", "optuna"}),
        ("lenet.training", {"numba", "llvmlite", "cupy", "matplotlib", "flask", "PIL"}),
        ("lenet.backends", {"numba", "llvmlite", "cupy"}),
        ("lenet.drawing", {"numba", "llvmlite", "cupy", "matplotlib", "flask"}),
    ],
)
def test_heavy_libraries_load_late(module: str, absent: set[str]) -> None:
    program = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "lenet" in loaded
    assert not loaded & absent
