"""Compiled kernels on disk: no process may ever run what another one compiled for something else."""

import importlib.util
from types import ModuleType

import pytest

PROGRAM = """
from dataclasses import dataclass
from lenet.kernels.cpu.frozen import register
from lenet.kernels.cpu.options import thread_kernel

@register
@dataclass(frozen=True)
class Plan:
    count: int

@thread_kernel
def double(plan):
    return 2 * plan.count
"""


@pytest.fixture
def imported(tmp_path):
    """Return a function that imports a file with a kernel anew, as another process would."""
    file = tmp_path / "kernels.py"
    file.write_text(PROGRAM)

    def load() -> ModuleType:
        spec = importlib.util.spec_from_file_location("kernels", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_two_processes_that_compile_at_the_same_moment(imported):
    first, second, third = (imported() for _ in range(3))
    late = []
    files = first.double._cache._cache_file
    save, files._save_data = files._save_data, lambda *arguments: late.append(arguments)
    second.double._cache._cache_file._load_index = dict  # read before the first one has written it
    assert first.double(first.Plan(3)) == 6
    assert second.double(second.Plan(4)) == 8
    assert len(late) == 1
    save(*late[0])
    assert third.double(third.Plan(4)) == 8
    assert third.double(third.Plan(3)) == 6


def test_a_process_that_dies_between_announcing_and_writing(imported):
    first, second, third = (imported() for _ in range(3))
    assert first.double(first.Plan(3)) == 6
    first.double._cache._cache_file.flush()  # as a newer version of the file would
    second.double._cache._cache_file._save_data = lambda *arguments: None
    assert second.double(second.Plan(4)) == 8
    assert third.double(third.Plan(4)) == 8
