"""The service against LitServe, in one run.

    uv run --with litserve==0.2.19 python -m tests.comparison

Loopback only; the model takes T(n) = 20 + 5 n ms without CPU, so batches of 8 give 133 images a second at best.
"""

import argparse
import asyncio
import contextlib
import io
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.resilience.client import (
    Connection,
    Reply,
    closed_loop,
    cpu_seconds,
    free_port,
    our_server,
    percentile,
    request,
    serving,
)
from tests.service.emulated import image, standard

IDEAL = 8 / 0.060
CLIENTS = (16, 64, 256)


def photo() -> bytes:
    """A 640x480 JPEG of smooth noise, 100 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def form(path: str, accept: str) -> bytes:
    head = b'--boundary\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
    body = head + photo() + b"\r\n--boundary--\r\n"
    return request(body, path, Content_Type="multipart/form-data; boundary=boundary", Accept=accept)


async def measure(port: int, pid: int, prepared: bytes, clients: int, seconds: float) -> dict[str, float]:
    await closed_loop(port, prepared, clients, 2.0)
    cpu, loop, began = cpu_seconds(pid), main_thread_seconds(pid), time.monotonic()
    replies = await closed_loop(port, prepared, clients, seconds)
    took = time.monotonic() - began
    good = [reply.seconds for reply in replies if reply.status == 200]
    return {
        "rate": len(good) / took,
        "p50": 1000 * statistics.median(good),
        "p99": 1000 * percentile(good, 0.99),
        "cpu": 1000 * (cpu_seconds(pid) - cpu) / len(replies),
        "loop": 1000 * (main_thread_seconds(pid) - loop) / len(replies),
        "failed": len(replies) - len(good),
    }


def main_thread_seconds(pid: int) -> float:
    """CPU time of the thread that runs the event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


async def live_under_load(port: int, prepared: bytes, seconds: float) -> float:
    """p99 of /health/live, ms, with 64 clients."""
    probes: list[Reply] = []

    async def probe() -> None:
        connection = Connection(port)
        while True:
            probes.append(await connection.send(request(b"", "/health/live", "GET")))
            await asyncio.sleep(0.01)

    task = asyncio.ensure_future(probe())
    await closed_loop(port, prepared, 64, seconds)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return 1000 * percentile([reply.seconds for reply in probes], 0.99)


async def idle(pid: int) -> float:
    """CPU of an idle server, per cent of a core."""
    await asyncio.sleep(1.0)
    before = cpu_seconds(pid)
    await asyncio.sleep(10.0)
    return 10 * (cpu_seconds(pid) - before)


def bare_call_ms() -> float:
    """The model alone, one image."""
    predictor, times = standard(), []
    for _ in range(40):
        began = time.monotonic()
        predictor.predict([image(height=480, width=640)])
        times.append(time.monotonic() - began)
    return 1000 * statistics.median(times)


async def compare(seconds: float) -> None:
    ports = {"ours": free_port(), "LitServe": free_port()}
    requests = {"ours": form("/panoptic", "image/png"), "LitServe": form("/predict", "image/png")}
    rows: dict[str, dict[Any, Any]] = {name: {} for name in ports}
    theirs = [sys.executable, "tests/comparison/litserve_stub.py", str(ports["LitServe"])]
    async with (
        serving(our_server(ports["ours"], "--max-queue", "512"), ports["ours"]) as ours_pid,
        serving(theirs, ports["LitServe"], "/health") as theirs_pid,
    ):
        pids = {"ours": ours_pid, "LitServe": theirs_pid}
        for name in ports:
            rows[name]["idle"] = await idle(pids[name])
        for clients in (1, *CLIENTS):
            for name in ports:
                rows[name][clients] = await measure(ports[name], pids[name], requests[name], clients, seconds)
        live = await live_under_load(ports["ours"], requests["ours"], seconds)
    show(rows, live)


def show(rows: dict[str, dict[Any, Any]], live: float) -> None:
    ours, theirs, bare = rows["ours"], rows["LitServe"], bare_call_ms()
    print("| what | ours | LitServe | ratio |\n|---|---|---|---|")
    for clients in CLIENTS:
        a, b = ours[clients], theirs[clients]
        share = f"{a['rate']:.1f}/s ({100 * a['rate'] / IDEAL:.1f} % of ideal)"
        print(f"| {clients} clients, requests | {share} | {b['rate']:.1f}/s | {a['rate'] / b['rate']:.2f}x |")
        print(f"| {clients} clients, p99 | {a['p99']:.0f} ms | {b['p99']:.0f} ms | {a['p99'] / b['p99']:.2f}x |")
        if a["failed"] or b["failed"]:
            print(f"| {clients} clients, failed | {a['failed']:.0f} | {b['failed']:.0f} | |")
    a, b = ours[1]["p50"] - bare, theirs[1]["p50"] - bare
    print(f"| added p50 at one client | {a:.1f} ms | {b:.1f} ms | {a / b:.2f}x |")
    a, b = ours[64]["cpu"], theirs[64]["cpu"]
    print(f"| server CPU a request, 64 clients | {a:.2f} ms | {b:.2f} ms | {a / b:.2f}x |")
    print(f"| of it, the event loop's thread | {ours[64]['loop']:.2f} ms | | |")
    print(f"| idle CPU | {ours['idle']:.1f} % | {theirs['idle']:.1f} % | |")
    print(f"| /health/live p99 at 64 clients | {live:.1f} ms | | |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    arguments = parser.parse_args()
    asyncio.run(compare(arguments.seconds))
