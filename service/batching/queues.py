"""What waits for the device: one queue per key, oldest deadline first across them, large images somewhat later."""

import asyncio
import bisect
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.batching.admission import Ticket

YIELDED_SECONDS_A_PIXEL = 5e-8
"""Two seconds for the largest image, whose way to a device and back takes some tenths of one."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class Entry(Generic[Item, Result]):
    """An item that waits for its result.

    Attributes:
        submitted: when, by the batcher's clock.
        deaths: how many workers have died with it.
        shortages: how often the device's memory did not do for it alone.
        rank: the deadline, put off by the size: what is small and comes a little later goes first, and not for ever.
    """

    item: Item
    key: Hashable
    padded_pixels: int
    deadline: float
    ticket: Ticket
    future: asyncio.Future[Result]
    submitted: float
    deaths: int = 0
    shortages: int = 0

    rank: float = field(init=False)

    def __post_init__(self) -> None:
        self.rank = self.deadline + YIELDED_SECONDS_A_PIXEL * self.ticket.pixels


@dataclass(eq=False)
class Batch(Generic[Item, Result]):
    """Entries of one key that go to a device together.

    Attributes:
        suspect: one of them may have killed a worker.
        started: when a device began it; None while it waits behind another.
        expected_seconds: on the device.
    """

    entries: list[Entry[Item, Result]]
    suspect: bool = False
    started: float | None = None
    expected_seconds: float = 0.0

    @property
    def padded_pixels(self) -> int:
        """Of all images together."""
        return sum(entry.padded_pixels for entry in self.entries)


@dataclass
class Queues(Generic[Item, Result]):
    """Entries by key, each queue in the order of ranks."""

    by_key: dict[Hashable, list[Entry[Item, Result]]] = field(default_factory=dict)

    def add(self, entry: Entry[Item, Result]) -> None:
        """Put an entry behind those of its key that rank no later."""
        bisect.insort(self.by_key.setdefault(entry.key, []), entry, key=lambda waiting: waiting.rank)

    def discard(self, entry: Entry[Item, Result]) -> None:
        """Take an entry out if it still waits."""
        waiting = self.by_key.get(entry.key, [])
        if entry in waiting:
            waiting.remove(entry)
            if not waiting:
                del self.by_key[entry.key]

    def first(self) -> Entry[Item, Result] | None:
        """The entry that ranks first, if any waits."""
        return min((queue[0] for queue in self.by_key.values()), key=lambda entry: entry.rank, default=None)

    def take(self, fits: Callable[[list[Entry[Item, Result]], Entry[Item, Result]], bool]) -> list[Entry[Item, Result]]:
        """The longest run of entries that `fits` allows, of the key whose first entry ranks first."""
        first = self.first()
        if first is None:
            return []
        waiting = self.by_key[first.key]
        taken = [first]
        for entry in waiting[1:]:
            if not fits(taken, entry):
                break
            taken.append(entry)
        del waiting[: len(taken)]
        if not waiting:
            del self.by_key[taken[0].key]
        return taken

    def __iter__(self) -> Iterator[Entry[Item, Result]]:
        return (entry for queue in self.by_key.values() for entry in queue)
