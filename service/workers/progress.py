"""How far the start of a worker is, and how long it may still take."""

import time
from collections.abc import Callable
from typing import NamedTuple

from service.errors import NotReadyError

FIRST_GUESS_SECONDS = 12.0
"""How long a start is taken to last while nothing is known of it: the demo archive's on two cores takes 11 to 17 s."""
ENOUGH = 0.25
"""From this share of a start on, the time that it took tells the whole."""
OVERDUE = 0.25
"""A start that lasts longer than expected is taken to need this share of its time so far."""


class Outlook(NamedTuple):
    """Why no device answers, in words that name no path, and in how many seconds one may."""

    reason: str
    seconds: float


class Progress:
    """One start of a worker: the step that it is at, and the time that is left.

    Args:
        before: seconds that the last start on the same device took; None for the first.
        clock: gives seconds.

    Attributes:
        step: what the worker does now.
    """

    def __init__(self, before: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._expected = before or FIRST_GUESS_SECONDS
        self._guessed = before is None
        self.step = "a process starts"

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return self._clock() - self._began

    def reach(self, step: str, done: float) -> None:
        """Take note of a step that begins, and of the share of the start that lies before it."""
        self.step = step
        if self._guessed and done >= ENOUGH:
            self._expected = self.seconds / done

    @property
    def left(self) -> float:
        """Seconds that are left. While a step lasts they fall, and rise slowly when it takes longer than expected."""
        return max(self._expected - self.seconds, OVERDUE * max(0.0, self.seconds - self._expected))


class Start:
    """The starts of the workers of one device, one after the other, as clients hear of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._progress: Progress | None = None
        self._cause: str | None = None
        self._next_try = 0.0

    def begin(self) -> Progress:
        """A start begins; returns what is told of it."""
        self._progress = Progress(self._last, self._clock)
        return self._progress

    def succeed(self) -> None:
        """The worker is ready."""
        assert self._progress is not None
        self._last, self._progress, self._cause = self._progress.seconds, None, None

    def fail(self, cause: str, delay: float) -> None:
        """The start failed for this reason; the next begins after so many seconds."""
        self._progress, self._cause, self._next_try = None, cause, self._clock() + delay

    def outlook(self, restart: bool) -> Outlook:
        """What the worker does, or why it cannot start, and in how many seconds it may be ready.

        Args:
            restart: whether the service has answered before.
        """
        wait = max(0.0, self._next_try - self._clock()) if self._progress is None else self._progress.left
        if self._cause:
            return Outlook(f"The worker cannot be started again: {self._cause}", wait)
        reason = NotReadyError.RESTARTING if restart else NotReadyError.LOADING
        if self._progress is None and self._last is not None and not restart:
            return Outlook(reason, 0.0)  # this one is ready, and others are waited for
        if self._progress is None:  # the old one is being ended
            return Outlook(reason, self._last or FIRST_GUESS_SECONDS)
        return Outlook(f"{reason[:-1]}: {self._progress.step}.", wait)
