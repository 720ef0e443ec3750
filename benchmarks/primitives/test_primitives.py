"""Each primitive of the default network on every backend here, for catching regressions.

    pip install pytest-benchmark
    pytest benchmarks/primitives --benchmark-autosave            # before a change
    pytest benchmarks/primitives --benchmark-compare             # after it: beside the last run

Not among the tests: it measures, and says nothing about right or wrong.
"""

from functools import cache
from typing import Any

import pytest

from lenet import backends
from lenet.backends import Backend
from lenet.bench.primitives import Primitive, primitives
from lenet.bench.work import BATCH_SIZE
from lenet.lenet5 import lenet5
from lenet.settings import Settings

SETTINGS = Settings()
NETWORK = lenet5(SETTINGS.network, 28, 28, 10)
BACKENDS = [name for name in backends.NAMES if backends.probe(name).ok]


@cache
def ready(name: str) -> tuple[Backend, dict[str, Primitive]]:
    """Make a backend and its primitives, once."""
    backend = backends.get(name)
    made = primitives(NETWORK, backend, BATCH_SIZE, SETTINGS.training.rule())
    return backend, {primitive.name: primitive for primitive in made}


@pytest.mark.parametrize("primitive", ready("numpy")[1])
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_primitive(benchmark: Any, backend_name: str, primitive: str) -> None:
    """Time one primitive on one backend."""
    backend, made = ready(backend_name)
    benchmark.group = primitive
    run = made[primitive].run

    def call() -> None:
        run()
        backend.synchronize()

    call()  # compiles
    benchmark(call)
