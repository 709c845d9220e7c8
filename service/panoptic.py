"""The main route, `POST /panoptic`: from the request's headers to the answer's last byte."""

import asyncio
import time

from fastapi import FastAPI, Request, Response

from service.engine import Engine, Timing
from service.errors import ClientGoneError
from service.http import openapi
from service.http.body import read_image
from service.http.keys import check_key, key_schemes
from service.http.negotiation import choose_form
from service.http.problems import problem, service_error
from service.http.request import PlainRoute, deadline_seconds, parse_view, request_id, unless_gone
from service.http.responses import CountedResponse
from service.http.uploads import Upload
from service.logs import Bursts


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
            error = service_error(
                request, error
            )  # rebound: a second name would make a reference cycle that holds the request
            status, code, outcome = error.status, error.code, error.outcome
            if error.retry_after is not None:
                refusals.note(error.detail)
            return problem(request, error)
        finally:
            metrics.request_finished(status, code, outcome, time.monotonic() - started)

    app.router.add_api_route(
        "/panoptic",
        panoptic,
        methods=["POST"],
        route_class_override=PlainRoute,
        openapi_extra=openapi.request_parts(),
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
    form = choose_form(request.headers.get("accept"))
    overlay = parse_view(request) == "overlay"
    timing = Timing(started + deadline_seconds(request, settings.deadline_ms))
    with engine.request(), Upload(engine.uploads) as upload:
        await read_image(request, upload, settings.max_bytes, settings.body_timeout_ms / 1000, timing.deadline)
        work = engine.segment(upload, form, overlay, request_id(request), timing)
        content = await unless_gone(request, work)
    headers = {"Server-Timing": timing.header(), "Vary": "Accept"}
    return CountedResponse(engine.uploads, content, headers, form.content_type)
