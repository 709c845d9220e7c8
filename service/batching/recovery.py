"""What becomes of a batch that failed: which entries are tried again, in which batches, and which get the error."""

from service.batching.queues import Batch, Entry, Item, Result
from service.errors import PoisonousImageError
from service.failures import DeviceLostError, OutOfDeviceMemoryError

RECOVERY = 0.02
"""Share of the full pixel budget that a successful batch gives back after a shortage of memory."""


class PixelBudget:
    """Padded pixels that a batch may hold: each shortage of memory halves them, each success gives a little back.

    Args:
        maximum: what a batch may hold while memory suffices.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._pixels = float(maximum)

    @property
    def pixels(self) -> int:
        """What a batch may hold now."""
        return int(self._pixels)

    def shrink(self, failed_pixels: int) -> None:
        """Allow half of the pixels that did not fit; a batch formed before the last shortage does not count twice."""
        self._pixels = max(1.0, min(self._pixels, failed_pixels / 2))

    def recover(self) -> None:
        """Give a little back: a batch succeeded."""
        self._pixels = min(self._maximum, self._pixels + RECOVERY * self._maximum)


def fail(entry: Entry[Item, Result], error: Exception) -> None:
    """Give an entry its error, unless nobody waits for it any more."""
    if not entry.future.done():
        entry.future.set_exception(error)


def recover(batch: Batch[Item, Result], error: Exception) -> list[Batch[Item, Result]]:
    """The batches to repeat, in order; an entry that is proven to be the cause gets the error instead.

    A lost device makes each entry a suspect, which is tried once more, alone; a second lost device proves it. Any other
    failure halves the batch until its cause is alone; after a shortage of memory even a lone entry is tried again.
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
