"""Which items are taken: a bound on those that wait and on their pixels; a refusal says when there may be room."""

import random
import threading
import time
from dataclasses import dataclass, field

from service.errors import ClientGoneError, QueueFullError


@dataclass(eq=False)
class Ticket:
    """A place in the queue, the pixels that go with it, and the time that its item took.

    Attributes:
        pixels: pixels that are held until the item is answered.
        since: when the item was admitted, by `time.monotonic`.
        queue_seconds: time from submission to the answer, without that on the device.
        infer_seconds: time on the device with the rest of its batch; of all runs where the batch was repeated.
    """

    pixels: int = 0
    since: float = field(default_factory=time.monotonic)
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0


class Admission:
    """Places in a queue, and pixels in memory. All methods may be called from any thread.

    A place is taken before an item's work begins and given back when a device takes the item. Pixels are taken when
    their number is known, before they are decoded, and given back when the item is answered.

    Args:
        max_queue: how many items may wait.
        max_queue_pixels: how many pixels may be held; while none are, an item of any size is admitted.

    Attributes:
        pixels: how many pixels are held.
    """

    def __init__(self, max_queue: int, max_queue_pixels: int) -> None:
        self._max_queue, self._max_queue_pixels = max_queue, max_queue_pixels
        self._waiting: set[Ticket] = set()
        self._open: set[Ticket] = set()
        self.pixels = 0
        self._lock = threading.Lock()
        self._seconds_held = 0.0
        self._seconds_per_item = 0.0

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    def reserve(self) -> Ticket:
        """A place for one item.

        Raises:
            QueueFullError: the queue is full.
        """
        with self._lock:
            if len(self._waiting) >= self._max_queue:
                raise self._full()
            ticket = Ticket()
            self._waiting.add(ticket)
            self._open.add(ticket)
        return ticket

    def charge(self, ticket: Ticket, pixels: int) -> None:
        """Hold pixels for an item, before the memory is taken.

        Raises:
            QueueFullError: too many pixels are held already.
            ClientGoneError: the ticket was given back in the meantime.
        """
        with self._lock:
            if ticket not in self._open:
                raise ClientGoneError()
            if self.pixels and self.pixels + pixels > self._max_queue_pixels:
                raise self._full()
            ticket.pixels += pixels
            self.pixels += pixels

    def leave(self, ticket: Ticket) -> None:
        """Give the place back and keep the pixels; doing so twice is harmless."""
        with self._lock:
            self._waiting.discard(ticket)

    def release(self, ticket: Ticket) -> None:
        """Give everything back; doing so twice is harmless."""
        with self._lock:
            if ticket in self._open:
                self._open.remove(ticket)
                self._waiting.discard(ticket)
                self.pixels -= ticket.pixels
                self._seconds_held += 0.2 * (time.monotonic() - ticket.since - self._seconds_held)

    def learn(self, seconds_per_item: float) -> None:
        """Take note of the time that the devices need for an item, measured lately."""
        self._seconds_per_item = seconds_per_item

    def _full(self) -> QueueFullError:
        """A refusal with the time that the admitted items will need; the jitter spreads those who try again.

        That is the time that the devices will need, or the recent total time of one item if it is longer.
        """
        seconds = max(1.0, len(self._open) * self._seconds_per_item, self._seconds_held)
        return QueueFullError(round(seconds * random.uniform(1.0, 2.0)))
