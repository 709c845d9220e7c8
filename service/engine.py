"""What stands behind the routes: decoding threads, the batcher, the workers, and whether they are ready."""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from model.interface import codec
from model.interface.codec import Pixels
from model.interface.panoptic import Panoptic
from service.batching.admission import Ticket
from service.batching.batcher import Batcher
from service.batching.lanes import LARGE_WORK, Lanes
from service.errors import DeadlineExceededError, ImageRefusedError, NotReadyError, WorkerStartError
from service.http import responses
from service.http.forms import Form
from service.http.uploads import Upload, Uploads
from service.metrics import Metrics
from service.settings import Settings
from service.workers.backends import Backend

log = logging.getLogger(__name__)
Value = TypeVar("Value")

ENCODED_AT_ONCE_PIXELS = 400_000
"""Maps of at most this size are written on the event loop: a fraction of a millisecond."""

REFUSALS = {codec.ImageTooLargeError: 413, codec.UnsupportedImageError: 415, codec.CorruptImageError: 422}


@dataclass
class Timing:
    """Where the time of one request went, in seconds."""

    deadline: float
    decode: float = 0.0
    encode: float = 0.0
    ticket: Ticket = field(default_factory=Ticket)

    def header(self) -> str:
        """As Server-Timing has it, in milliseconds."""
        stages = {
            "decode": self.decode,
            "queue": self.ticket.queue_seconds,
            "infer": self.ticket.infer_seconds,
            "encode": self.encode,
        }
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in stages.items())


