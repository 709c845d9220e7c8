"""uvicorn with a drain: SIGTERM turns the service away from new work and lets accepted requests finish.

uvicorn alone closes its listener at once and raises the signal again.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from service.engine import Engine
from service.http.connection import GuardedProtocol
from service.settings import Settings

log = logging.getLogger(__name__)

LINGER_SECONDS = 1.0
"""The listener stays open at least this long after SIGTERM, so that balancers see the refusals."""
WORKER_STOP_SECONDS = 1.0
"""Kept of the time to drain for the end of the workers."""
SEND_SECONDS = 0.5
"""For the last answers to go out."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


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
        self._hurried = False
        engine.on_failure = self._stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain at the first signal, stop at the second; never raise them again, so that the exit status is 0."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        else:
            self._hurried = True

    def _stop(self) -> None:
        self.should_exit = True

    async def _drain(self) -> None:
        engine = self._engine
        log.info("draining: %d requests in flight, %g s at most", engine.inflight, self._drain_seconds)
        engine.draining = True
        began = time.monotonic()
        end = began + self._drain_seconds - WORKER_STOP_SECONDS
        await self._until(lambda: not engine.inflight and time.monotonic() > began + LINGER_SECONDS, end)
        if engine.inflight:
            log.warning("gave up %d requests that were in flight", engine.inflight)
            engine.give_up()
        answers = self.server_state.tasks
        await self._until(lambda: not answers, max(end, time.monotonic() + SEND_SECONDS))
        for connection in list(self.server_state.connections):
            if isinstance(connection, GuardedProtocol) and connection.busy:
                connection.transport.abort()  # it does not take its answer
        left = SEND_SECONDS if self._hurried else max(end - time.monotonic(), SEND_SECONDS)
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]  # for what is written to be sent
        self.should_exit = True

    async def _until(self, condition: Callable[[], bool], end: float) -> None:
        """Return when the condition is met, it is too late, or there is no time to wait."""
        end_of_hurry = time.monotonic() + SEND_SECONDS
        while not condition() and time.monotonic() < (min(end, end_of_hurry) if self._hurried else end):
            await asyncio.sleep(0.02)


def leave(status: int) -> NoReturn:
    """End the process now: Python itself would wait for threads that still decode for clients long gone."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


def make_server(app: FastAPI, settings: Settings) -> DrainingServer:
    """The server of an application of `create_app`, logging as its process does."""
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
