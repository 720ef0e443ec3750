"""Executors: how a network is run on a backend."""

from contextlib import suppress

from lenet.backends.base import Backend
from lenet.errors import Unsupported
from lenet.executors.base import EpochPlan, Executor, Samples, State, Watch
from lenet.executors.eager import EagerExecutor
from lenet.network import Network
from lenet.optimizers import Rule

__all__ = ["EagerExecutor", "EpochPlan", "Executor", "Samples", "State", "Watch", "choose"]


def choose(network: Network, backend: Backend, rule: Rule | None = None, averaging: bool = False) -> Executor:
    """Return the fastest executor that serves this network on this backend."""
    if backend.name == "numba":
        from lenet.executors.numba_fused import FusedExecutor

        with suppress(Unsupported):
            return FusedExecutor(network, backend, rule, averaging)
    if backend.name == "cupy":
        from lenet.executors.cuda_fused import CudaFusedExecutor
        from lenet.executors.cuda_graph import GraphExecutor

        with suppress(Unsupported):
            return CudaFusedExecutor(network, backend, rule, averaging)
        return GraphExecutor(network, backend, rule, averaging)
    return EagerExecutor(network, backend, rule, averaging)
