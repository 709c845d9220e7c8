"""Files that are read while earlier ones are worked on."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Result], ahead: int, threads: int
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Each item in order with a future of its `read`, which began before the item's turn came.

    Args:
        items: what to read; may be endless.
        read: reads one item, in another thread.
        ahead: how many items are read or being read at a time, the caller's own included: this bounds memory.
        threads: how many items are being read at a time.
    """
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque((item, pool.submit(read, item)) for item in islice(rest, ahead))
        while waiting:
            yield waiting.popleft()
            waiting.extend((item, pool.submit(read, item)) for item in islice(rest, 1))
