"""Memory that two processes share and that ends with them.

Blocks are anonymous (`memfd`): they have no name to leak, so the kernel frees them when the last process that holds
them ends, however it ends; and they count against the memory of the container, not against the size of /dev/shm.
The pixels of a batch and the maps that answer it lie in one block.
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
from service.errors import SharedMemoryError

SMALLEST_BLOCK = 1 << 20
IDLE_BLOCKS = 4
IDLE_BYTES, CALM_BYTES = 256 << 20, 32 << 20
"""Of idle blocks, while batches come and after a while without: new memory costs a large image a tenth of a second."""


class Place(NamedTuple):
    """Where an image lies in a block: its (H, W, 3) pixels at `offset`, its (H, W) map right behind them."""

    offset: int
    height: int
    width: int


class Block:
    """One piece of shared memory.

    Args:
        number: what both sides call it.
        descriptor: of the memory; the block owns it.
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
        """Give the memory back; where a view still lives, as soon as it ends."""
        with contextlib.suppress(BufferError):
            self._memory.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def allocate(number: int, size: int) -> Block:
    """A block of at least `size` bytes, a power of two.

    Raises:
        SharedMemoryError: there is not so much.
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
    """Make sure that the largest image fits.

    Args:
        pixels: of the image.

    Raises:
        SharedMemoryError: it does not.
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
    """Places of images of these (height, width, ...) side by side, and the bytes of all."""
    places, offset = [], 0
    for height, width, *_ in shapes:
        places.append(Place(offset, height, width))
        offset += -(-4 * height * width // 64) * 64  # aligned for vector loads
    return places, offset


class Blocks:
    """The blocks of one worker; a few idle ones are kept, their pages warm."""

    def __init__(self) -> None:
        self._made = 0
        self._idle: list[Block] = []

    def take(self, size: int) -> tuple[Block, bool]:
        """The smallest idle block that is large enough, or else a new one, and whether it is new.

        Raises:
            SharedMemoryError: there is none to be had.
        """
        fitting = [block for block in self._idle if block.size >= size]
        if fitting:
            block = min(fitting, key=lambda idle: idle.size)
            self._idle.remove(block)
            return block, False
        self._made += 1
        return allocate(self._made, size), True

    def give(self, block: Block) -> list[Block]:
        """Take a block back; returns those that are closed for it."""
        self._idle.append(block)
        return self.trim(IDLE_BYTES)

    def trim(self, most_bytes: int) -> list[Block]:
        """Close the largest blocks until a few of so many bytes are left; returns them."""
        closed = []
        while len(self._idle) > IDLE_BLOCKS or self.idle_bytes > most_bytes:
            largest = max(self._idle, key=lambda idle: idle.size)
            self._idle.remove(largest)
            largest.close()
            closed.append(largest)
        return closed

    @property
    def idle_bytes(self) -> int:
        """Of the blocks that are kept."""
        return sum(idle.size for idle in self._idle)

    def close(self) -> None:
        """Close what is idle."""
        for block in self._idle:
            block.close()
        self._idle.clear()
