"""Items come in one at a time, go to the devices in batches, and each gets its own result or error.

The batcher knows of time, work and failure, and nothing of what an item is or who asks. The exception that `run` raises
decides what happens to a batch: `DeviceLostError` and `OutOfDeviceMemoryError` are failures of the device; any other is
taken for the fault of one item, which is found by halving the batch.
"""

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol

from service.batching.admission import Admission, Ticket
from service.batching.batch_time import BatchTime
from service.batching.queues import Batch, Entry, Item, Queues, Result
from service.batching.recovery import PixelBudget, fail, recover
from service.errors import DeadlineExceededError, NotReadyError
from service.failures import OutOfDeviceMemoryError

log = logging.getLogger(__name__)

HAND_OVER_SECONDS = 0.015
"""The next batch goes to a busy device this long before it is expected to be free: as late as possible, so that the
batch fills up and callers that leave are dropped from it, but in time for the device never to wait."""
NEVER_AHEAD_PIXELS = 10_000_000
"""A larger image goes only to a device that is free: copying it takes long, and what comes next would wait for it."""


class Observer(Protocol):
    """Hears of batches and times, for metrics."""

    def batch_started(self, images: int) -> None:
        """A batch went to a device."""

    def stage_finished(self, stage: str, seconds: float) -> None:
        """One item left the stage `queue` or `infer`."""


