"""An engine over a backend that does what the test says when it says so."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.interface.codec import encode_png
from model.interface.panoptic import Panoptic
from model.interface.served import ServedModel
from service.engine import Engine, Timing
from service.errors import NotReadyError
from service.http.body import Upload
from service.http.negotiation import choose_form
from service.metrics import Metrics
from service.workers.progress import Outlook
from tests.service.emulated import SERVED, answer, image
from tests.service.halves import settings

FORM = choose_form("image/png")


class Backend:
    """Is ready when `loaded` is set, and answers while `gate` is."""

    def __init__(self, device: str) -> None:
        self.served, self.live = replace(SERVED, device=device), 0
        self.loaded, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.closed = False
        self.batches: list[int] = []
        self._told: Callable[[int], None] = lambda _: None

    def outlook(self) -> Outlook:
        return Outlook(NotReadyError.RESTARTING if self.loaded.is_set() else NotReadyError.LOADING, 6.5)

    def watch(self, on_change: Callable[[int], None], /) -> None:
        self._told = on_change

    def become(self, live: int) -> None:
        self.live = live
        self._told(live)

    async def start(self) -> ServedModel:
        await self.loaded.wait()
        if self.error:
            raise self.error
        self.live = 1
        return self.served

    async def run(self, images: list[Any]) -> list[Panoptic]:
        self.batches.append(len(images))
        await self.gate.wait()
        return [answer(one) for one in images]

    async def close(self) -> None:
        self.closed, self.live = True, 0


def make(folder: Path, device: str = "cpu", **changes: Any) -> tuple[Engine, Backend]:
    backend = Backend(device)
    return Engine(settings(folder, **changes), Metrics(), backend), backend


@contextlib.asynccontextmanager
async def started(engine: Engine, backend: Backend) -> AsyncIterator[None]:
    backend.loaded.set()
    await engine.start()
    try:
        yield
    finally:
        backend.gate.set()
        await engine.close()


def upload(engine: Engine, content: bytes) -> Upload:
    found = Upload(engine.uploads)
    found.write(content)
    return found


async def ask(engine: Engine, photo: Any = None, seconds: float = 20.0) -> Any:
    """As the route does."""
    content = encode_png(image() if photo is None else photo)
    with engine.request():
        timing = Timing(time.monotonic() + seconds)
        return await engine.segment(upload(engine, content), FORM, False, "id", timing)


def gauge(engine: Engine, name: str) -> float:
    lines = dict(line.rsplit(" ", 1) for line in engine.metrics.text().decode().splitlines() if line[0] != "#")
    return float(lines[f"upsnet_{name}"])


def background(work: Any) -> "asyncio.Task[Any]":
    return asyncio.ensure_future(work)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)
