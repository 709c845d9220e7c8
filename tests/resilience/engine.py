"""The batcher over real workers with an emulated model, without HTTP: for the faults that happen behind it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.interface.scale import padded_size
from service.batching.admission import Admission
from service.batching.batcher import Batcher
from service.errors import ServiceError
from service.workers.pool import WorkerPool
from tests.service.devices import admitted
from tests.service.emulated import SERVED, answer


@dataclass
class Reply:
    status: int
    equal: bool
    seconds: float
    retry_after: int | None = None


class Engine:
    """Batcher and pool; `on_device` counts the images that workers were given, `late` those past their deadline.

    `largest_batch` is what it says, since somebody last put it to 0.
    """

    def __init__(self, factory: Any, **limits: Any) -> None:
        self.pool = WorkerPool({"cpu": factory}, max_pixels=1_000_000)
        defaults = {"max_batch_size": 8, "max_batch_pixels": 12_000_000}
        admission = Admission(limits.pop("max_queue", 64), 10**9)
        self.batcher: Batcher[Any, Any] = Batcher(self._run, admission, **{**defaults, **limits}, concurrency=0)
        self.pool.watch(self.batcher.resize)
        self.on_device = self.late = self.largest_batch = 0

    async def _run(self, items: list[tuple[Any, float]]) -> list[Any]:
        self.on_device += len(items)
        self.largest_batch = max(self.largest_batch, len(items))
        self.late += sum(deadline < time.monotonic() for _, deadline in items)
        return await self.pool.run([image for image, _ in items])

    async def send(self, image: Any, seconds: float = 30.0) -> Reply:
        began = time.monotonic()
        deadline = began + seconds
        height, width = image.shape[:2]
        rows, columns = padded_size(height, width, **SERVED.metadata.test_scale)
        try:
            found = await admitted(
                self.batcher, (image, deadline), (rows, columns), (height * width, rows * columns), deadline
            )
        except ServiceError as error:
            return Reply(error.status, False, time.monotonic() - began, error.retry_after)
        except Exception:
            return Reply(500, False, time.monotonic() - began)
        alone = answer(image)
        equal = found.segments == alone.segments and np.array_equal(found.segment_ids, alone.segment_ids)
        return Reply(200, equal, time.monotonic() - began)


@contextlib.asynccontextmanager
async def running(factory: Any, **limits: Any) -> AsyncIterator[Engine]:
    engine = Engine(factory, **limits)
    await engine.pool.start()
    try:
        yield engine
    finally:
        await engine.batcher.close()
        await engine.pool.close()


async def closed_loop(send: Any, images: Any, clients: int) -> list[Reply]:
    """Each client sends the next image when its last one is answered."""
    replies: list[Reply] = []
    source = iter(images)

    async def client() -> None:
        for image in source:
            replies.append(await send(image))

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies
