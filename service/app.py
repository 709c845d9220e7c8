"""The application: routes and life cycle."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import __version__
from service.engine import Engine, Timing
from service.errors import ClientGoneError, NotReadyError
from service.http import openapi
from service.http.body import Upload, read_image
from service.http.envelope import Envelope
from service.http.negotiation import choose_form
from service.http.pages import add_pages
from service.http.problems import add_error_handlers, problem, service_error
from service.http.request import (
    PlainRoute,
    check_coding,
    check_key,
    deadline_seconds,
    key_schemes,
    parse_view,
    request_id,
    unless_gone,
)
from service.http.responses import CountedResponse
from service.http.schemas import Health
from service.logs import Bursts
from service.metrics import Metrics
from service.settings import Settings
from service.states import Backend
from service.workers.pool import WorkerPool
from service.workers.process import WarmUp, import_predictor, load_predictor

log = logging.getLogger(__name__)

LAG_INTERVAL = 0.25
"""Seconds between two measurements of the event loop."""
LIMITS = ("max_bytes", "max_upload_bytes", "max_pixels", "max_queue", "max_queue_pixels", "deadline_ms")
"""The settings that `/model` tells clients."""


def create_app(settings: Settings, backend: Backend | None = None) -> FastAPI:
    """The application. Until the archive is loaded and warm, it answers that it is not ready.

    Args:
        settings: what the environment set.
        backend: computes the answers; by default a worker process for each device, with the settings' archive.
    """
    metrics = Metrics()
    engine = Engine(settings, metrics, backend or make_pool(settings, metrics))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(watch_loop(metrics)), asyncio.create_task(engine.start())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await engine.close()

    app = FastAPI(
        title="upsnet-service",
        description="Post a photo, get its panoptic segmentation.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Envelope, max_bytes=settings.max_bytes)
    app.add_middleware(Farewell, engine=engine)
    app.state.engine = engine
    add_error_handlers(app)
    add_panoptic(app, engine)  # first on the page of the interface
    add_routes(app, engine)
    add_pages(app)
    return app


def make_pool(settings: Settings, metrics: Metrics) -> WorkerPool:
    """A worker process for each device, each with the settings' archive."""
    loading = settings.precision, settings.kernels, settings.log_format, settings.log_level
    devices = settings.device.split(",")
    alike = len(set(devices)) < len(devices)  # several workers on the CPU
    names = [f"{device}:{number}" for number, device in enumerate(devices)] if alike else devices
    return WorkerPool(
        {
            name: partial(load_predictor, settings.model, device, *loading)
            for name, device in zip(names, devices, strict=True)
        },
        warm_up=WarmUp(settings.warmup_sizes, settings.batch_size(on_cpu=False), settings.max_batch_pixels),
        prepare=partial(import_predictor, len(devices)),
        max_pixels=settings.max_pixels,
        observer=metrics,
    )


class Farewell:
    """ASGI middleware: from SIGTERM on every answer ends its connection, so that clients go elsewhere.

    It stands outside of the `Envelope`, which reads an unread body on before a connection ends.

    Args:
        app: the application inside.
        engine: knows whether the service drains.
    """

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app, self._engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and self._engine.draining:
                MutableHeaders(raw=message["headers"])["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, answer)


async def watch_loop(metrics: Metrics) -> None:
    """Measure how late the event loop wakes up."""
    while True:
        start = time.monotonic()
        await asyncio.sleep(LAG_INTERVAL)
        metrics.loop_lag.observe(max(time.monotonic() - start - LAG_INTERVAL, 0.0))


def add_routes(app: FastAPI, engine: Engine) -> None:
    """Health, metrics and model."""
    settings, metrics = engine.settings, engine.metrics

    def health(status: int | None = None) -> Response:
        outlook, served = engine.not_ready, engine.served
        body = Health(
            live=True,
            ready=outlook is None,
            reason=outlook.reason if outlook else None,
            model=served.name if served else None,
            device=served.device if served else None,
            workers=engine.backend.live,
            queue_images=engine.admission.waiting,
        )
        headers = {}
        if outlook and status is None:
            headers["Retry-After"] = str(NotReadyError.for_now(*outlook).retry_after)
        return JSONResponse(body.model_dump(), status or (503 if outlook else 200), headers)

    @app.get("/health/live", response_model=Health, summary="The process runs")
    async def live() -> Response:
        return health(200)

    @app.get("/health/ready", response_model=Health, responses=openapi.not_ready(), summary="Work is taken")
    async def ready() -> Response:
        return health()

    @app.get("/health", response_model=Health, responses=openapi.not_ready(), summary="Both, in detail")
    async def both() -> Response:
        return health()

    @app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus text")
    async def scrape() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    keys = key_schemes(settings.api_keys)

    @app.get("/model", responses=openapi.refusals(401, 503), dependencies=keys, summary="What is served")
    async def model(request: Request) -> Response:
        check_key(request, settings.api_keys)
        served = engine.check_ready().served
        limits = {name: getattr(settings, name) for name in LIMITS}
        threads = {"network": served.threads, "decode": settings.decode_threads}
        facts = {name: getattr(served, name) for name in ("device", "precision", "kernel", "fallbacks")}
        rest = {"threads": threads, "limits": limits, "metadata": served.metadata.to_json()}
        return JSONResponse({"model": served.name, **facts, **rest})


def add_panoptic(app: FastAPI, engine: Engine) -> None:
    """Add the route, which counts each request and logs bursts of refusals."""
    settings, metrics, refusals = engine.settings, engine.metrics, Bursts()

    async def panoptic(request: Request) -> Response:
        started = time.monotonic()
        status, code, outcome = 200, "ok", "ok"
        try:
            return await answer(engine, request, started)
        except asyncio.CancelledError:
            gone = ClientGoneError()
            status, code, outcome = gone.status, gone.code, gone.outcome
            raise
        except Exception as error:
            error = service_error(request, error)  # rebound: a second name would be a cycle that holds the request
            status, code, outcome = error.status, error.code, error.outcome
            if error.retry_after is not None:
                refusals.note(error.detail)
            return problem(request, error)
        finally:
            seconds = time.monotonic() - started
            metrics.request_finished(status, code, outcome, seconds)
            log.debug("%s: %d %s after %.1f ms", request_id(request), status, code, 1000 * seconds)

    app.router.add_api_route(
        "/panoptic",
        panoptic,
        methods=["POST"],
        route_class_override=PlainRoute,
        openapi_extra=openapi.request_parts(settings.deadline_ms),
        responses=openapi.answers(),
        dependencies=key_schemes(settings.api_keys),
        summary="Segment one image",
    )


async def answer(engine: Engine, request: Request, started: float) -> Response:
    """The answer to one request.

    Args:
        engine: decodes, segments and encodes.
        request: its body is not read yet.
        started: when it came, by `time.monotonic`.

    Raises:
        ServiceError: the request is refused, or cannot be answered now.
    """
    settings = engine.settings
    check_key(request, settings.api_keys)
    form = choose_form(", ".join(request.headers.getlist("accept")))
    check_coding(request)
    overlay = parse_view(request) == "overlay"
    timing = Timing(started + deadline_seconds(request, settings.deadline_ms))
    with engine.request(), Upload(engine.uploads) as upload:
        await read_image(request, upload, settings.max_bytes, settings.body_timeout_ms / 1000, timing.deadline)
        work = engine.segment(upload, form, overlay, request_id(request), timing)
        content = await unless_gone(request, work)
    headers = {"Server-Timing": timing.header(), "Vary": "Accept"}
    return CountedResponse(engine.uploads, content, headers, form.content_type)
