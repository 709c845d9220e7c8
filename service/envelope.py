"""What goes around every answer: the request's id, and an end to a body that nobody read."""

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.body import DISCARD_FACTOR, DISCARD_SECONDS
from service.problems import request_id


class Envelope:
    """ASGI middleware: a header or two for every answer, HEAD wherever there is GET, and no unread body.

    A refusal often comes before the body is read. Closing the connection then resets it, and the client sees that in
    place of the answer; keeping it open lets a body drip for ever.

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
        request = Request(scope)
        body = _Body(request.headers, receive)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["X-Request-ID"] = request_id(request)
                headers["X-Content-Type-Options"] = "nosniff"
                if traceparent := request.headers.get("traceparent"):
                    headers["traceparent"] = traceparent
                if "connection" not in headers and not await body.reach_end(self._limit):
                    headers["Connection"] = "close"
            await send(message)

        await self._app(scope, body.receive, answer)


class _Body:
    """Of a request, and whether it was read to its end."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._receive = receive
        self._ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._announced = "expect" in headers  # the client waits to be asked for its body

    async def receive(self) -> Message:
        message = await self._receive()
        self._ended = self._ended or not message.get("more_body", False)
        return message

    async def reach_end(self, limit: int) -> bool:
        """Read on up to so many bytes and `DISCARD_SECONDS`; whether the end was reached."""
        if self._ended or self._announced:
            return self._ended
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._ended and limit > 0:
                    limit -= len((await self.receive()).get("body", b""))
        return self._ended
