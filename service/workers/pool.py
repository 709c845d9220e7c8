"""One supervised process per device behind the same `run`.

A process that ends is started again, with a back-off that grows until one is ready. What it had when it ended is for
the batcher to repeat (`recovery`). This process, the front, never imports torch.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model.interface import categories
from model.interface.categories import Labels
from model.interface.panoptic import Panoptic, Pixels
from model.interface.scale import padded_size
from service.errors import DeviceLostError, WorkerStartError
from service.workers.process import Factory
from service.workers.shared_memory import SharedMemoryError, check_room
from service.workers.worker import Worker

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0


@dataclass(frozen=True)
class ServedMetadata:
    """The archive's metadata as its workers tell it; `model.archive.Metadata` would bring torch into the front.

    Attributes:
        fields: as `metadata.json` holds them.
        categories: in semantic order.
    """

    fields: dict[str, Any]
    categories: Labels

    def to_json(self) -> dict[str, Any]:
        """As `metadata.json` holds it."""
        return self.fields


class PoolObserver(Protocol):
    """Where the pool tells what happens, for metrics."""

    def worker_restarted(self) -> None:
        """A worker that had been ready is started again."""

    def device_memory_changed(self, device: str, used: int) -> None:
        """Bytes that a device's worker holds."""

    def device_memory_found(self, device: str, total: int) -> None:
        """Bytes that a device has."""


class WorkerPool:
    """The workers of a service.

    Args:
        factories: one a device, by the device's name; each makes its predictor in its own process.
        warmup_sizes: heights and widths each worker runs before it is ready.
        max_pixels: of the largest image; the start is refused where shared memory cannot hold it.
        on_change: called with the number of live workers when it changes.
        observer: told of restarts and memory.
    """

    def __init__(
        self,
        factories: Mapping[str, Factory],
        *,
        warmup_sizes: Sequence[tuple[int, int]] = (),
        max_pixels: int = 40_000_000,
        on_change: Callable[[int], None] | None = None,
        observer: PoolObserver | None = None,
    ) -> None:
        self._factories, self._warmup_sizes, self._max_pixels = factories, warmup_sizes, max_pixels
        self._on_change, self._observer = on_change, observer
        self._live: dict[str, Worker] = {}
        self._workers: set[Worker] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self.description: dict[str, Any] = {}
        self.restarts = 0

    @property
    def live(self) -> int:
        """Workers that are ready."""
        return len(self._live)

    @property
    def concurrency(self) -> int:
        """Workers when all are ready."""
        return len(self._factories)

    @property
    def metadata(self) -> ServedMetadata:
        """Of the archive that is served."""
        fields = self.description["metadata"]
        return ServedMetadata(fields, categories.parse(fields["categories"]))

    @property
    def device(self) -> str:
        """The devices as their workers name them, comma-separated."""
        return str(self.description["device"]) if len(self._factories) == 1 else ",".join(self._factories)

    @property
    def precision(self) -> str:
        """The network's type on its devices."""
        return str(self.description["precision"])

    @property
    def kernel(self) -> str:
        """The form of its deformable convolutions."""
        return str(self.description["kernel"])

    @property
    def model_name(self) -> str:
        """The archive's name and the first of its digest."""
        return str(self.description["model_name"])

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that are ready."""
        return [worker.pid for worker in self._live.values()]

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width the network works at: images that agree in it can share a batch."""
        scale = self.description["metadata"]["test_scale"]
        return padded_size(height, width, scale["short_side"], scale["long_side"])

    async def start(self) -> None:
        """Return when every worker is ready.

        Raises:
            WorkerStartError: one cannot start, or shared memory is too small; the message is one line.
        """
        try:
            await asyncio.to_thread(check_room, self._max_pixels)
        except SharedMemoryError as error:
            raise WorkerStartError(str(error)) from error
        starts = [asyncio.ensure_future(self._start(device)) for device in self._factories]
        try:
            workers = await asyncio.gather(*starts)
        except BaseException:
            for starting in starts:
                starting.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.close()
            raise
        self._keepers = [
            asyncio.ensure_future(self._keep(device, worker))
            for device, worker in zip(self._factories, workers, strict=True)
        ]

    async def run(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image, from the worker that has least to do.

        Raises:
            DeviceLostError: no worker lives, or the one that had the batch ended.
            OutOfDeviceMemoryError: the batch is too large for the device.
            PredictionError: the predictor failed.
        """
        if not self._live:
            raise DeviceLostError("No worker is ready.", started=False)
        worker = min(self._live.values(), key=lambda live: live.outstanding)
        try:
            return await worker.run(images)
        finally:
            if self._observer:
                self._observer.device_memory_changed(worker.description["device"], worker.device_memory)

    async def close(self) -> None:
        """End all workers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(self._stop(worker) for worker in list(self._workers)))

    async def _start(self, device: str) -> Worker:
        worker = Worker(self._factories[device], self._warmup_sizes)
        self._workers.add(worker)
        try:
            await worker.start()
            self._check_same(worker)
        except BaseException:
            await self._stop(worker)
            raise
        self.description = self.description or worker.description
        self._live[device] = worker
        log.info("Worker %d is ready on %s.", worker.pid, worker.description["device"])
        worker.ended.add_done_callback(lambda _: self._bury(device, worker))
        if self._observer:
            self._observer.device_memory_changed(worker.description["device"], worker.device_memory)
            self._observer.device_memory_found(worker.description["device"], worker.description["device_memory_total"])
        self._tell()
        return worker

    def _check_same(self, worker: Worker) -> None:
        """Two models never answer under one name.

        Raises:
            WorkerStartError: the archive is not the one that is served.
        """
        found = worker.description["model_name"]
        if self.description and found != self.model_name:
            raise WorkerStartError(f"The archive has become {found}; {self.model_name} is served. Restart the service.")

    async def _stop(self, worker: Worker) -> None:
        await worker.stop()
        self._workers.discard(worker)

    def _bury(self, device: str, worker: Worker) -> None:
        if self._live.get(device) is worker:
            del self._live[device]
            self._tell()

    async def _keep(self, device: str, worker: Worker) -> None:
        """Replace the worker of a device whenever it ends."""
        while True:
            await asyncio.shield(worker.ended)
            log.error("Worker %d on %s ended; a new one is started.", worker.pid, device)
            await self._stop(worker)
            delay = FIRST_DELAY_SECONDS
            while True:
                self.restarts += 1
                if self._observer:
                    self._observer.worker_restarted()
                try:
                    worker = await self._start(device)
                    break
                except WorkerStartError as error:
                    log.error("Worker on %s did not start (%s); next try in %.1f s.", device, error, delay)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def _tell(self) -> None:
        if self._on_change:
            self._on_change(len(self._live))
