"""The front's side of one worker: starts it, gives it batches, collects its answers, notices its end."""

import asyncio
import atexit
import contextlib
import hashlib
import logging
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import reduction
from typing import TypeVar, assert_never

import numpy as np

from model.interface.panoptic import Panoptic, Pixels, Segment
from model.interface.served import ServedModel
from service.failures import DeviceLostError, OutOfDeviceMemoryError, PredictionError, WorkerStartError
from service.streams import WorkerStreams
from service.workers import messages
from service.workers.process import Factory, WarmUp, main
from service.workers.progress import Progress
from service.workers.shared_memory import CALM_BYTES, Block, Blocks, Place, layout

log = logging.getLogger(__name__)
Value = TypeVar("Value")

HANG_SECONDS = 120.0
"""A batch that takes longer is taken to hang, and its worker is killed; each batch before it has as long."""
CALM_SECONDS = 5.0
"""After so long without a batch, the memory of large batches is given back."""
STOPPED_SECONDS = 5
"""How long a process may stay stopped by SIGSTOP: some tools stop one for a moment."""
COPIED_AT_ONCE_BYTES = 2 << 20
"""The event loop itself copies at most so many bytes of a batch: half a millisecond."""
NO_ROOM = "The host has no room for another process."
ENDED = "Its process ended before it was ready."


@dataclass(eq=False)
class _Order:
    """A batch that the worker has."""

    images: list[Pixels]
    block: Block
    places: list[Place]
    answer: asyncio.Future[list[tuple[Segment, ...]]]


