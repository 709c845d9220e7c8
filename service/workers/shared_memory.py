"""Memory that the front and a worker share: a batch's pixels and the maps that answer it lie in one block.

Blocks are anonymous (`memfd`). They have no name that could be left behind: the kernel frees them when the last process
that holds them ends, however it ends. They count as memory of the container, not against the size of /dev/shm.
"""

import contextlib
import errno
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from model.interface.panoptic import Pixels
from service.failures import SharedMemoryError

SMALLEST_BLOCK = 1 << 20
IDLE_BLOCKS = 4
"""How many idle blocks are kept."""
IDLE_BYTES, CALM_BYTES = 256 << 20, 32 << 20
"""How many bytes of idle blocks are kept, while batches come and after a while without any. New memory costs a large
image a tenth of a second."""


class Place(NamedTuple):
    """Where an image lies in a block: its (H, W, 3) pixels at `offset`, its (H, W) map right behind them."""

    offset: int
    height: int
    width: int


class Block:
    """One piece of shared memory.

    Args:
        number: what both sides call it.
        descriptor: file descriptor of the memory, which the block owns.
        size: bytes.
    """

    def __init__(self, number: int, descriptor: int, size: int) -> None:
        self.number, self.descriptor, self.size = number, descriptor, size
        self._memory = mmap.mmap(descriptor, size)

    def pixels(self, place: Place) -> Pixels:
        """(H, W, 3) uint8, a view."""
        shape = (place.height, place.width, 3)
        return np.frombuffer(self._memory, np.uint8, place.height * place.width * 3, place.offset).reshape(shape)

    def map(self, place: Place) -> Pixels:
        """(H, W) uint8, a view."""
        area = place.height * place.width
        offset = place.offset + 3 * area
        return np.frombuffer(self._memory, np.uint8, area, offset).reshape(place.height, place.width)

    def close(self) -> None:
        """Give the memory back; while a view of it exists, as soon as that ends."""
        with contextlib.suppress(BufferError):
            self._memory.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def allocate(number: int, size: int) -> Block:
    """A block of at least `size` bytes, a power of two.

    Raises:
        SharedMemoryError: there is not that much memory.
    """
    size = max(SMALLEST_BLOCK, 1 << (size - 1).bit_length())
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("upsnet", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
        return Block(number, descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise SharedMemoryError(f"{size / 2**20:.0f} MiB of shared memory cannot be had ({error.strerror}).") from error


def check_room(pixels: int) -> None:
    """Make sure that there is room for one image of so many pixels and its map.

    Raises:
        SharedMemoryError: there is not.
    """
    size = 4 * pixels
    block = allocate(0, size)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(block.descriptor, 0, size)
    except OSError as error:
        reason = os.strerror(error.errno or errno.ENOMEM)
        raise SharedMemoryError(
            f"Shared memory is too small for one image of {pixels / 1e6:.0f} Mpx: {size / 2**20:.0f} MiB are needed "
            f"({reason}). Give the container more memory or lower UPSNET_MAX_PIXELS."
        ) from error
    finally:
        block.close()


def layout(shapes: Sequence[tuple[int, ...]]) -> tuple[list[Place], int]:
    """Places for images of these (height, width, ...) side by side, and the bytes that they take together."""
    places, offset = [], 0
    for height, width, *_ in shapes:
        places.append(Place(offset, height, width))
        offset += -(-4 * height * width // 64) * 64  # aligned for vector loads
    return places, offset


class Blocks:
    """The blocks of one worker; a few idle ones are kept, so that the next batch needs no new memory."""

    def __init__(self) -> None:
        self._made = 0
        self._idle: list[Block] = []

    def take(self, size: int) -> tuple[Block, bool]:
        """The smallest idle block that is large enough, or else a new one; and whether it is new.

        Raises:
            SharedMemoryError: there is not enough memory for a new one.
        """
        fitting = [block for block in self._idle if block.size >= size]
        if fitting:
            block = min(fitting, key=lambda idle: idle.size)
            self._idle.remove(block)
            return block, False
        self._made += 1
        return allocate(self._made, size), True

    def give(self, block: Block) -> list[Block]:
        """Take a block back; the blocks that are closed to stay within the limits."""
        self._idle.append(block)
        return self.trim(IDLE_BYTES)

    def trim(self, most_bytes: int) -> list[Block]:
        """Close the largest idle blocks until few, of at most `most_bytes` together, are left; the closed ones."""
        closed = []
        while len(self._idle) > IDLE_BLOCKS or self.idle_bytes > most_bytes:
            largest = max(self._idle, key=lambda idle: idle.size)
            self._idle.remove(largest)
            largest.close()
            closed.append(largest)
        return closed

    @property
    def idle_bytes(self) -> int:
        """Bytes of the idle blocks together."""
        return sum(idle.size for idle in self._idle)

    def close(self) -> None:
        """Close all idle blocks."""
        for block in self._idle:
            block.close()
        self._idle.clear()