class Batcher(Generic[Item, Result]):
    """Groups items of one key into batches and runs them.

    Args:
        run: gives one result an item, in order.
        admission: where each item got its ticket.
        max_batch_size: how many items a batch may have.
        max_batch_pixels: how many padded pixels a batch may have; a larger item goes alone.
        max_batch_source_pixels: how many pixels a batch may have before scaling; a larger item goes alone.
        concurrency: number of devices behind `run`; each also gets one batch ahead.
        observer: hears of batches and times.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[list[Result]]],
        admission: Admission,
        *,
        max_batch_size: int,
        max_batch_pixels: int,
        max_batch_source_pixels: int = 1 << 40,
        concurrency: int = 1,
        observer: Observer | None = None,
    ) -> None:
        self._run, self.admission = run, admission
        self._max_batch_size, self._max_batch_source_pixels = max_batch_size, max_batch_source_pixels
        self._concurrency, self._observer = concurrency, observer
        self._budget = PixelBudget(max_batch_pixels)
        self._queues: Queues[Item, Result] = Queues()
        self._repeats: deque[Batch[Item, Result]] = deque()
        self._flying: list[Batch[Item, Result]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._times: defaultdict[Hashable, BatchTime] = defaultdict(BatchTime)
        self._seconds_per_item = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def submit(
        self,
        item: Item,
        *,
        key: Hashable,
        padded_pixels: int,
        deadline: float,
        ticket: Ticket,
    ) -> Result:
        """The result of one item. Cancelling the caller takes the item out of the queue.

        Args:
            item: what `run` gets.
            key: only items of one key share a batch.
            padded_pixels: its share of what a batch may hold.
            deadline: when the result comes too late, by `time.monotonic`.
            ticket: the item's, with its pixels; its times are filled in. The caller releases it.

        Raises:
            DeadlineExceededError: the deadline passed, or cannot be met.
            PoisonousImageError: the item was alone when its worker died, after another had died with it.
        """
        now = time.monotonic()
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        entry = Entry(item, key, padded_pixels, deadline, ticket, future, now)
        timer = None
        try:
            self._refuse_hopeless(entry)
            timer = asyncio.get_running_loop().call_later(deadline - now, self._expire, entry)
            self._queues.add(entry)
            self._pump()
            return await future
        finally:
            if timer:
                timer.cancel()
            future.cancel()
            self._queues.discard(entry)
            self.admission.leave(ticket)

    def resize(self, concurrency: int) -> None:
        """Use this many devices from now on; with none everything waits."""
        self._concurrency = concurrency
        self._start_next()
        self._pump()

    async def close(self) -> None:
        """Fail what waits and abandon what runs."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        stranded = [*self._queues, *(entry for batch in [*self._repeats, *self._flying] for entry in batch.entries)]
        for entry in stranded:
            fail(entry, NotReadyError.for_now(NotReadyError.STOPPING))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _refuse_hopeless(self, entry: Entry[Item, Result]) -> None:
        if self._closed:
            raise NotReadyError.for_now(NotReadyError.STOPPING)
        times = self._times[entry.key]
        ahead = self._queues.count_up_to(entry) * self._seconds_per_item
        running = sum(self._remaining(batch) for batch in self._flying)
        wait = (ahead + running) / max(1, self._concurrency)
        if time.monotonic() + wait + times.seconds(1) < entry.deadline:
            return
        if not wait:
            times.doubt()
        raise DeadlineExceededError()

    def _remaining(self, batch: Batch[Item, Result]) -> float:
        spent = 0.0 if batch.started is None else time.monotonic() - batch.started
        return max(0.0, batch.expected_seconds - spent)

    def _expire(self, entry: Entry[Item, Result]) -> None:
        self._queues.discard(entry)
        fail(entry, DeadlineExceededError())

    def _pump(self) -> None:
        """Hand batches to the devices while they have room."""
        while not self._closed and self._has_room():
            batch = self._next_batch()
            if batch is None:
                return
            self._take_off(batch)
            task = asyncio.get_running_loop().create_task(self._execute(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _has_room(self) -> bool:
        ahead = len(self._flying) - self._concurrency
        if ahead < 0 or not self._concurrency:
            return bool(self._concurrency)
        if ahead >= self._concurrency:
            return False
        ends = sorted(self._remaining(batch) for batch in self._flying[: self._concurrency])
        wait = ends[ahead] - HAND_OVER_SECONDS
        if wait > 0:
            if self._timer:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(wait, self._pump)
        return wait <= 0

    def _next_batch(self) -> Batch[Item, Result] | None:
        """What goes next: batches to repeat, then the queue; callers that left or are too late are dropped."""
        quarantine = any(batch.suspect for batch in self._flying)
        for batch in [b for b in self._repeats if not (b.suspect and quarantine)]:
            self._repeats.remove(batch)
            batch.entries = self._alive(batch.entries)
            if batch.entries:
                return batch
        first = self._queues.first()
        if first and first.ticket.pixels > NEVER_AHEAD_PIXELS and len(self._flying) >= self._concurrency:
            return None
        while taken := self._queues.take(self._fits):
            if entries := self._alive(taken):
                return Batch(entries)
        return None

    def _fits(self, taken: list[Entry[Item, Result]], entry: Entry[Item, Result]) -> bool:
        if len(taken) >= self._max_batch_size:
            return False
        together = [*taken, entry]
        return (
            sum(one.padded_pixels for one in together) <= self._budget.pixels
            and sum(one.ticket.pixels for one in together) <= self._max_batch_source_pixels
        )

    def _alive(self, entries: list[Entry[Item, Result]]) -> list[Entry[Item, Result]]:
        now = time.monotonic()
        for entry in entries:
            if now + self._times[entry.key].seconds(1) >= entry.deadline:
                fail(entry, DeadlineExceededError())
        return [entry for entry in entries if not entry.future.done()]

    async def _execute(self, batch: Batch[Item, Result]) -> None:
        """Run one batch and give each item its result; what a failed batch leaves to repeat goes first."""
        try:
            results = await self._run([entry.item for entry in batch.entries])
            if len(results) != len(batch.entries):
                raise RuntimeError(f"{len(batch.entries)} items gave {len(results)} results. This is a bug.")
        except Exception as error:
            self._land(batch)
            if isinstance(error, OutOfDeviceMemoryError):
                self._budget.shrink(batch.padded_pixels)
            self._repeats.extendleft(reversed(recover(batch, error)))
        else:
            self._learn(batch, self._land(batch))
            for entry, result in zip(batch.entries, results, strict=True):
                if not entry.future.done():
                    entry.future.set_result(result)
        self._pump()

    def _take_off(self, batch: Batch[Item, Result]) -> None:
        batch.expected_seconds = self._times[batch.entries[0].key].seconds(len(batch.entries))
        self._flying.append(batch)
        for entry in batch.entries:
            self.admission.leave(entry.ticket)
        if self._observer:
            self._observer.batch_started(len(batch.entries))
        self._start_next()

    def _start_next(self) -> None:
        """Note that the first batches in flight, one a device, have begun."""
        now = time.monotonic()
        for batch in self._flying[: self._concurrency]:
            if batch.started is None:
                batch.started = now

    def _land(self, batch: Batch[Item, Result]) -> float:
        """Take a batch out of flight; how long the device worked on it."""
        self._flying.remove(batch)
        now = time.monotonic()
        started = now if batch.started is None else batch.started
        for entry in batch.entries:
            entry.ticket.infer_seconds += now - started
            entry.ticket.queue_seconds = now - entry.submitted - entry.ticket.infer_seconds
        self._start_next()
        return now - started

    def _learn(self, batch: Batch[Item, Result], seconds: float) -> None:
        images = len(batch.entries)
        log.debug("a batch of %d, %d padded pixels: %.1f ms", images, batch.padded_pixels, 1000 * seconds)
        self._times[batch.entries[0].key].learn(images, seconds)
        self._seconds_per_item += 0.2 * (seconds / images - self._seconds_per_item)
        self.admission.learn(self._seconds_per_item / max(1, self._concurrency))
        self._budget.recover()
        if self._observer:
            for entry in batch.entries:
                self._observer.stage_finished("queue", entry.ticket.queue_seconds)
                self._observer.stage_finished("infer", entry.ticket.infer_seconds)
