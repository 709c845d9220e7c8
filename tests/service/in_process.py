"""The application with a predictor on a thread of this process, in place of workers."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi.testclient import TestClient

from model.interface.panoptic import Panoptic, Pixels
from model.interface.served import ServedModel
from service.app import create_app
from service.errors import NotReadyError
from service.settings import Settings
from service.workers.process import Predictor
from service.workers.progress import Outlook


class InProcess:
    """A predictor on one thread of this process; a `Backend` of the engine.

    Args:
        predictor: answers the images.
        warmup_sizes: heights and widths that it runs before it is ready.
    """

    def __init__(self, predictor: Predictor, warmup_sizes: Sequence[tuple[int, int]]) -> None:
        self._predictor, self._sizes = predictor, warmup_sizes
        self._thread = ThreadPoolExecutor(1, "predictor")
        self.live = 0

    def outlook(self) -> Outlook:
        """It loads, as far as anybody knows."""
        return Outlook(NotReadyError.LOADING, 7.2)

    def watch(self, _: Callable[[int], None], /) -> None:
        """Nothing to watch: it stays alive until it is closed."""

    async def start(self) -> ServedModel:
        """Warm up; what is served."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._predictor.warm_up, self._sizes)
        self.live = 1
        return self._predictor.served

    async def run(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image, in order."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._predictor.predict, images)

    async def close(self) -> None:
        """End the thread."""
        self.live = 0
        self._thread.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def serving(settings: Settings, predictor: Predictor, **options: Any) -> Iterator[TestClient]:
    """A client of the application when it is ready. A failure to get ready is raised."""
    app = create_app(settings, InProcess(predictor, settings.warmup_sizes))
    with TestClient(app, **options) as client:
        client.portal.call(app.state.engine.wait_ready)  # type: ignore[union-attr]
        yield client
