"""Settings that let each image reuse the memory of the one before."""

import ctypes
import gc

KEPT_BLOCK_BYTES = 8 << 20
"""Freed blocks up to this size stay in the process for the next image. Pillow takes 4 MB for a megapixel."""
KEPT_BYTES = 32 << 20
"""Freed memory that each arena keeps at its top; more goes back to the system."""
ARENAS = 2
"""Pools of memory that threads share; glibc would make up to eight for each core."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of `mallopt`, from malloc.h."""


def settle() -> bool:
    """Keep freed memory in the process for the next image. Returns False where the C library has no `mallopt`.

    glibc's default returns the memory of an image to the system at once, which then zeroes and maps every page of the
    next image again. Python's garbage collector is told to skip what exists now (modules, routes): it would walk over
    all of it each time. Call this when everything is imported and before threads start.
    """
    gc.collect()
    gc.freeze()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl, macOS
        return False
    settings = ((_MMAP_THRESHOLD, KEPT_BLOCK_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES), (_ARENA_MAX, ARENAS))
    accepted = [mallopt(name, value) == 1 for name, value in settings]
    return all(accepted)
