"""One supervised worker process for each device, behind one `run`.

A worker that ends is started again, after a delay that doubles with each failed start. The batcher repeats the batches
that the lost worker had (`service.batching.recovery`). The front, which runs the pool, never imports torch.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from model.interface.panoptic import Panoptic, Pixels
from model.interface.served import ServedModel
from service.failures import DeviceLostError, SharedMemoryError, WorkerStartError
from service.workers.process import Factory, WarmUp
from service.workers.progress import Outlook, Start
from service.workers.shared_memory import check_room
from service.workers.worker import Worker

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0


class PoolObserver(Protocol):
    """Hears of restarts, memory and kernels, for metrics."""

    def worker_restarted(self) -> None:
        """A worker is started in place of one that ended."""

    def device_memory_changed(self, device: str, used: int) -> None:
        """Bytes that a worker holds on its device."""

    def device_memory_found(self, device: str, total: int) -> None:
        """Bytes that a device has."""

    def kernels_checked(self, device: str, fallbacks: Mapping[str, str]) -> None:
        """A worker is ready; these kernels have failed on its device, each with the reason."""


class WorkerPool:
    """The workers of a service; a `Backend` of the engine.

    Args:
        factories: by the name of a worker, which is that of its device, what makes the predictor in its process.
        warm_up: what each worker runs before it is ready.
        prepare: what each worker's process runs before its factory.
        max_pixels: pixels of the largest image that shared memory must have room for.
        observer: hears of restarts, memory and kernels.
    """

    def __init__(
        self,
        factories: Mapping[str, Factory],
        *,
        warm_up: WarmUp = WarmUp(),  # noqa: B008 -- it cannot be changed
        prepare: Callable[[], None] | None = None,
        max_pixels: int,
        observer: PoolObserver | None = None,
    ) -> None:
        self._factories, self._warm_up, self._max_pixels = factories, warm_up, max_pixels
        self._prepare = prepare
        self._starts = {device: Start() for device in factories}
        self._observer = observer
        self._on_change: Callable[[int], None] | None = None
        self._served: ServedModel | None = None
        self._live: dict[str, Worker] = {}
        self._workers: set[Worker] = set()
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def live(self) -> int:
        """Workers that are ready."""
        return len(self._live)

    def outlook(self) -> Outlook:
        """While no device answers: what the workers do, or why none can start, and when one may answer."""
        has_started = bool(self._keepers)
        found = [start.outlook(restart=has_started) for start in self._starts.values()]
        choose = min if has_started else max  # the service starts with all workers, and goes on with any
        return choose(found, key=lambda each: each.seconds)

    def watch(self, on_change: Callable[[int], None], /) -> None:
        """Call `on_change` with the number of live workers whenever it changes."""
        self._on_change = on_change

    async def start(self) -> ServedModel:
        """Start every worker and wait until all are ready; returns their model, with all devices in its `device`.

        Raises:
            WorkerStartError: a worker cannot start, or shared memory is too small; the message is one line.
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
        return together([worker.served for worker in workers], list(self._factories))

    async def run(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image, from the worker that has least to do.

        Raises:
            DeviceLostError: no worker is ready, or the one that had the batch ended.
            OutOfDeviceMemoryError: the batch is too large for the device.
            PredictionError: the predictor failed.
            SharedMemoryError: there is none left for the batch.
        """
        if not self._live:
            raise DeviceLostError("No worker is ready.", started=False)
        worker = min(self._live.values(), key=lambda live: live.outstanding)
        try:
            return await worker.run(images)
        finally:
            if self._observer:
                self._observer.device_memory_changed(worker.served.device, worker.device_memory)

    async def close(self) -> None:
        """End all workers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(self._stop(worker) for worker in list(self._workers)))

    async def _start(self, device: str) -> Worker:
        progress = self._starts[device].begin()
        worker = Worker(self._factories[device], self._warm_up, self._prepare, progress)
        self._workers.add(worker)
        try:
            await worker.start()
            if device.startswith(f"{worker.served.device}:"):  # one of several on the CPU, which share its memory
                worker.served = replace(worker.served, device=device)
                worker.device_memory_total //= len(self._factories)
            self._check_same(worker)
        except BaseException:
            await self._stop(worker)
            raise
        self._starts[device].succeed()
        self._served = self._served or worker.served
        self._live[device] = worker
        log.info("Worker %d is ready on %s.", worker.pid, worker.served.device)
        worker.ended.add_done_callback(lambda _: self._bury(device, worker))
        if self._observer:
            self._observer.device_memory_changed(worker.served.device, worker.device_memory)
            self._observer.device_memory_found(worker.served.device, worker.device_memory_total)
            self._observer.kernels_checked(worker.served.device, worker.served.fallbacks)
        self._tell()
        return worker

    def _check_same(self, worker: Worker) -> None:
        """Two models never answer under one name.

        Raises:
            WorkerStartError: the archive is not the one that is served.
        """
        found, served = worker.served.name, self._served
        if served and found != served.name:
            reason = f"The archive has become {found}; {served.name} is served. Restart the service."
            raise WorkerStartError(reason, reason)

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
                if self._observer:
                    self._observer.worker_restarted()
                try:
                    worker = await self._start(device)
                    break
                except WorkerStartError as error:
                    log.error("Worker on %s did not start (%s); next try in %.1f s.", device, error, delay)
                    self._starts[device].fail(error.cause, delay)
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def _tell(self) -> None:
        if self._on_change:
            self._on_change(len(self._live))


def together(served: Sequence[ServedModel], devices: Sequence[str]) -> ServedModel:
    """The model that several workers serve: all devices, the forms of all, and every kernel that fell back on one."""
    if len(served) == 1:
        return served[0]
    kernels = dict.fromkeys(each.kernel for each in served)
    fallbacks = {name: reason for each in reversed(served) for name, reason in each.fallbacks.items()}
    return replace(served[0], device=",".join(devices), kernel=",".join(kernels), fallbacks=fallbacks)
