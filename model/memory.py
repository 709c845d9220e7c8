"""How the C library keeps what tensors on the CPU free."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_UNLIMITED = 2**31 - 1


def keep() -> None:
    """Let the process keep memory that is freed, where its C library is glibc; nothing else changes.

    By default each large tensor is mapped anew and the kernel fills it with zeros first.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, 2**30)
            mallopt(_TRIM_THRESHOLD, _UNLIMITED)


def release() -> None:
    """Give the kernel what is kept."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
