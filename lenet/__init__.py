"""LeNet-5 from scratch: training and using it on handwritten digits, on interchangeable array backends.

The names below load their modules when they are first used, so that ``import lenet`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenet.data import load_dataset
    from lenet.evaluation import evaluate
    from lenet.executors import State, choose
    from lenet.settings import Settings
    from lenet.storage import load

__version__ = "0.1.0"

__all__ = ["Settings", "State", "__version__", "choose", "evaluate", "load", "load_dataset"]

_HOME = {
    "Settings": "lenet.settings",
    "State": "lenet.executors",
    "choose": "lenet.executors",
    "evaluate": "lenet.evaluation",
    "load": "lenet.storage",
    "load_dataset": "lenet.data",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
