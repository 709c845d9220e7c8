"""Who may wait: a bound on items and on pixels, refused at once and with an honest `Retry-After`."""

import random
import threading
import time
from dataclasses import dataclass, field

from service.errors import ClientGoneError, QueueFullError


@dataclass(eq=False)
class Ticket:
    """What an item was admitted with, and how long its holder spent where.

    Attributes:
        pixels: held until the item is answered.
        since: when it was admitted, by `time.monotonic`.
        queue_seconds: from submission to the answer, without the time on the device.
        infer_seconds: on the device, with the others of the batch; all runs where the batch was repeated.
    """

    pixels: int = 0
    since: float = field(default_factory=time.monotonic)
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0


class Admission:
    """Places in a queue, and pixels in memory. May be asked from any thread.

    A place is taken before an item's work begins and given back when a device takes the item. Pixels are taken when
    their number is known, before they are decoded, and given back when the item is answered.

    Args:
        max_queue: items that may wait.
        max_queue_pixels: pixels that may be held; where none are, any item is admitted.

    Attributes:
        pixels: that are held.
        seconds_per_item: that the devices need at the rate measured lately.
    """

    def __init__(self, max_queue: int, max_queue_pixels: int) -> None:
        self._max_queue, self._max_queue_pixels = max_queue, max_queue_pixels
        self._waiting: set[Ticket] = set()
        self._open: set[Ticket] = set()
        self.pixels = 0
        self._lock = threading.Lock()
        self._seconds_held = 0.0
        self.seconds_per_item = 0.0

    @property
    def waiting(self) -> int:
        """Items that wait."""
        return len(self._waiting)

    def reserve(self) -> Ticket:
        """A place for one item.

        Raises:
            QueueFullError: as many items wait as may.
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
            QueueFullError: as many pixels are held as may.
            ClientGoneError: the ticket was given back meanwhile.
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

    def _full(self) -> QueueFullError:
        """With the time that those before it will take, on the device or, by what items took lately, in all.

        Jitter spreads those who return.
        """
        seconds = max(1.0, len(self._open) * self.seconds_per_item, self._seconds_held)
        return QueueFullError(retry_after=round(seconds * random.uniform(1.0, 2.0)))
