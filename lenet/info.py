"""What a bug report needs to know about this machine."""

import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lenet
from lenet import backends

PACKAGES = ("numpy", "numba", "llvmlite", "click", "rich", "matplotlib")
CUPY_PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "cupy")  # of which one at most is installed


def versions() -> dict[str, str]:
    """Return the versions of lenet, Python and the packages that lenet stands on; ``absent`` for missing ones."""
    found = {"lenet": lenet.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    for package in CUPY_PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def processor() -> str:
    """Return the processor's name, as the operating system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _told(status: backends.BackendStatus) -> str:
    if status.ok:
        return status.device
    return f"unusable: {status.reason}" + (f" ({status.hint})" if status.hint else "")


def collect() -> dict[str, Any]:
    """Return versions, machine, backends and folders as one nested dictionary of plain values."""
    statuses = [backends.probe(name) for name in backends.NAMES]
    return {
        "versions": versions(),
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "cpus": os.cpu_count(),
            "python": sys.executable,
        },
        "backends": {status.name: _told(status) for status in statuses},
        "folders": {
            "package": str(Path(lenet.__file__).parent),
            "kernel_cache": os.environ.get("NUMBA_CACHE_DIR", "beside the package, or the user's cache folder"),
        },
    }
