"""uvicorn with a drain: SIGTERM turns the service away from new work and lets accepted requests finish.

uvicorn alone closes its listener at once and raises the signal again, and waits for ever for headers.
"""

import asyncio
import contextlib
import logging
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.engine import Engine
from service.settings import Settings

log = logging.getLogger(__name__)

HEADER_SECONDS = 10.0
"""For the headers of a request to arrive, from the opening of the connection or the first byte."""
HEADER_BYTES = 65_536
"""Of a request, at most; the parser itself would take any number."""
STALL_SECONDS, STALL_BYTES = 10.0, 131_072
"""A client that does not take so much of its answer in that time is cut off: the answer would stay in memory."""
UPGRADE = re.compile(rb"(?<=\n)upgrade:[ \t]*h2c[ \t]*\r\n", re.IGNORECASE)
LINGER_SECONDS = 1.0
"""The listener stays open at least this long after SIGTERM, so that balancers see the refusals."""
WORKER_STOP_SECONDS = 1.0
"""Kept of the time to drain for the end of the workers."""


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers do not arrive in time or do not end, or that does not take its answer.

    An offer to change to HTTP/2 (`Upgrade: h2c`, as Java's client makes it) is not heard: the parser would take the
    body for the other protocol's.
    """

    _guard: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _between = True
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start to wait for headers."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to unfinished headers."""
        waiting = self._guard
        head = data.find(b"\r\n\r\n") + 2 if self._between else 0
        if offer := UPGRADE.search(data, 0, head):  # never in a body, whose length would then be wrong
            data = data[: offer.start()] + data[offer.end() :]
        super().data_received(data)
        if waiting and self._guard is waiting:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a further request starts the wait anew."""
        super().on_message_begin()
        self._between = False
        if self._guard is None:
            self._watch()

    def on_message_complete(self) -> None:
        """What comes next is a request's beginning."""
        super().on_message_complete()
        self._between = True

    def on_headers_complete(self) -> None:
        """They are here."""
        self._unwatch()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client is behind with reading."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self._check_progress, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self._stall:
            self._stall.cancel()
            self._stall = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        self._unwatch()
        if self._stall:
            self._stall.cancel()
        super().connection_lost(exc)

    def _check_progress(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > before - STALL_BYTES:
            self.transport.abort()  # `close` would wait for the client
        else:
            self._stall = self.loop.call_later(STALL_SECONDS, self._check_progress, left)

    def _watch(self) -> None:
        self._header_bytes = 0
        self._guard = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _unwatch(self) -> None:
        if self._guard:
            self._guard.cancel()
            self._guard = None


class DrainingServer(uvicorn.Server):
    """Stops in two steps.

    Args:
        config: of uvicorn.
        engine: that is asked to drain.
        drain_seconds: at most.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, drain_seconds: float) -> None:
        super().__init__(config)
        self._engine, self._drain_seconds = engine, drain_seconds
        self._draining: asyncio.Task[None] | None = None
        engine.on_failure = self._stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain at the first signal, stop at the second; never raise them again, so that the exit status is 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        else:
            self.force_exit = self.should_exit = True

    def _stop(self) -> None:
        self.should_exit = True

    async def _drain(self) -> None:
        log.info("draining: %d requests in flight, %g s at most", self._engine.inflight, self._drain_seconds)
        self._engine.draining = True
        end = time.monotonic() + self._drain_seconds - WORKER_STOP_SECONDS
        await asyncio.sleep(LINGER_SECONDS)
        while self._engine.inflight and time.monotonic() < end:
            await asyncio.sleep(0.02)
        self.config.timeout_graceful_shutdown = max(end - time.monotonic(), 0.5)  # type: ignore[assignment]  # to send
        self.should_exit = True


def make_server(app: FastAPI, settings: Settings) -> DrainingServer:
    """The server of an application of `create_app`, logging as its process does."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=GuardedProtocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here asks for a client's address
        timeout_graceful_shutdown=1,
    )
    return DrainingServer(config, app.state.engine, settings.drain_seconds)
