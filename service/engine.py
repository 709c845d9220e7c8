"""The engine behind the routes: decoding threads, the batcher, the workers, and which state the service is in."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from model.interface.scale import padded_size
from model.interface.served import ServedModel
from service.batching.admission import Admission, Ticket
from service.batching.batcher import Batcher
from service.errors import NotReadyError
from service.failures import WorkerStartError
from service.http import responses
from service.http.body import Upload, Uploads
from service.http.forms import AnswerForm
from service.image_work import ImageWork
from service.in_flight import InFlight
from service.metrics import STAGES, Metrics
from service.settings import Settings
from service.states import Backend, Draining, Failed, Loading, Serving, State, explain
from service.workers.progress import Outlook

log = logging.getLogger(__name__)

FEW = 4
"""Requests in flight up to which the event loop has time to write small answers itself, sooner than a thread would."""


@dataclass
class Timing:
    """Where the time of one request went, in seconds; its ticket knows the times in the queue and on the device.

    Attributes:
        deadline: when the answer comes too late, by `time.monotonic`.
    """

    deadline: float
    decode: float = 0.0
    encode: float = 0.0
    ticket: Ticket = field(default_factory=Ticket)

    def header(self) -> str:
        """As Server-Timing has it, in milliseconds."""
        times = self.decode, self.ticket.queue_seconds, self.ticket.infer_seconds, self.encode
        return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in zip(STAGES, times, strict=True))


class Engine:
    """Bytes in, answers out.

    It is in one state at a time: Loading, then Serving or Failed, and Draining at the end.

    Args:
        settings: what the environment set.
        metrics: where the engine counts.
        backend: what computes the answers; the engine starts and ends it.
    """

    def __init__(self, settings: Settings, metrics: Metrics, backend: Backend) -> None:
        self.settings, self.metrics = settings, metrics
        self.uploads = Uploads(settings.max_upload_bytes)
        self.admission = Admission(settings.max_queue, settings.max_queue_pixels)
        self.backend = backend
        self._images = ImageWork(settings.decode_threads, settings.max_pixels, metrics)
        self._state: State = Loading()
        self._settled = asyncio.Event()
        self._in_flight = InFlight()
        metrics.queue_limit.set(settings.max_queue)
        metrics.deadline.set(settings.deadline_ms / 1000)
        metrics.upload_bytes.set_function(lambda: self.uploads.held)
        metrics.inflight.set_function(lambda: self.inflight)
        metrics.queue_images.set_function(lambda: self.admission.waiting)
        metrics.queue_pixels.set_function(lambda: self.admission.pixels)
        metrics.ready.set_function(lambda: self.not_ready is None)

    async def start(self) -> None:
        """Load, warm up and take work. A failure is logged, in one line where it is foreseen, and ends the start."""
        try:
            served = await self.backend.start()
            if isinstance(self._state, Loading):
                self._enter(self._serving(served))
                facts = {"device": served.device, "precision": served.precision, "kernel": served.kernel}
                self.metrics.model.info({"name": served.name, **facts})
                threads = served.threads, self.settings.decode_threads
                log.info(
                    "ready: %s on %s, %s, kernel %s, threads: network %d, decode %d",
                    *(served.name, *facts.values(), *threads),
                )
        except Exception as error:
            log.error("cannot start: %s", error, exc_info=None if isinstance(error, WorkerStartError) else error)
            if isinstance(self._state, Loading):
                self._enter(Failed(error))

    def _serving(self, served: ServedModel) -> Serving:
        batcher = Batcher(
            self.backend.run,
            self.admission,
            max_batch_size=self.settings.batch_size(on_cpu=served.device.startswith("cpu")),
            max_batch_pixels=self.settings.max_batch_pixels,
            max_batch_source_pixels=self.settings.max_pixels,  # shared memory for one of the largest, and no more
            concurrency=self.backend.live,
            observer=self.metrics,
        )
        self.backend.watch(batcher.resize)
        return Serving(served, batcher)

    def _enter(self, state: Serving | Draining | Failed) -> None:
        self._state = state
        self._settled.set()

    async def wait_ready(self) -> None:
        """Return when the model is loaded and warm.

        Raises:
            Exception: the one that ended the start.
            NotReadyError: the drain began before the model was loaded.
        """
        await self._settled.wait()
        if isinstance(self._state, Failed):
            raise self._state.error
        if self.served is None:
            raise NotReadyError.for_now(NotReadyError.STOPPING)

    async def drain(self, seconds: float) -> int:
        """Take no new work and wait for the requests in flight; returns how many had to be given up.

        Args:
            seconds: how long to wait. Then those left get 503. A later call with less time takes effect.
        """
        self._stop_serving()
        return await self._in_flight.finish(seconds)

    async def close(self) -> None:
        """End everything; what still waits fails."""
        self._stop_serving()
        if serving := self._loaded:
            await serving.batcher.close()
        await self.backend.close()
        self._images.close()

    def _stop_serving(self) -> None:
        if not isinstance(self._state, Failed):
            self._enter(Draining(self._loaded))

    @property
    def _loaded(self) -> Serving | None:
        match self._state:
            case Serving():
                return self._state
            case Draining(before):
                return before
            case _:
                return None

    @property
    def served(self) -> ServedModel | None:
        """The model that is loaded; None before."""
        return self._loaded.served if self._loaded else None

    @property
    def failed(self) -> bool:
        """Whether the start failed."""
        return isinstance(self._state, Failed)

    @property
    def draining(self) -> bool:
        """Whether no new work will be taken any more."""
        return isinstance(self._state, Draining)

    @property
    def inflight(self) -> int:
        """Number of requests that are not answered yet."""
        return len(self._in_flight)

    @property
    def not_ready(self) -> Outlook | None:
        """Why no work is taken now, and when to try again; None while work is taken."""
        return explain(self._state, self.backend)

    def check_ready(self) -> Serving:
        """What answers new work.

        Raises:
            NotReadyError: no work is taken now.
        """
        if isinstance(self._state, Serving) and self.backend.live:
            return self._state
        raise NotReadyError.for_now(*self.not_ready or (NotReadyError.LOADING,))

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A context for the current task while it answers a request: it is counted, and may be given up.

        Raises:
            NotReadyError: no work is taken now, or the request was given up.
        """
        self.check_ready()
        with self._in_flight.request():
            yield

    async def segment(self, upload: Upload, form: AnswerForm, overlay: bool, request_id: str, timing: Timing) -> bytes:
        """The body of the answer to one image.

        Args:
            upload: holds the bytes of the image file, which are given up when they are decoded.
            form: how the answer is encoded.
            overlay: whether the answer has a picture over the photo in place of the map of ids.
            request_id: repeated in the answer.
            timing: its deadline is kept, its times are filled in.

        Raises:
            ServiceError: the image, the queue or the device gives reason to refuse it.
        """
        serving, admission = self.check_ready(), self.admission
        timing.ticket = ticket = admission.reserve()
        try:
            charge = partial(admission.charge, ticket)
            photo, timing.decode = await self._images.decode(upload, charge, timing.deadline)
            height, width = photo.shape[:2]
            rows, columns = padded_size(height, width, **serving.served.metadata.test_scale)
            panoptic = await serving.batcher.submit(
                photo, key=(rows, columns), padded_pixels=rows * columns, deadline=timing.deadline, ticket=ticket
            )
            under = photo if overlay else None
            del photo  # its memory: the map is there
            colors = serving.served.metadata.categories.colors
            build = partial(responses.build, form, panoptic, serving.served.name, request_id, under, colors)
            on_thread = overlay or self.inflight > FEW
            answer, timing.encode = await self._images.encode(build, height * width, on_thread, timing.deadline)
            return answer
        finally:
            admission.release(ticket)
