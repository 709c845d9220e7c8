"""What becomes of a batch that failed: which entries are tried again, together with whom, and which are given up."""

from service.batching.queues import Batch, Entry, Item, Result
from service.errors import DeviceLostError, OutOfDeviceMemoryError, PoisonousImageError

RECOVERY = 0.02
"""Share of the full pixel budget that a successful batch gives back after a shortage of memory."""


class PixelBudget:
    """Padded pixels that a batch may hold: halved by each shortage of memory, slowly given back by each success."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._pixels = float(maximum)

    @property
    def pixels(self) -> int:
        """What a batch may hold now."""
        return int(self._pixels)

    def shrink(self, failed_pixels: int) -> None:
        """Half of what did not fit; a batch formed before the last shortage does not count twice."""
        self._pixels = max(1.0, min(self._pixels, failed_pixels / 2))

    def recover(self) -> None:
        """A batch succeeded."""
        self._pixels = min(self._maximum, self._pixels + RECOVERY * self._maximum)


def fail(entry: Entry[Item, Result], error: Exception) -> None:
    """Give an error to the one who waits, if someone still does."""
    if not entry.future.done():
        entry.future.set_exception(error)


def recover(batch: Batch[Item, Result], error: Exception) -> list[Batch[Item, Result]]:
    """The batches to repeat, in order; an entry whose fault is proven gets the error instead.

    A lost device makes each entry a suspect, replayed once and alone; a second death proves it. Any other failure
    halves the batch until the culprit is alone; a shortage of memory gives even a lone entry a second chance.
    """
    entries = batch.entries
    if isinstance(error, DeviceLostError):
        if not error.started:
            return [Batch(entries, batch.suspect)]
        for entry in entries:
            entry.deaths += 1
            if entry.deaths > 1:
                fail(entry, PoisonousImageError())
        return [Batch([entry], suspect=True) for entry in entries if entry.deaths == 1]
    if len(entries) > 1:
        middle = len(entries) // 2
        return [Batch(entries[:middle], batch.suspect), Batch(entries[middle:], batch.suspect)]
    if isinstance(error, OutOfDeviceMemoryError) and not entries[0].shortages:
        entries[0].shortages += 1
        return [Batch(entries, batch.suspect)]
    fail(entries[0], error)
    return []
