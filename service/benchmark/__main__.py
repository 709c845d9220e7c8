"""`python -m service.benchmark URL --image FILE`: how many requests a running service answers, and how fast.

Each of `--concurrency` clients keeps one connection and sends its next request when the last one is answered. One that
is refused waits as long as `Retry-After` says. Only the given address is asked: no proxy, no redirect.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no trace while modules are imported

from tqdm import tqdm

from model.interface import outputs
from service.benchmark.client import AddressError, Connection, Reply, Target
from service.http.forms import MEDIA_TYPES
from service.metrics import STAGES


class BenchmarkError(Exception):
    """Nothing can be measured. The message is one line and says what to do."""


@dataclass(frozen=True)
class Load:
    """What a number of clients saw.

    Attributes:
        concurrency: clients at once.
        seconds: how long they sent requests.
        requests_per_second: answers with status 200.
        latency_ms: p50, p90 and p99 of those answers.
        server_timing_ms: for each stage that the service reports, the median of those answers.
        statuses: answers by status; `lost` counts connections that ended without an answer.
    """

    concurrency: int
    seconds: float
    requests_per_second: float
    latency_ms: dict[str, float]
    server_timing_ms: dict[str, float]
    statuses: dict[str, int]


async def probe(target: Target, body: bytes) -> None:
    """Make sure that the service is ready and answers this image.

    Raises:
        BenchmarkError: it is not there, not ready, or refuses the image.
    """
    connection = Connection(target)
    try:
        health = await connection.send(target.request("GET", "/health/ready"))
        ready = health.fields()
        if "ready" not in ready:
            raise BenchmarkError(f"{target.url} is not this service: GET /health/ready answers {health.status}.")
        if not ready["ready"]:
            raise BenchmarkError(f"The service is not ready: {ready.get('reason')} Wait for /health/ready to be 200.")
        answer = await connection.send(target.request("POST", "/panoptic", body))
    except (OSError, AddressError) as error:
        raise BenchmarkError(f"{target.url} cannot be reached ({error}). Start the service, or correct URL.") from error
    finally:
        connection.close()
    if answer.status not in (200, 429, 503, 504):
        detail = answer.fields().get("detail", "It gives no reason.")
        raise BenchmarkError(f"The service answers {answer.status} to this request: {detail}")


async def measure(target: Target, body: bytes, clients: int, seconds: float, tick: Callable[[], Any]) -> Load:
    """What some clients saw that sent requests for some time; `tick` is called at each answer."""
    prepared = target.request("POST", "/panoptic", body)
    began = time.monotonic()
    end = began + seconds
    good: list[Reply] = []
    statuses: Counter[str] = Counter()

    async def client() -> None:
        connection = Connection(target)
        while time.monotonic() < end:
            wait = 1.0
            try:
                reply = await connection.send(prepared)
            except (OSError, AddressError):
                statuses["lost"] += 1
            else:
                tick()
                statuses[str(reply.status)] += 1
                wait = reply.retry_after
                if reply.status == 200:
                    reply.body = b""
                    good.append(reply)
            if wait:
                await asyncio.sleep(min(wait, max(0.0, end - time.monotonic())))
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return summarize(clients, time.monotonic() - began, good, statuses)


def summarize(clients: int, seconds: float, good: Sequence[Reply], statuses: Counter[str]) -> Load:
    """The figures of the good answers, and how many answers had each status."""
    latency = {f"p{share}": percentile([1000 * reply.seconds for reply in good], share) for share in (50, 90, 99)}
    timings = [reply.server_timing() for reply in good]
    stages = {stage: percentile([timing.get(stage, 0.0) for timing in timings], 50) for stage in STAGES}
    return Load(clients, seconds, len(good) / seconds, latency, stages, dict(sorted(statuses.items())))


def percentile(values: Sequence[float], share: int) -> float:
    """The least value that `share` per cent of the values do not exceed; 0 for no values."""
    return sorted(values)[max(0, -(-len(values) * share // 100) - 1)] if values else 0.0


def row(load: Load) -> str:
    """A load as a line of the table."""
    times = [*load.latency_ms.values(), *load.server_timing_ms.values()]
    statuses = ", ".join(f"{count} x {status}" for status, count in load.statuses.items())
    cells = [f"{load.concurrency:7d}", f"{load.requests_per_second:10.1f}", *(f"{ms:9.1f}" for ms in times), statuses]
    return f"| {' | '.join(cells)} |"


def heading() -> str:
    """The first two lines of the table."""
    times = ("p50 ms", "p90 ms", "p99 ms", *(f"{stage} ms" for stage in STAGES))
    names = ["clients", "requests/s", *(f"{name:>9}" for name in times), "statuses"]
    return f"| {' | '.join(names)} |\n|{'|'.join('-' * (len(name) + 2) for name in names)}|"


async def run(target: Target, body: bytes, concurrency: Sequence[int], seconds: float) -> list[Load]:
    """Probe the service, then measure it with each number of clients.

    Raises:
        BenchmarkError: the probe failed.
    """
    await probe(target, body)
    loads = []
    for clients in concurrency:
        with tqdm(desc=f"{clients} clients, {seconds:g} s", unit=" answers", mininterval=1.0) as bar:
            loads.append(await measure(target, body, clients, seconds, bar.update))
    return loads


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""

    def counts(text: str) -> list[int]:
        if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
            raise argparse.ArgumentTypeError(f"{text!r}; expected numbers of 1 to 9999, such as 1,8,32")
        return [int(word) for word in text.split(",")]

    def seconds(text: str) -> float:
        if not re.fullmatch(r"\d{1,5}(\.\d+)?", text) or float(text) == 0:
            raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, such as 10")
        return float(text)

    def key(text: str) -> str:
        if not text.isprintable():
            raise argparse.ArgumentTypeError("expected a key without line breaks or other control characters")
        return text

    def file(text: str) -> Path:
        if not text:
            raise argparse.ArgumentTypeError("expected a path, got ''")
        return Path(text)

    parser = argparse.ArgumentParser(prog="python -m service.benchmark", description=__doc__)
    parser.epilog = "Example: uv run python -m service.benchmark http://127.0.0.1:8000 --image street.jpg"
    add = parser.add_argument
    add("url", metavar="URL", help="the running service: http://HOST:PORT")
    add("--image", type=file, required=True, metavar="FILE", help="the image that every request sends")
    add("--concurrency", type=counts, default=[1, 8, 32], metavar="N,...", help="numbers of clients (1,8,32)")
    add("--duration", type=seconds, default=10.0, metavar="SECONDS", help="length of each measurement (10)")
    add("--accept", choices=MEDIA_TYPES, default=MEDIA_TYPES[0], help="form of the answer (JSON)")
    add("--api-key", type=key, metavar="KEY", help="where the service needs one")
    add("--json", type=file, metavar="FILE", help="file for the figures")
    return parser.parse_args(words)


def read(path: Path) -> bytes:
    """The bytes of the image file.

    Raises:
        BenchmarkError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read ({error.strerror}). Name an image file.") from error


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    arguments = parse(words)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if arguments.json:
            outputs.check_file(arguments.json, arguments.image)
        target = Target(arguments.url, arguments.accept, arguments.api_key)
        loads = asyncio.run(run(target, read(arguments.image), arguments.concurrency, arguments.duration))
        if arguments.json:
            report = {"url": target.url, "image": arguments.image.name, "accept": arguments.accept}
            content = {**report, "loads": [asdict(load) for load in loads]}
            outputs.write(arguments.json, json.dumps(content, indent=1) + "\n")
        print("\n".join([heading(), *map(row, loads)]))  # noqa: T201
        outputs.flush()
    except (OSError, AddressError, BenchmarkError, outputs.OutputError) as error:
        print(f"error: {error}{'' if str(error).endswith('.') else '.'}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing is written.", file=sys.stderr)  # noqa: T201
        return 130
    if not all(load.statuses.get("200") for load in loads):
        print("error: not every load had an answer with 200; see its statuses.", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
