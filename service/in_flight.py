"""The requests under way: they are counted, waited for, and given up when the time to drain is over."""

import asyncio
import contextlib
from collections.abc import Iterator

from service.errors import NotReadyError


class InFlight:
    """The tasks that answer requests now."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._gave_up = False

    def __len__(self) -> int:
        """Number of requests that are not answered yet."""
        return len(self._tasks)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A context for the current task while it answers a request.

        Raises:
            NotReadyError: the request was given up.
        """
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._idle.clear()
        try:
            yield
        except asyncio.CancelledError:
            if not self._gave_up:
                raise
            while task.cancelling():  # the task lives on to answer, and its later timeouts count cancellations
                task.uncancel()
            raise NotReadyError.for_now(NotReadyError.STOPPED) from None
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._idle.set()

    async def finish(self, seconds: float) -> int:
        """Wait for all requests, and give up those that are left after so many seconds; returns how many."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
            return 0
        except TimeoutError:
            self._gave_up = True
            for task in self._tasks:
                task.cancel()
            return len(self._tasks)