class Engine:
    """Bytes in, answers out.

    Args:
        settings: of the service.
        metrics: of the application.
        make_backend: called when the engine starts.
    """

    def __init__(self, settings: Settings, metrics: Metrics, make_backend: Callable[[], Backend]) -> None:
        self.settings, self.metrics = settings, metrics
        metrics.queue_limit.set(settings.max_queue)
        metrics.deadline.set(settings.deadline_ms / 1000)
        self.draining = self.gave_up = False
        self.requests: set[asyncio.Task[Any] | None] = set()
        self._make_backend = make_backend
        self.uploads = Uploads(settings.max_upload_bytes)
        metrics.upload_bytes.set_function(lambda: self.uploads.held)
        metrics.inflight.set_function(lambda: self.inflight)
        self._decoding = Lanes("decode", settings.decode_threads)
        self._encoding = Lanes("encode", settings.decode_threads)
        self.backend: Backend | None = None
        self.batcher: Batcher[Pixels, Panoptic] | None = None
        self.failure: str | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._colors: dict[int, tuple[int, int, int]] = {}

    async def start(self) -> None:
        """Load, warm up, open the queue."""
        settings = self.settings
        self.backend = backend = self._make_backend()
        await backend.start()
        self._colors = {category.id: category.color for category in backend.metadata.categories}
        on_cpu = backend.device.startswith("cpu")
        self.batcher = Batcher(
            backend.run,
            max_batch_size=settings.max_batch_size or (1 if on_cpu else 8),
            max_batch_pixels=settings.max_batch_pixels,
            max_queue=settings.max_queue,
            max_queue_pixels=settings.max_queue_pixels,
            max_batch_source_pixels=settings.max_pixels,  # shared memory for one of the largest, and no more
            concurrency=backend.live,
            observer=self.metrics,
        )
        admission = self.batcher.admission
        self.metrics.queue_images.set_function(lambda: admission.waiting)
        self.metrics.queue_pixels.set_function(lambda: admission.pixels)
        facts = {"device": backend.device, "precision": backend.precision, "kernel": backend.kernel}
        self.metrics.model.info({"name": backend.model_name, **facts})
        log.info("ready: %s on %s, %s, kernel %s", backend.model_name, *facts.values())

    async def start_or_fail(self) -> None:
        """Start; a failure is logged, in one line where it is foreseen, kept in `failure` and told to `on_failure`."""
        try:
            await self.start()
        except Exception as error:
            self.failure = str(error)
            log.error("cannot start: %s", error, exc_info=None if isinstance(error, WorkerStartError) else error)
            self.on_failure()

    async def close(self) -> None:
        """End everything; what still waits fails."""
        self.draining = True
        if self.batcher:
            await self.batcher.close()
        if self.backend:
            await self.backend.close()
        self._decoding.close()
        self._encoding.close()

    @property
    def inflight(self) -> int:
        """Requests that are not answered yet."""
        return len(self.requests)

    def give_up(self) -> None:
        """Cancel every request that is not answered yet; each is answered with 503."""
        self.gave_up = True
        for request in self.requests:
            if request:
                request.cancel()

    def resize(self, live: int) -> None:
        """The number of live workers changed."""
        if self.batcher:
            self.batcher.resize(live)

    @property
    def reason_not_ready(self) -> str | None:
        """Why no work is taken now; None where it is."""
        if self.draining:
            return NotReadyError.STOPPING
        if self.batcher is None or self.backend is None:
            return NotReadyError.LOADING
        if self.backend.live == 0:
            return "The worker is restarting."
        return None

    def check_ready(self) -> tuple[Backend, Batcher[Pixels, Panoptic]]:
        """What work needs.

        Raises:
            NotReadyError: it is not there.
        """
        reason = self.reason_not_ready
        if reason or self.backend is None or self.batcher is None:
            raise NotReadyError.for_now(reason or NotReadyError.LOADING)
        return self.backend, self.batcher

    async def segment(self, upload: Upload, form: Form, overlay: bool, request_id: str, timing: Timing) -> bytes:
        """The body of the answer to one image.

        Args:
            upload: with the bytes of the image file, which are given up when they are decoded.
            form: the negotiated form.
            overlay: a picture over the photo in place of the map of ids.
            request_id: to be repeated in the answer.
            timing: its deadline is kept, its times are filled in.

        Raises:
            ServiceError: of any kind that the image, the queue or the device gives reason for.
        """
        backend, batcher = self.check_ready()
        admission = batcher.admission
        timing.ticket = ticket = admission.reserve()
        try:
            decode = self._decode(upload, partial(admission.charge, ticket))
            photo, timing.decode = await self._timed("decode", timing.deadline, decode)
            height, width = photo.shape[:2]
            rows, columns = backend.padded_size(height, width)
            panoptic = await batcher.submit(
                photo, key=(rows, columns), padded_pixels=rows * columns, deadline=timing.deadline, ticket=ticket
            )
            under = photo if overlay else None
            del photo  # its memory: the map is there
            build = partial(responses.build, form, panoptic, backend.model_name, request_id, under, self._colors)
            answer, timing.encode = await self._encode(build, height * width, overlay, timing.deadline)
            return answer
        finally:
            admission.release(ticket)

    async def _decode(self, upload: Upload, charge: Callable[[int], None]) -> Pixels:
        """The pixels of an image, charged before they are decoded: at once where it is small, else among large ones.

        A large file is opened among large ones: its header may be nearly all of it.
        """
        with upload:
            most = sys.maxsize if upload.size > LARGE_WORK else LARGE_WORK
            found = await self._decoding.run(partial(self._open, upload.content, charge, most), upload.size)
            if isinstance(found, int):
                again = partial(codec.decode, upload.content, self.settings.max_pixels)
                found = await self._decoding.run(partial(_refusing, again), found)
            return found

    def _open(self, content: bytes, charge: Callable[[int], None], most: int) -> Pixels | int:
        """The pixels of an image of at most so much work; else how much it is, and nothing kept while it waits."""
        image = _refusing(partial(codec.OpenImage, content, self.settings.max_pixels))
        charge(image.height * image.width)
        return image.work if image.work > most else _refusing(image.decode)

    async def _encode(
        self, build: Callable[[], bytes], pixels: int, overlay: bool, deadline: float
    ) -> tuple[bytes, float]:
        """An answer and how long it took; written here where that takes less than a change of threads."""
        if pixels > ENCODED_AT_ONCE_PIXELS or overlay:
            return await self._timed("encode", deadline, self._encoding.run(build, pixels))
        start = time.monotonic()
        answer = build()
        seconds = time.monotonic() - start
        self.metrics.stage_finished("encode", seconds)
        return answer, seconds

    async def _timed(self, stage: str, deadline: float, work: Awaitable[Value]) -> tuple[Value, float]:
        """A result and how long it took, waiting for a thread included."""
        start = time.monotonic()
        try:
            async with asyncio.timeout(max(deadline - start, 0)):
                result = await work
        except TimeoutError:
            raise DeadlineExceededError() from None
        seconds = time.monotonic() - start
        self.metrics.stage_finished(stage, seconds)
        return result, seconds


def _refusing(work: Callable[[], Value]) -> Value:
    """The result of the codec's work, its refusals told as the service's."""
    try:
        return work()
    except codec.ImageError as error:
        raise ImageRefusedError(REFUSALS[type(error)], str(error)) from error
