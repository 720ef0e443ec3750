"""How the kernels are compiled: the one place for Numba's flags.

Numba's disk cache watches the file in which a cached function stands, and no other. A kernel therefore calls only
helpers from its own file, and no stale copy of a helper outlives a change.
"""

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar
from uuid import uuid4

import numba

F = TypeVar("F", bound=Callable[..., Any])

config: Any = numba.config
"""Numba's settings, of which its type stubs do not know."""

FUSED = frozenset({"contract"})
"""Products may be fused into sums. Enough to vectorize all that is computed number by number."""

REORDERED = FUSED | {"reassoc", "nsz"}
"""Sums may be reordered as well, so that a dot product vectorizes; always the same way, the length being the same.

No flag assumes that there is no NaN and no infinity: they pass through, and comparisons stay true. Neither are
approximate reciprocals allowed: 1 / infinity would become NaN.
"""

# To start a parallel region costs OpenMP microseconds, and Numba's own workqueue tens of them.
if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

# A thread of GNU OpenMP that waits for the others spins for milliseconds before it sleeps. Where a core is lost to
# another process, the thread waited for could run on the core of the waiting one, but does not: training was 20 to 50
# times slower. A spin of microseconds bridges the gaps between regions just as well.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "1000"


def _compiled(function: F, fastmath: frozenset[str], **flags: Any) -> F:
    return numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath), **flags)(function)


def helper(function: F) -> F:
    """Compile a part of the kernels of the same file."""
    return _compiled(function, FUSED)


def reordering_helper(function: F) -> F:
    """Compile a part of the kernels of the same file whose sums may be reordered."""
    return _compiled(function, REORDERED)


def kernel(function: F) -> F:
    """Compile a kernel that runs ``numba.prange`` loops on several threads; keep it on disk where that is possible."""
    return _kept(function, parallel=True)


def thread_kernel(function: Callable[..., Any]) -> Any:
    """Compile what one of several threads of our own runs; keep it on disk where that is possible."""
    return _kept(function)


@cache
def _warn() -> None:
    """Say, once, that nothing is kept on disk."""
    logging.getLogger("lenet").warning(
        "warning: no cache folder can be written, so every run compiles its kernels anew; "
        "NUMBA_CACHE_DIR=FOLDER keeps them there"
    )


def _kept(function: Callable[..., Any], **flags: Any) -> Any:
    try:
        dispatcher: Any = _compiled(function, FUSED, cache=True, **flags)
    except RuntimeError:  # "no locator available": no cache folder can be written
        _warn()
        return _compiled(function, FUSED, **flags)
    # Numba counts its files, and announces one before it is written: a process that compiles at the same moment, or
    # that finds what an older version left, would run code made for something else. So no two processes share names.
    files = dispatcher._cache._cache_file
    files._data_name_pattern = files._data_name_pattern.replace("{number", uuid4().hex + ".{number")
    return dispatcher
