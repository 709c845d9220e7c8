"""Whether memory that tensors on the CPU free stays with the process or goes back to the kernel."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # see mallopt(3)
_UNLIMITED = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the process keep freed memory from now on. Only glibc can; elsewhere nothing happens.

    By default, the kernel maps each large tensor anew and fills it with zeros first, which takes time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, 2**30)
            mallopt(_TRIM_THRESHOLD, _UNLIMITED)


def release() -> None:
    """Give the freed memory that is kept back to the kernel."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
