"""Threads for the work on images, so that large ones never keep small ones waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")

LARGE_WORK = 3_000_000
"""Work on more pixels and bytes takes some 10 to 100 ms of a core, whatever the format."""


class Lanes:
    """Two groups of threads; large work, in the one that has a thread less, holds at most so many images at a time.

    Args:
        name: of the threads.
        threads: for small work.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._small = ThreadPoolExecutor(threads, name)
        self._large = ThreadPoolExecutor(max(1, threads - 1), f"{name}-large")

    async def run(self, work: Callable[[], Value], size: int = 0) -> Value:
        """The result of the work; cancelling the caller takes it out where it has not begun.

        Args:
            work: to do on a thread.
            size: pixels and bytes that it goes over; more than `LARGE_WORK` are large.
        """
        threads = self._large if size > LARGE_WORK else self._small
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def close(self) -> None:
        """Begin no more work."""
        for threads in (self._small, self._large):
            threads.shutdown(wait=False, cancel_futures=True)
