"""The application: routes and life cycle."""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from service import negotiation, openapi
from service.backends import InProcess
from service.body import read_image
from service.engine import Engine, Timing
from service.envelope import Envelope
from service.errors import ClientGoneError, InternalError, NotReadyError, RequestError, ServiceError
from service.logs import Bursts
from service.metrics import Metrics
from service.pages import add_pages
from service.problems import add_error_handlers, problem, request_id
from service.responses import Answer
from service.schemas import Health
from service.settings import Settings
from service.uploads import Upload, Uploads
from service.worker import PredictionError
from service.worker_process import load_predictor
from service.workers import WorkerPool

log = logging.getLogger(__name__)
Value = TypeVar("Value")

LAG_INTERVAL = 0.25
SENT_AT_ONCE_BYTES = 1 << 18
LIMITS = ("max_bytes", "max_upload_bytes", "max_pixels", "max_queue", "max_queue_pixels", "deadline_ms")
"""Settings that `/model` tells clients."""


def create_app(settings: Settings, predictor: Any = None) -> FastAPI:
    """The application.

    Args:
        settings: of the service.
        predictor: answers in this process; None starts one worker process a device with the settings' archive.
    """
    metrics = Metrics()

    def make_backend() -> Any:
        if predictor is not None:
            return InProcess(predictor, settings.warmup_sizes)
        return make_pool(settings, metrics, engine.resize)

    engine = Engine(settings, metrics, make_backend)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(watch_loop(metrics))]
        if predictor is None:  # workers take their time: the service answers meanwhile that it is not ready
            tasks.append(asyncio.create_task(engine.start_or_fail()))
        else:
            await engine.start()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await engine.close()

    app = FastAPI(
        title="upsnet-service",
        description="Post a photo, get its panoptic segmentation.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Envelope, max_bytes=settings.max_bytes)
    app.state.engine = engine
    add_error_handlers(app)
    add_panoptic(app, engine)  # first on the page of the interface
    add_routes(app, engine)
    add_pages(app)
    return app


def make_pool(settings: Settings, metrics: Metrics, on_change: Callable[[int], None]) -> WorkerPool:
    """One worker process a device, each with the settings' archive."""
    logs = settings.log_format, settings.log_level
    return WorkerPool(
        {
            device: partial(load_predictor, settings.model, device, settings.precision, *logs)
            for device in settings.device.split(",")
        },
        warmup_sizes=settings.warmup_sizes,
        max_pixels=settings.max_pixels,
        on_change=on_change,
        observer=metrics,
    )


async def watch_loop(metrics: Metrics) -> None:
    """Measure how late the event loop wakes up."""
    while True:
        start = time.monotonic()
        await asyncio.sleep(LAG_INTERVAL)
        metrics.loop_lag.observe(max(time.monotonic() - start - LAG_INTERVAL, 0.0))


def check_key(request: Request, keys: tuple[str, ...]) -> None:
    """Refuse a request without a configured key in either header; every key is compared, in constant time.

    Raises:
        RequestError: 401.
    """
    if not keys:
        return
    given = [request.headers.get("x-api-key", "")]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        given.append(token.strip())
    fits = [hmac.compare_digest(word.encode(), key.encode()) for word in given for key in keys]
    if not any(fits):
        raise RequestError(401, "This service needs a key. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")


def add_routes(app: FastAPI, engine: Engine) -> None:
    """Health, metrics and model."""
    settings, metrics = engine.settings, engine.metrics

    def health(status: int | None = None) -> Response:
        reason, backend = engine.reason_not_ready, engine.backend
        loaded = backend is not None and engine.batcher is not None
        body = Health(
            live=True,
            ready=reason is None,
            reason=reason,
            model=backend.model_name if backend and loaded else None,
            device=backend.device if backend and loaded else None,
            workers=backend.live if backend else 0,
            queue_images=int(metrics.queue_images._value.get()),
        )
        headers = {"Retry-After": "2"} if reason and status is None else {}
        return JSONResponse(body.model_dump(), status or (503 if reason else 200), headers)

    @app.get("/health/live", response_model=Health, summary="The process runs")
    async def live() -> Response:
        return health(200)

    @app.get("/health/ready", response_model=Health, responses=openapi.NOT_READY, summary="Work is taken")
    async def ready() -> Response:
        return health()

    @app.get("/health", response_model=Health, responses=openapi.NOT_READY, summary="Both, in detail")
    async def both() -> Response:
        return health()

    @app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus text")
    async def scrape() -> Response:
        metrics.ready.set(engine.reason_not_ready is None)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    key_schemes = openapi.key_schemes(settings.api_keys)

    @app.get("/model", responses=openapi.refusals(401, 503), dependencies=key_schemes, summary="What is served")
    async def model(request: Request) -> Response:
        check_key(request, settings.api_keys)
        backend, _ = engine.check_ready()
        limits = {name: getattr(settings, name) for name in LIMITS}
        facts = {"model": backend.model_name, "device": backend.device, "precision": backend.precision}
        facts["kernel"] = backend.kernel
        return JSONResponse({**facts, "limits": limits, "metadata": backend.metadata.to_json()})


def add_panoptic(app: FastAPI, engine: Engine) -> None:
    """The route that all this is for."""
    settings, metrics, refusals = engine.settings, engine.metrics, Bursts()

    async def answer(request: Request, timing: Timing, started: float) -> Answer:
        check_key(request, settings.api_keys)
        form = negotiation.choose_form(request.headers.get("accept"))
        overlay = parse_view(request)
        timing.deadline = started + deadline_seconds(request, settings.deadline_ms)
        engine.check_ready()
        with Upload(engine.uploads) as upload:
            await read_image(request, upload, settings.max_bytes, settings.body_timeout_ms / 1000, timing.deadline)
            work = engine.segment(upload, form, overlay, request_id(request), timing)
            return await unless_gone(request, work)

    @app.post(
        "/panoptic",
        openapi_extra=openapi.PANOPTIC,
        responses=openapi.RESPONSES,
        dependencies=openapi.key_schemes(settings.api_keys),
        summary="Segment one image",
    )
    async def panoptic(request: Request) -> Response:
        started = time.monotonic()
        timing = Timing(started)
        status, code, outcome = 500, "internal_error", "failed"
        metrics.inflight.inc()
        engine.requests.add(task := asyncio.current_task())
        try:
            result = await answer(request, timing, started)
            status, code, outcome = 200, "ok", "ok"
            headers = {"Server-Timing": timing.header(), "Vary": "Accept"}
            return CountedResponse(engine.uploads, result.content, headers, result.media_type)
        except ServiceError as error:
            status, code, outcome = error.status, error.code, error.outcome
            if error.retry_after is not None:
                refusals.note(error.detail)
            return problem(request, error)
        except asyncio.CancelledError:
            if task and engine.gave_up:
                task.uncancel()
                stopped = NotReadyError("The service has stopped. Try again soon.")
                status, code, outcome = stopped.status, stopped.code, stopped.outcome
                return problem(request, stopped)
            status, code, outcome = 499, "client_gone", "cancelled"
            raise
        except PredictionError as error:  # a trace would only show our own plumbing
            log.error("request %s failed in the worker: %s", request_id(request), error)
            return problem(request, InternalError())
        except Exception as error:
            log.error("request %s failed", request_id(request), exc_info=error)
            return problem(request, InternalError())
        finally:
            engine.requests.discard(task)
            metrics.inflight.dec()
            metrics.request_finished(status, code, outcome, time.monotonic() - started)


class CountedResponse(Response):
    """An answer that is sent as fast as its client takes it, and counted until it has.

    Args:
        uploads: that it is counted among.
        content: of the answer.
        headers: beside those of every answer.
        media_type: of the content.
    """

    def __init__(self, uploads: Uploads, content: bytes, headers: dict[str, str], media_type: str) -> None:
        super().__init__(content, 200, headers, media_type)
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it piece by piece: the server waits before each until the client has taken those before it."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        body = memoryview(self.body)
        with self._uploads.holding(len(body)):
            for start in range(0, len(body), SENT_AT_ONCE_BYTES):
                piece = bytes(body[start : start + SENT_AT_ONCE_BYTES])
                more = start + SENT_AT_ONCE_BYTES < len(body)
                await send({"type": "http.response.body", "body": piece, "more_body": more})


def parse_view(request: Request) -> bool:
    """Whether the overlay is wanted.

    Raises:
        RequestError: 400, an unknown query name or value.
    """
    for name, value in request.query_params.multi_items():
        if name != "view" or value not in ("ids", "overlay"):
            raise RequestError(
                400, f"Unknown query {name}={value}"[:200] + ". The only one is view=ids or view=overlay."
            )
    return request.query_params.get("view") == "overlay"


def deadline_seconds(request: Request, limit_ms: int) -> float:
    """The service's deadline, or the request's where that is sooner.

    Raises:
        RequestError: 400, X-Deadline-Ms is not a positive whole number.
    """
    given = request.headers.get("x-deadline-ms")
    if given is None:
        return limit_ms / 1000
    if not re.fullmatch(r"[0-9]{1,9}", given) or int(given) < 1:
        raise RequestError(
            400, f"X-Deadline-Ms is {given[:50]!r}; expected a whole number of milliseconds, 1 to 999999999."
        )
    return min(int(given), limit_ms) / 1000


async def unless_gone(request: Request, work: Awaitable[Value]) -> Value:
    """The result of the work, which is cancelled when the client leaves.

    Raises:
        ClientGoneError: it left.
    """
    ours = asyncio.current_task()
    assert ours is not None
    left = False

    def leave(_: asyncio.Future[None]) -> None:
        nonlocal left
        left = True
        ours.cancel()

    gone = asyncio.ensure_future(wait_until_gone(request))
    gone.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if left and not ours.uncancel():
            raise ClientGoneError() from None
        raise
    finally:
        gone.remove_done_callback(leave)
        gone.cancel()


async def wait_until_gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
