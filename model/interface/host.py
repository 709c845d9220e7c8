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
_THREADS, _WAITING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS"), ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPINS = 1000
"""How often a thread of OpenMP looks for work before it sleeps: some microseconds.

The default is milliseconds. Where other programs are busy too, threads then wait for each other on cores that the one
they wait for needs.
"""


def cores() -> int:
    """Cores that this process can keep busy: those that it may run on, or its container's quota where that is less.

    Two processors of one core count once. A quota of one and a half is 2: more threads only share what there is.
    """
    return max(1, min([_own_cores(), *(math.ceil(limit) for limit in _limits("cpu", _quota))]))


def multiplies_bfloat16() -> bool:
    """Whether the processor has units that are known to multiply bfloat16 faster than float32: AMX, or AVX512-BF16.

    Linux names them. Of other systems and processors it is not known.
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


def set_threads(processes: int = 1) -> int:
    """Tell the torch that this process will load how many threads it may have, and not to let them spin for long.

    It must be called before torch is imported. `OMP_NUM_THREADS` and `MKL_NUM_THREADS` lower the number, and whoever
    sets `GOMP_SPINCOUNT` or `OMP_WAIT_POLICY` has decided how threads wait.

    Args:
        processes: how many processes like this one have the host's cores together.

    Returns:
        The number of threads, which both variables say from now on.
    """
    for name in (*_THREADS, *_WAITING):
        if not os.environ.get(name, "set").strip():
            del os.environ[name]  # empty is unset, which OpenMP does not know
    asked = [os.environ.get(name, "").split(",")[0].strip() for name in _THREADS]  # a list has a number for each level
    threads = min([max(cores() // processes, 1), *(int(text) for text in asked if text.isdecimal() and int(text))])
    os.environ |= dict.fromkeys(_THREADS, str(threads))  # torch takes MKL's where there is one
    if not any(name in os.environ for name in _WAITING):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
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
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            if (limit := read(group)) > 0:
                yield limit


def _own_groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, and of those above them, in versions 2 and 1.

    Inside a container the kernel may name a group as the host does. Then that folder is not there, and the container's
    own is the root.
    """
    lines = [f"0:{controller}:/", "0::/"]  # where the kernel does not say
    with contextlib.suppress(OSError):
        lines = _OWN_GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or controller in controllers.split(","):
            for name in {controllers, controller} if controllers else ("", "unified"):  # with version 1 beside it
                root = _GROUPS / name
                group = root / path.strip("/")
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _quota(group: Path) -> float:
    """Cores that a group may keep busy: microseconds, `max` or -1 for no limit, and of how many."""
    new, old = group / "cpu.max", [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    granted, period = map(int, _read(new).split() if new.exists() else map(_read, old))
    return granted / period


def _memory(group: Path) -> int:
    """Bytes that a group may hold."""
    new, old = group / "memory.max", group / "memory.limit_in_bytes"
    return int(_read(new if new.exists() else old))


def _read(file: Path) -> str:
    return file.read_text(encoding="ascii")
