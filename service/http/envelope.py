"""What goes around every answer: the request's id, and an end to a body that nobody read."""

import asyncio
import contextlib
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestError
from service.http.problems import problem, request_id

CONTINUE = "100-continue"
ARRIVED_SECONDS = 0.02
"""For the end of a body that is not read: one that is here by then leaves the connection open."""
DISCARD_SECONDS = 5.0
DISCARD_FACTOR = 4
"""After a refusal this many times the limit is still read, so that the client sees the answer and not a reset."""
ABSOLUTE = re.compile("https?://", re.IGNORECASE)
TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}((?<!^00.{53})-[!-~]{0,200})?"
)
"""Of W3C's Trace Context, section 3.2."""


class Envelope:
    """ASGI middleware: a header or two for every answer, HEAD wherever there is GET, and no unread body.

    A refusal often comes before the body is read. Closing the connection then resets it, and the client sees that in
    place of the answer; keeping it open lets a body drip for ever. So the answer is sent, the body read on for a while,
    and the connection closed.

    Args:
        app: that answers.
        max_bytes: of an image; this times `DISCARD_FACTOR` is read of a body after its answer is known.
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
        request = Request(scope)
        body = _Body(request.headers, receive)

        linger = False

        async def answer(message: Message) -> None:
            nonlocal linger
            if message["type"] == "http.response.start":
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

        unknown = set(expectations(request.headers)) - {CONTINUE}
        app = expectation_failed if unknown and scope.get("http_version") != "1.0" else self._app
        await app(scope, body.receive, answer)


def add_headers(headers: MutableHeaders, request: Request) -> None:
    """What every answer carries: its request's id and trace, and that it is neither to be guessed at nor kept."""
    headers.raw.append((b"x-request-id", request_id(request).encode()))
    headers.raw.append((b"x-content-type-options", b"nosniff"))
    if "cache-control" not in headers:
        headers.raw.append((b"cache-control", b"no-store"))
    traceparent = request.headers.get("traceparent")
    if traceparent and TRACEPARENT.fullmatch(traceparent):
        headers.raw.append((b"traceparent", traceparent.encode()))


def expectations(headers: Headers) -> list[str]:
    """What the client expects, of all lines."""
    lines = headers.getlist("expect")
    return [word.strip().lower() for line in lines for word in line.split(",") if word.strip()]


async def expectation_failed(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a request that expects what is not known here."""
    expected = ", ".join(expectations(Headers(scope=scope)))[:50]
    refusal = RequestError(417, f"Expect: {expected} is not known. The only expectation that can be met is {CONTINUE}.")
    await problem(Request(scope), refusal)(scope, receive, send)


class _Body:
    """Of a request, and whether it was read to its end."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._receive = receive
        self._ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self.announced = CONTINUE in expectations(headers)  # the client waits to be asked for it

    async def receive(self) -> Message:
        message = await self._receive()
        self._ended = self._ended or not message.get("more_body", False)
        return message

    async def reach_end(self, limit: int, seconds: float) -> bool:
        """Read on up to so many bytes and seconds; whether the end was reached."""
        if self._ended or self.announced:
            return self._ended
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended and limit > 0:
                    limit -= len((await self.receive()).get("body", b""))
        return self._ended
