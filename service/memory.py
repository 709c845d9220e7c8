"""How much memory there is; glibc's allocator and Python's collector, set for one image after another."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of version 2 and 1, as a container sees its own."""

KEPT_BLOCK_BYTES = 8 << 20
"""Freed blocks up to this size stay in the process: the next image needs the like. A megapixel of Pillow's is 4 MB."""
KEPT_BYTES = 32 << 20
"""At the top of each arena; more goes back to the system."""
ARENAS = 2
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of malloc.h."""


def settle() -> bool:
    """Keep freed memory for the next image, in few arenas; whether the C library takes such orders.

    glibc returns what an image held to the system at once and has every page of the next one zeroed and mapped anew.
    What lives now (modules, routes) is put out of sight of the collector, which would else walk over it again and
    again. Call it when all is imported and before threads start.
    """
    gc.collect()
    gc.freeze()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl, macOS
        return False
    orders = ((_MMAP_THRESHOLD, KEPT_BLOCK_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES), (_ARENA_MAX, ARENAS))
    accepted = [mallopt(name, value) == 1 for name, value in orders]
    return all(accepted)


def memory_limit() -> int:
    """Bytes that this process may use: the container's limit, or what the host has where that is less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # there is no such group, or its limit is "max"
            limits.append(int(Path(path).read_text(encoding="ascii")))
    return min(limits)
