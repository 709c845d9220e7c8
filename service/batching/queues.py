"""What waits for a device: one queue a key; the earliest deadline goes first, large images somewhat later."""

import asyncio
import bisect
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, TypeVar

from service.batching.admission import Ticket

YIELDED_SECONDS_A_PIXEL = 5e-8
"""How much later a large item ranks. The largest yields two seconds; it needs a few tenths of one itself."""
Item = TypeVar("Item")
Result = TypeVar("Result")
_rank = attrgetter("rank")


@dataclass(eq=False)
class Entry(Generic[Item, Result]):
    """An item that waits for its result.

    Attributes:
        item: what the device gets.
        key: only entries of one key share a batch.
        padded_pixels: its size as the device sees it.
        deadline: when its result comes too late, by `time.monotonic`.
        ticket: its place and pixels.
        future: gets its result or error.
        submitted: when it came, by `time.monotonic`.
        deaths: how many workers ended while they had it.
        shortages: how often the device's memory did not suffice for it alone.
        rank: the lowest goes first. It is the deadline plus some time for the size, so that a small image overtakes a
            large one that came shortly before, and no image waits for ever.
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
        entries: the items of the batch, and who waits for them.
        suspect: whether one of its items may have killed a worker.
        started: when a device began it, by `time.monotonic`; None while it waits behind another.
        expected_seconds: time that it will need on the device.
    """

    entries: list[Entry[Item, Result]]
    suspect: bool = False
    started: float | None = None
    expected_seconds: float = 0.0

    @property
    def padded_pixels(self) -> int:
        """Of all entries together."""
        return sum(entry.padded_pixels for entry in self.entries)


@dataclass
class Queues(Generic[Item, Result]):
    """Entries by key, each queue in the order of ranks.

    Attributes:
        by_key: the queues; none is empty.
    """

    by_key: dict[Hashable, list[Entry[Item, Result]]] = field(default_factory=dict)

    def add(self, entry: Entry[Item, Result]) -> None:
        """Put an entry into the queue of its key, behind those of the same rank."""
        bisect.insort(self.by_key.setdefault(entry.key, []), entry, key=_rank)

    def count_up_to(self, entry: Entry[Item, Result]) -> int:
        """How many entries rank before this one, or equal to it."""
        return sum(bisect.bisect(queue, entry.rank, key=_rank) for queue in self.by_key.values())

    def discard(self, entry: Entry[Item, Result]) -> None:
        """Take an entry out if it still waits."""
        waiting = self.by_key.get(entry.key, [])
        if entry in waiting:
            waiting.remove(entry)
            if not waiting:
                del self.by_key[entry.key]

    def first(self) -> Entry[Item, Result] | None:
        """The entry that ranks first, if any waits."""
        return min((queue[0] for queue in self.by_key.values()), key=_rank, default=None)

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
