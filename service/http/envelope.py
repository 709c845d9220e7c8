"""What goes around every answer: the request's id, an answer to every exception, and an end to an unread body."""

import asyncio
import contextlib
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestError
from service.http.problems import answer_error
from service.http.request import ID_HEADER, request_id

CONTINUE = "100-continue"
ARRIVED_SECONDS = 0.02
"""An unread body whose end comes within this time leaves the connection open."""
DISCARD_SECONDS = 5.0
DISCARD_FACTOR = 4
"""After a refusal a body is read on for so long, and to so many times the limit of an image, and thrown away."""
ABSOLUTE = re.compile("https?://", re.IGNORECASE)
TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}((?<!^00.{53})-[!-~]{0,200})?"
)
"""Of W3C's Trace Context, section 3.2."""


class Envelope:
    """ASGI middleware: headers on every answer, an answer to every exception, HEAD for GET, an end to unread bodies.

    A refusal often comes before the body is read. Closing the connection then resets it, and the client sees the reset
    in place of the answer; keeping it open lets a body drip for ever. So the answer is sent, more of the body is read
    for a while, and then the connection is closed.

    Args:
        app: the application inside.
        max_bytes: the largest image file; a body is read on to `DISCARD_FACTOR` times as many bytes.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._limit = app, DISCARD_FACTOR * max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn has the original, and sends no body
        if ABSOLUTE.match(scope["path"]):  # as for a proxy: RFC 9112, section 3.2.2
            path = "/" + scope["path"].split("/", 3)[3] if scope["path"].count("/") > 2 else "/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        scope = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}  # RFC 9110, 5.5
        request = Request(scope)
        body = _Body(request.headers, receive)
        started = linger = False

        async def answer(message: Message) -> None:
            nonlocal started, linger
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                add_headers(headers, request)
                if "connection" not in headers and not await body.reach_end(self._limit, ARRIVED_SECONDS):
                    headers["Connection"] = "close"
                    linger = not body.announced
            elif linger and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.reach_end(self._limit, DISCARD_SECONDS)
                message = {"type": "http.response.body"}
            await send(message)

        try:
            check_expectations(request)
            await self._app(scope, body.receive, answer)
        except Exception as error:
            if started:
                raise  # the server logs it and cuts the connection: nothing else can be said any more
            await (await answer_error(request, error))(scope, body.receive, answer)


def add_headers(headers: MutableHeaders, request: Request) -> None:
    """Add what every answer carries: the request's id and trace; and no client may keep it or guess its type."""
    headers.raw.append((ID_HEADER.lower().encode(), request_id(request).encode()))
    headers.raw.append((b"x-content-type-options", b"nosniff"))
    if "cache-control" not in headers:
        headers.raw.append((b"cache-control", b"no-store"))
    traceparent = request.headers.get("traceparent")
    if traceparent and TRACEPARENT.fullmatch(traceparent):
        headers.raw.append((b"traceparent", traceparent.encode()))


def expectations(headers: Headers) -> list[str]:
    """The words of all Expect headers, in small letters."""
    lines = headers.getlist("expect")
    return [word.strip().lower() for line in lines for word in line.split(",") if word.strip()]


def check_expectations(request: Request) -> None:
    """Refuse a request that expects anything but 100-continue; those of HTTP/1.0 have no expectations.

    Raises:
        RequestError: 417.
    """
    expected = expectations(request.headers)
    if set(expected) - {CONTINUE} and request.scope.get("http_version") != "1.0":
        raise RequestError.unknown_expectation(", ".join(expected), CONTINUE)


class _Body:
    """The body of a request, and whether it was read to its end."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._receive = receive
        self._ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self.announced = CONTINUE in expectations(headers)  # the client waits to be asked for it

    async def receive(self) -> Message:
        message = await self._receive()
        self._ended = self._ended or not message.get("more_body", False)
        return message

    async def reach_end(self, limit: int, seconds: float) -> bool:
        """Read and discard the body, up to so many bytes and seconds; returns whether it has ended."""
        if self._ended or self.announced:
            return self._ended
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended and limit > 0:
                    limit -= len((await self.receive()).get("body", b""))
        return self._ended
