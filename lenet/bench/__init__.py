"""`lenet bench`: every backend and executor on the same work, side by side on this machine."""

from lenet.bench.measure import document

__all__ = ["document"]
