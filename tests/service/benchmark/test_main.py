"""`python -m service.benchmark`, as a user starts it, against the service with emulated workers."""

import asyncio
import contextlib
import http.server
import io
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from service.benchmark.__main__ import percentile, summarize
from service.benchmark.client import Reply
from tests.paths import ROOT
from tests.resilience.client import Connection, free_port, our_server, request, serving


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (10, 10, 10)).save(file, "JPEG")
    (tmp_path / "photo.jpg").write_bytes(file.getvalue())
    return tmp_path / "photo.jpg"


def benchmark(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.benchmark", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a known mistake."""
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert line.endswith(".")
    return line


@contextlib.contextmanager
def stranger(status: int, **headers: str) -> Iterator[tuple[str, Counter[str]]]:
    """A server of something else, and what it was asked for."""
    asked: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked[self.path] += 1
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_table_and_json_agree_with_what_the_service_counted(photo: Path, tmp_path: Path) -> None:
    async def scenario() -> tuple[subprocess.CompletedProcess[str], str]:
        port = free_port()
        async with serving(our_server(port), port):
            words = ["--image", str(photo), "--concurrency", "1,8", "--duration", "0.5", "--accept", "image/png"]
            url, file = f"http://127.0.0.1:{port}", str(tmp_path / "figures.json")
            done = await asyncio.to_thread(benchmark, url, *words, "--json", file)
            probe = Connection(port)
            metrics = (await probe.send(request(b"", "/metrics", "GET"))).body.decode()
            await probe.close()
        return done, metrics

    done, metrics = asyncio.run(scenario())
    assert done.returncode == 0, done.stderr
    loads = json.loads((tmp_path / "figures.json").read_text())["loads"]
    assert [load["concurrency"] for load in loads] == [1, 8]
    good = sum(load["statuses"]["200"] for load in loads)
    assert f'upsnet_requests_total{{code="ok",status="200"}} {good + 1}.0' in metrics  # one to probe
    for load, line in zip(loads, done.stdout.splitlines()[2:], strict=True):
        assert load["requests_per_second"] == load["statuses"]["200"] / load["seconds"]
        assert 25 < load["latency_ms"]["p50"] <= load["latency_ms"]["p90"] <= load["latency_ms"]["p99"]
        assert load["server_timing_ms"]["infer"] > 20  # what the emulated model takes
        assert f"{load['statuses']['200']} x 200" in line
    assert loads[1]["requests_per_second"] > loads[0]["requests_per_second"]


def test_a_key_is_sent_and_a_missing_one_is_one_line(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSNET_API_KEYS", "secret")

    async def scenario() -> list[subprocess.CompletedProcess[str]]:
        port = free_port()
        words = [f"http://127.0.0.1:{port}", "--image", str(photo), "--concurrency", "1", "--duration", "0.1"]
        async with serving(our_server(port), port):
            return [await asyncio.to_thread(benchmark, *words, *key) for key in ([], ["--api-key", "secret"])]

    without, with_key = asyncio.run(scenario())
    assert "answers 401" in refused(without)
    assert with_key.returncode == 0, with_key.stderr


def test_nobody_there_is_one_line(photo: Path) -> None:
    assert "cannot be reached" in refused(benchmark(f"http://127.0.0.1:{free_port()}", "--image", str(photo)))


def test_a_missing_image_is_one_line() -> None:
    assert "missing.jpg cannot be read" in refused(benchmark("http://127.0.0.1:9", "--image", "missing.jpg"))


def test_the_output_is_looked_at_first(photo: Path, tmp_path: Path) -> None:
    """Before the service, which is not there."""
    (tmp_path / "folder").mkdir()
    for json_file, part in (
        (tmp_path / "folder", "is a folder"),
        (photo / "x.json", "is no folder"),
        (Path("/proc/x.json"), "cannot be written"),
        (photo, "is read by this command too"),
    ):
        assert part in refused(benchmark("http://127.0.0.1:9", "--image", str(photo), "--json", str(json_file)))
    assert "cannot be reached" in refused(
        benchmark(f"http://127.0.0.1:{free_port()}", "--image", str(photo), "--json", str(tmp_path / "new/x.json"))
    )
    assert list((tmp_path / "new").iterdir()) == []


def test_an_interrupt_and_a_reader_that_has_ended_are_one_line(photo: Path) -> None:
    async def scenario() -> list[tuple[int, str]]:
        port = free_port()
        words = f"-m service.benchmark http://127.0.0.1:{port} --image {photo} --concurrency 1 --duration"
        ended = []
        async with serving(our_server(port), port):
            stopped = f"timeout --foreground --preserve-status -s INT 2 {sys.executable} {words} 30; exit $?"
            closed = f"{sys.executable} {words} 0.1 | true; exit ${{PIPESTATUS[0]}}"
            for command in (stopped, closed):
                done = await asyncio.to_thread(
                    subprocess.run, ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60
                )
                ended.append((done.returncode, done.stderr.splitlines()[-1]))
                assert "Traceback" not in done.stderr
        return ended

    stopped, closed = asyncio.run(scenario())
    assert stopped == (130, "error: interrupted; nothing is written.")
    assert closed == (1, "error: [Errno 32] Broken pipe.")


def test_another_server_is_one_line(photo: Path) -> None:
    with stranger(404) as (url, _):
        assert "not this service" in refused(benchmark(url, "--image", str(photo)))


def test_a_redirect_is_not_followed(photo: Path) -> None:
    with stranger(200) as (elsewhere, asked), stranger(307, Location=elsewhere) as (url, _):
        assert "answers 307" in refused(benchmark(url, "--image", str(photo)))
    assert not asked


@pytest.mark.parametrize(
    "words",
    [
        ["--concurrency", "0"],
        ["--concurrency", "1,x"],
        ["--concurrency", ""],
        ["--duration", "-1"],
        ["--duration", "0.0"],
        ["--duration", "nan"],
        ["--duration", "inf"],
        ["--api-key", "a\nb"],
        ["--json", ""],
    ],
)
def test_bad_usage_exits_with_2(words: list[str]) -> None:
    done = benchmark("http://127.0.0.1:9", "--image", "photo.jpg", *words)
    assert done.returncode == 2
    assert "expected" in done.stderr


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert [percentile(range(1, 101), share) for share in (50, 90, 99)] == [50, 90, 99]
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 50) == 0.0


def test_only_good_answers_are_timed() -> None:
    headers = {b"server-timing": b"decode;dur=1.5, queue;dur=2.0, infer;dur=20.0, encode;dur=0.5"}
    good = [Reply(200, seconds, headers, b"") for seconds in (0.01, 0.02, 0.03, 0.04)]
    load = summarize(2, 2.0, good, Counter({"429": 3, "200": 4}))
    assert load.requests_per_second == 2.0
    assert load.latency_ms == {"p50": 20.0, "p90": 40.0, "p99": 40.0}
    assert load.server_timing_ms == {"decode": 1.5, "queue": 2.0, "infer": 20.0, "encode": 0.5}
    assert load.statuses == {"200": 4, "429": 3}
