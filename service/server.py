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
from collections.abc import Callable, Iterator
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
LOOK_SECONDS = 0.02
"""Time between two looks whether every connection has ended."""
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
                signal.signal(number, signal.SIG_IGN)  # the process ends already, with the status that it has

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
        await self._hang_up(max(end - time.monotonic(), SEND_SECONDS))
        self.should_exit = True

    async def _hang_up(self, seconds: float) -> None:
        """Let the last answers go out, and then end every connection; uvicorn would answer what is left with a 500.

        Args:
            seconds: how long clients may take for answers that have begun. The others may begin a little later.
        """
        for server in getattr(self, "servers", []):  # none yet when the signal came first
            server.close()
        self._close_idle(lambda connection: connection.cycle is not None)
        await self._wait_for_connections(SEND_SECONDS)  # requests that have come may not be read yet
        self._close_idle(lambda _: True)
        await self._wait_for_connections(seconds - SEND_SECONDS)
        self._abort(lambda connection: connection.cycle is None or connection.cycle.response_started)
        await self._wait_for_connections(SEND_SECONDS)
        self._abort(lambda _: True)
        await self._wait_for_connections(SEND_SECONDS)

    def _close_idle(self, chosen: Callable[[GuardedProtocol], bool]) -> None:
        """Close these connections, those with a request as soon as it is answered."""
        for connection in self._connections(chosen):
            connection.shutdown()

    def _abort(self, chosen: Callable[[GuardedProtocol], bool]) -> None:
        """Cut off the clients of these connections, which do not take their answers or still send."""
        for connection in self._connections(chosen):
            connection.transport.abort()

    def _connections(self, chosen: Callable[[GuardedProtocol], bool]) -> list[GuardedProtocol]:
        everyone = [one for one in self.server_state.connections if isinstance(one, GuardedProtocol)]
        return [one for one in everyone if chosen(one)]

    async def _wait_for_connections(self, seconds: float) -> None:
        """Return when no connection is left and no task that answers a request, or after so many seconds."""
        end = time.monotonic() + seconds
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS)


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