class Worker:
    """One worker process; for a new process there is a new `Worker`.

    Args:
        factory: makes the predictor, in the process.
        warm_up: what it runs before it is ready.
        prepare: what the process runs before the factory.
        progress: is told how far the start is.

    Raises:
        WorkerStartError: the front has too many files open.

    Attributes:
        served: what its predictor has loaded; set by `start`.
        device_memory: bytes that it holds on its device, as it last said.
        device_memory_total: bytes that its device has.
        ended: done when the process has ended.
        outstanding: calls of `run` that have not returned.
    """

    served: ServedModel

    def __init__(
        self,
        factory: Factory,
        warm_up: WarmUp,
        prepare: Callable[[], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._progress = progress
        self._blocks = Blocks()
        self._orders: dict[int, _Order] = {}
        self._sent = 0
        self.outstanding = 0
        self._ready: asyncio.Future[ServedModel] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.device_memory = self.device_memory_total = self.pid = 0
        self._spawned: asyncio.Future[None] | None = None
        self._calm: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Future[None] | None = None
        context = multiprocessing.get_context("spawn")
        try:
            self._pipe, self._far_end = context.Pipe()
            self._streams = WorkerStreams()
        except OSError as error:
            raise WorkerStartError(f"No pipe to a worker can be opened: {error}.", NO_ROOM) from error
        arguments = self._far_end, factory, warm_up, self._streams.ends, prepare
        self._process = context.Process(target=main, args=arguments, daemon=True)

    async def start(self) -> None:
        """Return when its predictor is loaded and warm.

        Raises:
            WorkerStartError: it cannot load the predictor, ended before, or the host has no room for a process.
        """
        self._spawned = self._loop.run_in_executor(None, self._process.start)
        try:
            await asyncio.shield(self._spawned)
        except OSError as error:
            raise WorkerStartError(f"A worker cannot be started: {error}.", NO_ROOM) from error
        self.pid = self._process.pid or 0
        atexit.register(self._process.kill)  # it ignores SIGTERM, by which multiprocessing would end it at exit
        self._far_end.close()  # so that its end of the pipe ends with it
        self._streams.listen(f"worker {self.pid}")
        self._loop.add_reader(self._pipe.fileno(), self._read)
        self._look_whether_stopped(0)
        self.served = await self._ready

    async def run(self, images: list[Pixels]) -> list[Panoptic]:
        """One answer an image.

        Raises:
            DeviceLostError: the worker ended before it answered.
            OutOfDeviceMemoryError: the batch is too large for the device.
            PredictionError: the predictor failed.
            SharedMemoryError: there is not enough memory for the batch.
        """
        places, size = layout([image.shape for image in images])
        block = self._take_block(size)
        order = _Order(images, block, places, self._loop.create_future())
        self.outstanding += 1
        watchdog = self._loop.call_later(HANG_SECONDS * self.outstanding, self._end_hung)
        try:
            await self._copy(_write, order)
            self._sent += 1
            self._send(messages.Batch(self._sent, block.number, places))
            self._orders[self._sent] = order
            segments = await order.answer
            maps = await self._copy(_read_maps, order)
            return [Panoptic(ids, each) for ids, each in zip(maps, segments, strict=True)]
        finally:
            watchdog.cancel()
            self.outstanding -= 1
            self._give_block(block)

    async def _copy(self, copy: Callable[[_Order], Value], order: _Order) -> Value:
        """Copy here where that takes less time than a change of threads, else on a thread."""
        if sum(image.nbytes for image in order.images) <= COPIED_AT_ONCE_BYTES:
            return copy(order)
        return await asyncio.to_thread(copy, order)

    async def stop(self) -> None:
        """End the process at once and wait for its end."""
        self._stopping = self._stopping or asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        died = self.ended.done()
        self._lose("it was stopped", by_us=True)
        self._far_end.close()
        if self._spawned:
            with contextlib.suppress(OSError):
                await self._spawned
        if self._process.pid is not None:
            atexit.unregister(self._process.kill)
            self._process.kill()
            await asyncio.to_thread(self._process.join)
            self._process.close()
        await asyncio.to_thread(self._streams.close, died)

    def _take_block(self, size: int) -> Block:
        block, new = self._blocks.take(size)
        if new:
            self._send(messages.NewBlock(block.number, block.size))
            reduction.send_handle(self._pipe, block.descriptor, self.pid)
        return block

    def _give_block(self, block: Block) -> None:
        if self.ended.done():
            block.close()
            return
        self._forget(self._blocks.give(block))
        if self._calm:
            self._calm.cancel()
            self._calm = None
        if self._blocks.idle_bytes > CALM_BYTES:
            self._calm = self._loop.call_later(CALM_SECONDS, lambda: self._forget(self._blocks.trim(CALM_BYTES)))

    def _forget(self, closed: list[Block]) -> None:
        for block in closed:
            with contextlib.suppress(DeviceLostError):  # then it has nothing to forget
                self._send(messages.Forget(block.number))

    def _send(self, message: messages.ToWorker) -> None:
        if not self.ended.done():
            try:
                self._pipe.send(message)
                return
            except OSError:
                self._lose("it does not listen")
        raise DeviceLostError("The worker has ended.", started=False)

    def _read(self) -> None:
        try:
            self._take(self._pipe.recv())
        except (EOFError, OSError):
            self._lose("it ended unasked")
        except Exception:  # a bug: nothing that it says from here on can be trusted
            self._lose("it sent an unknown message")
            raise

    def _take(self, message: messages.FromWorker) -> None:
        match message:
            case messages.Step(name, done):
                if self._progress:
                    self._progress.reach(name, done)
            case messages.Ready(served, memory, total):
                self.device_memory, self.device_memory_total = memory, total
                self._ready.set_result(served)
            case messages.Refused(reason, cause):
                self._ready.set_exception(WorkerStartError(reason, cause))
            case messages.Done(number, segments, memory):
                self._answer(number, memory, segments)
            case messages.OutOfMemory(number, reason, memory):
                self._answer(number, memory, OutOfDeviceMemoryError(reason))
            case messages.Failed(number, reason, memory):
                self._answer(number, memory, PredictionError(reason))
            case _:
                assert_never(message)

    def _answer(self, number: int, device_memory: int, found: list[tuple[Segment, ...]] | Exception) -> None:
        """Give one batch its segments or its error; whoever asked may have left."""
        self.device_memory = device_memory
        answer = self._orders.pop(number).answer
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def _lose(self, reason: str, by_us: bool = False) -> None:
        """Note the end of the process, and fail the batches that it had; only the first of them can be the cause."""
        if self.ended.done():
            return
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        self.ended.set_result(None)
        if not self._ready.done():
            self._ready.set_exception(WorkerStartError("The worker ended before it was ready.", ENDED))
        for index, order in enumerate(self._orders.values()):
            started = index == 0 and not by_us
            if started and len(order.images) == 1 and not order.answer.done():
                height, width, _ = order.images[0].shape
                digest = hashlib.sha256(order.images[0].tobytes()).hexdigest()
                log.error("The worker ended during one image: %d x %d pixels, sha256 %s", width, height, digest)
            if not order.answer.done():
                order.answer.set_exception(DeviceLostError(f"The worker is lost: {reason}.", started=started))
        self._blocks.close()

    def _look_whether_stopped(self, seen: int) -> None:
        """Kill a process that a signal has stopped for long: its pipe stays open, and nothing comes."""
        if self.ended.done() or not hasattr(os, "waitid"):
            return
        with contextlib.suppress(ChildProcessError):
            stopped = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
            seen = seen + 1 if stopped else 0
        if seen > STOPPED_SECONDS:
            log.error("Worker %d was stopped %d s ago and does not go on; it is killed.", self.pid, seen)
            self._process.kill()
            self._lose("it was stopped by a signal", by_us=True)
            return
        self._loop.call_later(1.0, self._look_whether_stopped, seen)

    def _end_hung(self) -> None:
        log.error("A batch took more than %.0f s; its worker is killed.", HANG_SECONDS)
        self._process.kill()


def _write(order: _Order) -> None:
    for place, image in zip(order.places, order.images, strict=True):
        order.block.pixels(place)[...] = image


def _read_maps(order: _Order) -> list[Pixels]:
    return [np.copy(order.block.map(place)) for place in order.places]
