"""uvicorn with a drain: after SIGTERM new work is refused and accepted requests finish.

uvicorn alone closes its listener at once and raises the signal again.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from service.engine import Engine
from service.http.connection import GuardedProtocol
from service.settings import Settings

log = logging.getLogger(__name__)

LINGER_SECONDS = 1.0
"""The listener stays open at least this long after SIGTERM, so that load balancers see the refusals."""
WORKER_STOP_SECONDS = 1.0
"""The part of the time to drain that is kept for ending the workers."""
SEND_SECONDS = 0.5
"""How long the last answers may take to be sent."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class DrainingServer(uvicorn.Server):
    """A server that drains before it stops.

    Args:
        config: uvicorn's.
        engine: takes no new work from the first signal on.
        drain_seconds: what the drain takes at most.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, drain_seconds: float) -> None:
        super().__init__(config)
        self._engine, self._drain_seconds = engine, drain_seconds
        self._drains: list[asyncio.Task[None]] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain at the first signal, stop at the second; never raise them again, so that the exit status is 0."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        failure = loop.create_task(self._stop_if_start_fails())
        try:
            yield
        finally:
            failure.cancel()
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    async def _stop_if_start_fails(self) -> None:
        with contextlib.suppress(Exception):  # it is in the log
            await self._engine.wait_ready()
        if self._engine.failed:
            self.should_exit = True

    def _on_signal(self) -> None:
        if not self._drains:
            log.info("draining: %d requests in flight, %g s at most", self._engine.inflight, self._drain_seconds)
            self._drains.append(asyncio.ensure_future(self._drain(self._drain_seconds - WORKER_STOP_SECONDS)))
        elif len(self._drains) == 1:  # in a hurry
            self._drains[0].cancel()
            self._drains.append(asyncio.ensure_future(self._drain(0.0)))

    async def _drain(self, seconds: float) -> None:
        """Stop when every request is answered, or soon after so many seconds."""
        end = time.monotonic() + seconds
        linger = asyncio.sleep(min(LINGER_SECONDS, seconds))
        given_up, _ = await asyncio.gather(self._engine.drain(seconds), linger)
        if given_up:
            log.warning("gave up %d requests that were in flight", given_up)
        if answers := self.server_state.tasks:
            await asyncio.wait(answers, timeout=max(end - time.monotonic(), SEND_SECONDS))
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedProtocol) and connection.busy:
                connection.transport.abort()  # its client does not take the answer
        left = max(end - time.monotonic(), SEND_SECONDS)  # to send the bytes that are written already
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]  # uvicorn's type is a whole number
        self.should_exit = True


def leave(status: int) -> NoReturn:
    """End the process now: Python would wait for threads that still decode images nobody waits for."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def make_server(app: FastAPI, settings: Settings) -> DrainingServer:
    """The server of an application that `create_app` made; it logs as its process does."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=GuardedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks for a client's address
        timeout_graceful_shutdown=1,
    )
    return DrainingServer(config, app.state.engine, settings.drain_seconds)
