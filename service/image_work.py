"""Decoding of images and encoding of answers, on threads where small images never wait for large ones."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from model.interface import codec
from model.interface.panoptic import Pixels
from service.errors import DeadlineExceededError, ImageRefusedError
from service.http.body import Upload
from service.metrics import Metrics

Value = TypeVar("Value")

ENCODED_AT_ONCE_PIXELS = 400_000
"""Maps of at most this size may be written on the event loop: a fraction of a millisecond."""
LARGE_WORK = 3_000_000
"""Work on more pixels and bytes takes some 10 to 100 ms of a core, whatever the format."""
REFUSALS = {codec.ImageTooLargeError: 413, codec.UnsupportedImageError: 415, codec.CorruptImageError: 422}


class Lanes:
    """Two groups of threads: one for small work and one, a thread smaller, for large work.

    Args:
        name: what the threads are called.
        threads: number of threads for small work.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._small = ThreadPoolExecutor(threads, name)
        self._large = ThreadPoolExecutor(max(1, threads - 1), f"{name}-large")

    async def run(self, work: Callable[[], Value], size: int = 0) -> Value:
        """The result of work on so many pixels and bytes; work whose caller leaves before it begins is not done."""
        threads = self._large if size > LARGE_WORK else self._small
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def close(self) -> None:
        """Begin no more work; what runs goes on."""
        for threads in (self._small, self._large):
            threads.shutdown(wait=False, cancel_futures=True)


class ImageWork:
    """Decodes images and encodes answers within their deadlines.

    Args:
        threads: number of threads that decode, and of as many that encode.
        max_pixels: pixels of the largest image that is decoded.
        metrics: where times are counted.
    """

    def __init__(self, threads: int, max_pixels: int, metrics: Metrics) -> None:
        self._decoding, self._encoding = Lanes("decode", threads), Lanes("encode", threads)
        self._max_pixels, self._metrics = max_pixels, metrics

    async def decode(self, upload: Upload, charge: Callable[[int], None], deadline: float) -> tuple[Pixels, float]:
        """The pixels of an image, and how long that took. The upload's bytes are given up.

        `charge` is called with the number of pixels before they are decoded, and may refuse them.

        Raises:
            ImageRefusedError: the bytes are no image that is accepted.
            DeadlineExceededError: the deadline passed.
        """
        return await self._timed("decode", deadline, self._decode(upload, charge))

    async def encode(
        self, build: Callable[[], Value], pixels: int, on_thread: bool, deadline: float
    ) -> tuple[Value, float]:
        """An answer, and how long it took.

        A small map may be written at once, as a change of threads takes longer; `on_thread` forbids it.

        Raises:
            DeadlineExceededError: the deadline passed.
        """
        if pixels > ENCODED_AT_ONCE_PIXELS or on_thread:
            return await self._timed("encode", deadline, self._encoding.run(build, pixels))
        start = time.monotonic()
        answer = build()
        seconds = time.monotonic() - start
        self._metrics.stage_finished("encode", seconds)
        return answer, seconds

    def close(self) -> None:
        """Begin no more work; what runs goes on."""
        self._decoding.close()
        self._encoding.close()

    async def _decode(self, upload: Upload, charge: Callable[[int], None]) -> Pixels:
        """Open and decode a small image in one go; decode a large one among the large.

        A large file is also opened among the large: its header may be nearly all of it.
        """
        with upload:
            most = sys.maxsize if upload.size > LARGE_WORK else LARGE_WORK
            found = await self._decoding.run(partial(self._open, upload.content, charge, most), upload.size)
            if isinstance(found, int):
                again = partial(codec.decode, upload.content, self._max_pixels)
                found = await self._decoding.run(partial(_refusing, again), found)
            return found

    def _open(self, content: bytes, charge: Callable[[int], None], most: int) -> Pixels | int:
        """The pixels if decoding is at most so much work; else the amount of work, and nothing is held."""
        image = _refusing(partial(codec.OpenImage, content, self._max_pixels))
        charge(image.height * image.width)
        return image.work if image.work > most else _refusing(image.decode)

    async def _timed(self, stage: str, deadline: float, work: Awaitable[Value]) -> tuple[Value, float]:
        """A result and how long it took, with the wait for a thread."""
        start = time.monotonic()
        try:
            async with asyncio.timeout(max(deadline - start, 0)):
                result = await work
        except TimeoutError:
            raise DeadlineExceededError() from None
        seconds = time.monotonic() - start
        self._metrics.stage_finished(stage, seconds)
        return result, seconds


def _refusing(work: Callable[[], Value]) -> Value:
    """The result of the codec's work; what the codec refuses, the service refuses."""
    try:
        return work()
    except codec.ImageError as error:
        raise ImageRefusedError(REFUSALS[type(error)], str(error)) from error
