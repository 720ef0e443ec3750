"""Executors: how a network is run on a backend."""

from contextlib import suppress

from lenet.backends.base import Backend
from lenet.errors import Unsupported
from lenet.executors.base import EpochPlan, Executor, Samples, State, Watch
from lenet.executors.eager import EagerExecutor
from lenet.network import Network
from lenet.optimizers import Rule

__all__ = ["EagerExecutor", "EpochPlan", "Executor", "Samples", "State", "Watch", "choose", "kinds"]


def kinds(backend: Backend) -> tuple[type[Executor], ...]:
    """Return the executors that there are for a backend, the fastest first; the last one serves every network."""
    if backend.name == "numba":
        from lenet.executors.numba_fused import FusedExecutor

        return FusedExecutor, EagerExecutor
    if backend.name == "cupy":
        from lenet.executors.cuda_fused import CudaFusedExecutor
        from lenet.executors.cuda_graph import GraphExecutor

        return CudaFusedExecutor, GraphExecutor, EagerExecutor
    return (EagerExecutor,)


def choose(network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> Executor:
    """Return the fastest executor that serves this network on this backend."""
    *fast, last = kinds(backend)
    for kind in fast:
        with suppress(Unsupported):
            return kind(network, backend, rule, averaging)
    return last(network, backend, rule, averaging)
