"""The route that all this is for: `POST /panoptic`, from the request's headers to the answer's last byte."""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from service.engine import Engine, Timing
from service.errors import ClientGoneError, InternalError, PredictionError, RequestError, ServiceError
from service.http import negotiation, openapi
from service.http.body import read_image
from service.http.problems import problem, request_id
from service.http.responses import Answer
from service.http.uploads import Upload, Uploads
from service.logs import Bursts

log = logging.getLogger(__name__)
Value = TypeVar("Value")

SENT_AT_ONCE_BYTES = 1 << 18


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


class PlainRoute(APIRoute):
    """A route whose endpoint takes the request as it is: that nothing is to be parsed takes time to find out."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        return self.endpoint


def add_panoptic(app: FastAPI, engine: Engine) -> None:
    """The route that all this is for."""
    settings, metrics, refusals = engine.settings, engine.metrics, Bursts()

    async def panoptic(request: Request) -> Response:
        started = time.monotonic()
        timing = Timing(started)
        status, code, outcome = 500, "internal_error", "failed"
        try:
            result = await answer(engine, request, timing, started)
            status, code, outcome = 200, "ok", "ok"
            headers = {"Server-Timing": timing.header(), "Vary": "Accept"}
            return CountedResponse(engine.uploads, result.content, headers, result.media_type)
        except ServiceError as error:
            status, code, outcome = error.status, error.code, error.outcome
            if error.retry_after is not None:
                refusals.note(error.detail)
            return problem(request, error)
        except asyncio.CancelledError:
            status, code, outcome = 499, "client_gone", "cancelled"
            raise
        except PredictionError as error:  # a trace would only show our own plumbing
            log.error("request %s failed in the worker: %s", request_id(request), error)
            return problem(request, InternalError())
        except Exception as error:
            log.error("request %s failed", request_id(request), exc_info=error)
            return problem(request, InternalError())
        finally:
            metrics.request_finished(status, code, outcome, time.monotonic() - started)

    app.router.add_api_route(
        "/panoptic",
        panoptic,
        methods=["POST"],
        route_class_override=PlainRoute,
        openapi_extra=openapi.PANOPTIC,
        responses=openapi.RESPONSES,
        dependencies=openapi.key_schemes(settings.api_keys),
        summary="Segment one image",
    )


async def answer(engine: Engine, request: Request, timing: Timing, started: float) -> Answer:
    """The answer to one request.

    Args:
        engine: that segments.
        request: whose body was not read yet.
        timing: of the request, to be filled in.
        started: when it came, by `time.monotonic`.

    Raises:
        ServiceError: of any kind.
    """
    settings = engine.settings
    check_key(request, settings.api_keys)
    form = negotiation.choose_form(request.headers.get("accept"))
    overlay = parse_view(request)
    timing.deadline = started + deadline_seconds(request, settings.deadline_ms)
    with engine.request(), Upload(engine.uploads) as upload:
        await read_image(request, upload, settings.max_bytes, settings.body_timeout_ms / 1000, timing.deadline)
        work = engine.segment(upload, form, overlay, request_id(request), timing)
        return await unless_gone(request, work)


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
