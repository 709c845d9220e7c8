"""Who may wait: a bound on items and on pixels, refused at once and with an honest `Retry-After`."""

import random
from dataclasses import dataclass
from typing import Protocol

from service.errors import QueueFullError


@dataclass(eq=False)
class Ticket:
    """A place in the queue, and how long its holder spent where.

    Attributes:
        pixels: counted against the bound of the queue.
        queue_seconds: from submission to the answer, without the time on the device.
        infer_seconds: on the device, with the others of the batch; all runs where the batch was repeated.
    """

    pixels: int
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0


class Observer(Protocol):
    """Where the batcher tells what happens, for metrics."""

    def queue_changed(self, images: int, pixels: int) -> None:
        """What waits now."""

    def batch_started(self, images: int) -> None:
        """A batch went to a device."""

    def stage_finished(self, stage: str, seconds: float) -> None:
        """One item left the stage `queue` or `infer`."""


class Admission:
    """The places of a queue.

    Args:
        max_queue: items that may wait.
        max_queue_pixels: pixels that may wait; an empty queue takes any item.
        observer: told of each change.
    """

    def __init__(self, max_queue: int, max_queue_pixels: int, observer: Observer | None = None) -> None:
        self._max_queue, self._max_queue_pixels, self._observer = max_queue, max_queue_pixels, observer
        self._tickets: set[Ticket] = set()
        self._pixels = 0

    def reserve(self, pixels: int, seconds_per_item: float) -> Ticket:
        """A place for one item.

        Args:
            pixels: of the item.
            seconds_per_item: at the rate measured lately, for `Retry-After`; jitter spreads those who come again.

        Raises:
            QueueFullError: as many items, or pixels, wait as may.
        """
        full = len(self._tickets) >= self._max_queue
        if full or (self._tickets and self._pixels + pixels > self._max_queue_pixels):
            seconds = max(1.0, len(self._tickets) * seconds_per_item)
            raise QueueFullError(retry_after=round(seconds * random.uniform(1.0, 2.0)))
        ticket = Ticket(pixels)
        self._tickets.add(ticket)
        self._change(pixels)
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Give a place back; doing so twice is harmless."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self._change(-ticket.pixels)

    def _change(self, pixels: int) -> None:
        self._pixels += pixels
        if self._observer:
            self._observer.queue_changed(len(self._tickets), self._pixels)
