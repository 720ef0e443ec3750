"""How many CPUs this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable() -> int:
    """Return the number of CPUs that affinity and container limits leave to this process."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, quota())))


def quota(membership: Path = MEMBERSHIP, root: Path = CGROUPS) -> float:
    """Return how many CPUs' time Linux control groups (version 1 or 2) grant; infinity where none limits it."""
    return min(_quotas(membership, root), default=math.inf)


def _quotas(membership: Path, root: Path) -> Iterator[float]:
    """Yield the limit of each group above this process. Groups that a container hides do not exist here."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if controllers:
                limit = [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
            else:
                limit = _read(folder / "cpu.max").split()
            if len(limit) == 2 and all(number.isdecimal() for number in limit):  # else "max", -1 or no such file
                yield int(limit[0]) / int(limit[1])
            if folder == top:
                break


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
