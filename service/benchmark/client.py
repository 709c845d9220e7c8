"""The client of `service.benchmark`: prepared requests over one kept connection, answers parsed in C.

A general client (requests, httpx, aiohttp) takes about as much time for a request as the service does, and would
measure itself. httptools parses in C.
"""

import asyncio
import json
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import httptools

PATIENCE_SECONDS = 90.0
"""Time for one answer: three times the service's own deadline."""


class AddressError(Exception):
    """The address cannot be used, or what answers there does not speak HTTP."""


class Target:
    """The address of a service, and the headers of every request to it.

    Args:
        url: http or https; a path in it goes before each route.
        accept: media type of the answer.
        api_key: sent as `X-API-Key` if given.

    Raises:
        AddressError: the URL is not an http or https address.
    """

    def __init__(self, url: str, accept: str = "application/json", api_key: str | None = None) -> None:
        try:
            parts = urlsplit(url)
            self.host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise AddressError(f"{url!r} is no address ({error}); expected http://HOST:PORT") from error
        if parts.scheme not in ("http", "https") or not self.host or parts.username or not url.isprintable():
            raise AddressError(f"{url!r} is no address of a service; expected http://HOST:PORT")
        self.url, self._path = url, parts.path.rstrip("/").removesuffix("/panoptic")
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = port or (443 if self.tls else 80)
        self._fields = [f"Host: {parts.netloc}", f"Accept: {accept}"] + ([f"X-API-Key: {api_key}"] if api_key else [])

    def request(self, method: str, route: str, body: bytes = b"") -> bytes:
        """The bytes of a request, to be sent any number of times."""
        lines = [f"{method} {self._path}{route} HTTP/1.1", *self._fields]
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"] if body else []
        return "\r\n".join([*lines, "", ""]).encode() + body


class Reply:
    """An answer, and the seconds from the request's first byte to the answer's last."""

    def __init__(self, status: int, seconds: float, headers: dict[bytes, bytes], body: bytes) -> None:
        self.status, self.seconds, self.headers, self.body = status, seconds, headers, body

    def fields(self) -> dict[str, Any]:
        """The fields of a JSON object; empty if the body is something else."""
        try:
            fields = json.loads(self.body)
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}

    @property
    def retry_after(self) -> float:
        """Seconds to wait before the next try; 0 if the service names none."""
        given = self.headers.get(b"retry-after", b"")
        return float(given) if given.isdigit() else 0.0

    def server_timing(self) -> dict[str, float]:
        """Milliseconds of each stage, from Server-Timing."""
        entries = (
            entry.strip().split(";dur=") for entry in self.headers.get(b"server-timing", b"").decode().split(",")
        )
        return {entry[0]: float(entry[1]) for entry in entries if len(entry) == 2}


class Connection:
    """One connection to a target, opened at the first request and after its end."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stream: _Stream | None = None

    async def send(self, prepared: bytes) -> Reply:
        """The answer to a request.

        Raises:
            OSError: the connection could not be made, or ended before the answer did.
            AddressError: the other side does not speak HTTP.
        """
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):  # TimeoutError is an OSError
            if self._stream is None or self._stream.closed:
                loop, target = asyncio.get_running_loop(), self._target
                _, self._stream = await loop.create_connection(_Stream, target.host, target.port, ssl=target.tls)
            status, headers, body = await self._stream.exchange(prepared)
        return Reply(status, time.monotonic() - began, headers, body)

    def close(self) -> None:
        """End the connection."""
        if self._stream:
            self._stream.close()


class _Stream(asyncio.Protocol):
    """The bytes of one connection, parsed by httptools, which calls the methods `on_*`."""

    def __init__(self) -> None:
        self.closed = self._ends_with_connection = False
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, dict[bytes, bytes], bytes]] | None = None

    async def exchange(self, prepared: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(prepared)
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.closed = True
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(AddressError(f"it does not speak HTTP ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if exc is None and self._ends_with_connection:
            self.on_message_complete()
        self._fail(exc or ConnectionResetError("the connection ended before the answer did"))

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._ends_with_connection = self._headers.keys().isdisjoint((b"content-length", b"transfer-encoding"))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), self._headers, b"".join(self._body)))
