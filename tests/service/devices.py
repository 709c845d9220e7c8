"""A device that does what the test says when it says so, and what drives a batcher with it."""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

from service.batching.admission import Admission
from service.batching.batcher import Batcher


class Device:
    """Answers `item.upper()` when its gate is open; fails as `fault(items)` says."""

    def __init__(self, fault: Callable[[list[str]], Exception | None] = lambda _: None) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault = fault

    async def __call__(self, items: list[str]) -> list[str]:
        self.batches.append(items)
        await self.gate.wait()
        if error := self.fault(items):
            raise error
        return [item.upper() for item in items]


def make(device: Any, max_queue: int = 32, max_queue_pixels: int = 1000, **changes: Any) -> Batcher[str, str]:
    limits = {"max_batch_size": 4, "max_batch_pixels": 100}
    return Batcher(device, Admission(max_queue, max_queue_pixels), **{**limits, **changes})


def submit(batcher: Batcher[str, str], item: str, key: str = "a", pixels: int = 1, seconds: float = 5.0) -> Any:
    return asyncio.ensure_future(admitted(batcher, item, key, (pixels, pixels), time.monotonic() + seconds))


async def admitted(batcher: Batcher[Any, Any], item: Any, key: Any, pixels: tuple[int, int], deadline: float) -> Any:
    """The result of an item that asks as the engine does; `pixels` are those of the image, then the padded ones."""
    ticket = batcher.admission.reserve()
    try:
        batcher.admission.charge(ticket, pixels[0])
        return await batcher.submit(item, key=key, padded_pixels=pixels[1], deadline=deadline, ticket=ticket)
    finally:
        batcher.admission.release(ticket)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 10))

    return run
