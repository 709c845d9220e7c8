"""What a process may use of its host, asked without torch, and how torch's threads share it with other programs."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_PROCESSORS = Path("/sys/devices/system/cpu")
_CPU_INFO = Path("/proc/cpuinfo")
_UNITS = {"amx_bf16", "avx512_bf16"}
"""What Linux calls a processor's units for matrices of bfloat16."""
SPINS = 1000
"""How often a thread of OpenMP looks for work before it sleeps: some microseconds.

The default is milliseconds. Where other programs are busy too, threads then wait for each other on cores that the one
they wait for needs, and a network takes ten times as long.
"""


def cores() -> int:
    """Cores that this process can keep busy: those that it may run on, or its container's quota where that is less.

    Two processors of one core count once. A quota of one and a half is 2: more threads only share what there is.
    """
    return max(1, min([_own_cores(), *(math.ceil(limit) for limit in _limits("cpu", _quota))]))


def multiplies_bfloat16() -> bool:
    """Whether the processor has units that multiply matrices of bfloat16: AMX, or AVX512-BF16.

    They are several times as fast as those for float32. Where Linux names neither, there are none.
    """
    with contextlib.suppress(OSError):
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return not _UNITS.isdisjoint(line.split())
    return False


def memory() -> int:
    """Bytes that this process may use: the memory of the host, or its container's limit where that is less."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min([whole, *_limits("memory", _memory)]))


def share_with_others(processes: int = 1) -> int:
    """Tell the torch that this process will load how many threads it may have, and not to let them spin for long.

    It must be called before torch is imported. `OMP_NUM_THREADS` lowers the number, and whoever sets
    `GOMP_SPINCOUNT` or `OMP_WAIT_POLICY` has decided how threads wait.

    Args:
        processes: how many processes like this one have the host's cores together.

    Returns:
        The number of threads, which `OMP_NUM_THREADS` says from now on.
    """
    threads = max(cores() // processes, 1)
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has a number for each level
    if asked.isdecimal() and int(asked) > 0:
        threads = min(threads, int(asked))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    return threads


def _own_cores() -> int:
    """Cores whose processors this process may run on."""
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    groups = set()
    for number in os.sched_getaffinity(0):
        group = str(number)
        with contextlib.suppress(OSError):  # some hosts do not tell
            group = (_PROCESSORS / f"cpu{number}/topology/thread_siblings_list").read_text(encoding="ascii")
        groups.add(group)
    return len(groups)


def _limits(controller: str, read: Callable[[Path], float]) -> Iterator[float]:
    """The limits that bind this process: those of its control groups and of all above them.

    Args:
        controller: as version 1 of control groups calls it.
        read: the limit of the group in a folder; it raises OSError or ValueError where there is none.
    """
    for group in _own_groups(controller):
        with contextlib.suppress(OSError, ValueError):
            yield read(group)


def _own_groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, and of those above them, in versions 2 and 1.

    Inside a container the kernel may name a group as the host does. Then that folder is not there, and the container's
    own is the root.
    """
    lines = [f"0:{controller}:/", "0::/"]  # where the kernel does not say
    with contextlib.suppress(OSError):
        lines = _OWN_GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = _GROUPS / controller if controllers else _GROUPS
            group = root / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _quota(group: Path) -> float:
    """Cores that a group may keep busy: microseconds, `max` or -1 for no limit, and of how many."""
    new, old = group / "cpu.max", [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    granted, period = map(int, _read(new).split() if new.exists() else map(_read, old))
    if granted < 0:
        raise ValueError("no limit")
    return granted / period


def _memory(group: Path) -> int:
    """Bytes that a group may hold."""
    new, old = group / "memory.max", group / "memory.limit_in_bytes"
    return int(_read(new if new.exists() else old))


def _read(file: Path) -> str:
    return file.read_text(encoding="ascii")
