"""How long the event loop is held: `python -m tests.comparison.hold`.

The service runs on asyncio's own loop here, whose every callback is timed; the client is another process. CPU time is
the loop's own doing, wall time also what other programs and threads took from it.
"""

import asyncio
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from service import app as application
from service.http.connection import GuardedProtocol
from service.http.forms import MEDIA_TYPES
from service.memory import settle
from service.settings import Settings
from tests.comparison.__main__ import photo
from tests.paths import ROOT
from tests.resilience.client import Connection, closed_loop, free_port, percentile, request
from tests.resilience.serve import emulated


def large_photo() -> bytes:
    """A 3872x2592 JPEG, 10 megapixels."""
    noise = np.random.default_rng(0).integers(0, 256, (324, 484, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((3872, 2592), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def time_callbacks() -> list[tuple[float, float]]:
    """Wall and CPU seconds of each callback of this process's loops, from now on."""
    spans: list[tuple[float, float]] = []
    run = asyncio.events.Handle._run

    def timed(handle: Any) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        run(handle)
        spans.append((time.perf_counter() - wall, time.thread_time() - cpu))

    asyncio.events.Handle._run = timed  # type: ignore[method-assign]
    return spans


async def client(port: int, form: str, clients: int, seconds: float) -> int:
    """The client's process: how many good answers."""
    if clients == 1:
        connection, prepared = Connection(port), request(large_photo(), Accept=form)
        statuses = [(await connection.send(prepared)).status for _ in range(8)]
        await connection.close()
    else:
        replies = await closed_loop(port, request(photo(), Accept=form), clients, seconds)
        statuses = [reply.status for reply in replies]
    assert set(statuses) == {200}
    return len(statuses)


async def scenario() -> None:
    port = free_port()
    settings = Settings(model=Path(__file__), port=port, max_batch_size=8, max_queue=512, warmup_sizes=())
    application.load_predictor = standard_device  # type: ignore[assignment]
    application.import_predictor = lambda _: None
    app = application.create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", access_log=False, http=GuardedProtocol))
    settle()
    serving = asyncio.ensure_future(server.serve())
    await app.state.engine.wait_ready()
    spans = time_callbacks()
    print("| answers | event loop held, CPU: most | p99.9 | wall: most | p99.9 |\n|---|---|---|---|---|")
    for form, clients in [(form, 1) for form in MEDIA_TYPES] + [("application/json", 64)]:
        command = [sys.executable, "-m", "tests.comparison.hold", str(port), form, str(clients)]
        spans.clear()
        await asyncio.to_thread(subprocess.run, command, check=True)
        wall, cpu = ([1000 * value for value in column] for column in zip(*spans, strict=True))
        what = f"{form}, 10 Mpx" if clients == 1 else f"{form}, 640x480, {clients} clients"
        print(
            f"| {what} | {max(cpu):.1f} ms | {percentile(cpu, 0.999):.1f} ms "
            f"| {max(wall):.1f} ms | {percentile(wall, 0.999):.1f} ms |"
        )
    server.should_exit = True
    await serving


def standard_device(*_: object) -> Any:
    return emulated(20.0)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(client(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 8.0))
    else:
        os.environ["PYTHONPATH"] = str(ROOT)
        asyncio.run(scenario())
