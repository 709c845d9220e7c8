"""The engine's life, with a backend that does what the test says when it says so, and an image's way through it."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from model.interface.codec import encode_png
from service.engine import FEW, Timing
from service.errors import DeadlineExceededError, ImageRefusedError, NotReadyError, QueueFullError
from service.failures import WorkerStartError
from tests.service.devices import in_loop, turns
from tests.service.emulated import SERVED, image
from tests.service.engines import FORM, ask, background, gauge, make, started, until, upload


@in_loop
async def test_it_loads_then_serves_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine, backend = make(tmp_path)
    waiting = background(engine.wait_ready())
    starting = background(engine.start())
    await turns()
    assert not waiting.done()
    assert (engine.not_ready, engine.served) == (("The model is loading.", 6.5), None)
    assert gauge(engine, "ready") == 0
    with pytest.raises(NotReadyError, match=r"The model is loading\. Try again soon\.") as refusal:
        engine.check_ready()
    assert refusal.value.retry_after == 7
    backend.loaded.set()
    await waiting
    await starting
    assert (engine.not_ready, engine.served) == (None, SERVED)
    assert engine.check_ready().served.metadata.categories.colors == {7: (128, 64, 128), 26: (0, 0, 142)}
    assert gauge(engine, "ready") == 1
    assert gauge(engine, 'model_info{device="cpu",kernel="none",name="emulated@00000000",precision="float32"}') == 1
    said = (
        f"emulated@00000000 on cpu, float32, kernel none, threads: network 1, decode {engine.settings.decode_threads}"
    )
    assert f"ready: {said}" in caplog.text
    await engine.close()


@pytest.mark.parametrize("error", [WorkerStartError("no such archive"), ValueError("a bug")], ids=["foreseen", "bug"])
def test_a_failed_start_is_logged_and_told_to_who_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def scenario() -> None:
        engine, backend = make(tmp_path)
        backend.error = error
        backend.loaded.set()
        await engine.start()
        assert engine.failed
        for _ in range(2):
            with pytest.raises(type(error), match=str(error)):
                await engine.wait_ready()
        assert engine.not_ready == ("The model is loading.", 5.0)  # clients do not read why
        await engine.drain(0.0)
        await engine.close()
        assert engine.failed
        assert backend.closed

    asyncio.run(scenario())
    assert f"cannot start: {error}" in caplog.text
    assert ("Traceback" in caplog.text) is isinstance(error, ValueError)


@in_loop
async def test_no_work_is_taken_while_no_worker_lives(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        backend.become(0)
        assert engine.not_ready == ("The worker is restarting.", 6.5)
        assert engine.served == SERVED
        with pytest.raises(NotReadyError, match=r"The worker is restarting\. Try again soon\."), engine.request():
            pass
        backend.become(1)
        assert await ask(engine)


@in_loop
async def test_what_waits_goes_on_when_a_worker_is_back(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        asking = background(ask(engine))
        await turns(1)
        backend.become(0)
        await until(lambda: engine.admission.pixels)
        await asyncio.sleep(0.05)
        assert backend.batches == []
        backend.become(1)
        await asking
        assert backend.batches == [1]


@in_loop
async def test_a_drain_refuses_new_work_and_waits_for_what_was_taken(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        backend.gate.clear()
        asking = background(ask(engine))
        await until(lambda: backend.batches)
        draining = background(engine.drain(20.0))
        await turns()
        assert engine.draining
        assert (engine.not_ready, engine.inflight) == (("The service is stopping.", 5.0), 1)
        assert engine.served == SERVED
        with pytest.raises(NotReadyError, match=r"The service is stopping\. Try again soon\."):
            await ask(engine)
        assert not draining.done()
        backend.gate.set()
        assert await draining == 0
        assert await asking


@in_loop
async def test_what_outlives_the_drain_is_given_up(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        backend.gate.clear()
        asking = [background(ask(engine)) for _ in range(3)]
        await until(lambda: engine.inflight == 3)
        began = time.monotonic()
        assert await engine.drain(0.2) == 3
        assert 0.2 <= time.monotonic() - began < 10.0
        for one in asking:
            with pytest.raises(NotReadyError, match=r"The service has stopped\. Try again soon\."):
                await one
        assert engine.inflight == 0


@in_loop
async def test_a_second_drain_may_be_shorter(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        backend.gate.clear()
        asking = background(ask(engine))
        await until(lambda: backend.batches)
        first = background(engine.drain(20.0))
        await turns()
        assert await engine.drain(0.0) == 1
        assert await first == 0
        with pytest.raises(NotReadyError):
            await asking


@in_loop
async def test_a_drain_without_requests_returns_at_once(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        assert await engine.drain(0.0) == 0


@in_loop
@pytest.mark.parametrize("error", [None, WorkerStartError("its file is gone")])
async def test_a_drain_during_the_start_lasts(tmp_path: Path, error: Exception | None) -> None:
    engine, backend = make(tmp_path)
    backend.error = error
    waiting, starting = background(engine.wait_ready()), background(engine.start())
    await turns()
    assert await engine.drain(1.0) == 0
    with pytest.raises(NotReadyError, match="The service is stopping"):
        await waiting
    backend.loaded.set()
    await starting
    assert (engine.not_ready, engine.served, engine.failed) == (("The service is stopping.", 5.0), None, False)
    await engine.close()
    assert backend.closed


@in_loop
async def test_a_request_that_is_cancelled_by_its_client_stays_cancelled(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        backend.gate.clear()
        asking = background(ask(engine))
        await until(lambda: backend.batches)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (engine.inflight, engine.admission.pixels) == (0, 0)


@in_loop
async def test_closing_fails_what_still_runs(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        backend.gate.clear()
        asking = background(ask(engine))
        await until(lambda: backend.batches)
        await engine.close()
        with pytest.raises(NotReadyError):
            await asking


@in_loop
async def test_times_and_pixels_are_accounted_for(tmp_path: Path) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        timing = Timing(time.monotonic() + 20.0)
        held = upload(engine, encode_png(image()))
        assert gauge(engine, "upload_bytes") == engine.uploads.held > 0
        await engine.segment(held, FORM, False, "id", timing)
        assert (engine.uploads.held, engine.admission.pixels, engine.admission.waiting) == (0, 0, 0)
        assert timing.decode > 0
        assert timing.encode > 0
        parts = [part.split(";dur=") for part in timing.header().split(", ")]
        assert [name for name, _ in parts] == ["decode", "queue", "infer", "encode"]
        assert float(parts[0][1]) == pytest.approx(1000 * timing.decode, abs=0.1)


@pytest.mark.parametrize(("requests", "on_thread"), [(1, False), (FEW, False), (FEW + 1, True)])
@in_loop
async def test_the_event_loop_writes_small_answers_while_few_requests_are_in_flight(
    tmp_path: Path, requests: int, on_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, backend = make(tmp_path)
    async with started(engine, backend):
        told: list[bool] = []
        encode = engine._images.encode

        async def noting(build: Any, pixels: int, on_thread: bool, deadline: float) -> Any:
            told.append(on_thread)
            return await encode(build, pixels, on_thread, deadline)

        monkeypatch.setattr(engine._images, "encode", noting)
        backend.gate.clear()
        asking = [background(ask(engine)) for _ in range(requests)]
        await until(lambda: engine.inflight == requests and backend.batches)
        backend.gate.set()
        await asyncio.gather(*asking)
        assert told[0] is on_thread


@in_loop
async def test_what_is_refused_gives_everything_back(tmp_path: Path) -> None:
    engine, backend = make(tmp_path, max_queue_pixels=5000, max_pixels=4000)
    async with started(engine, backend):
        with pytest.raises(ImageRefusedError):
            await ask(engine, image(height=80, width=80))
        backend.gate.clear()
        asking = background(ask(engine))  # 3072 pixels
        await until(lambda: backend.batches)
        with pytest.raises(QueueFullError):
            await ask(engine)
        with pytest.raises(DeadlineExceededError):
            await ask(engine, image(height=1, width=1), seconds=0.05)
        assert engine.admission.pixels == 48 * 64
        backend.gate.set()
        await asking
        assert (engine.uploads.held, engine.admission.pixels, engine.admission.waiting) == (0, 0, 0)


@pytest.mark.parametrize(("device", "batches"), [("cpu", [1, 1, 1, 1, 1]), ("cuda:0", [1, 1, 3])])
@in_loop
async def test_images_of_one_size_share_a_batch_unless_on_a_cpu(
    tmp_path: Path, device: str, batches: list[int]
) -> None:
    engine, backend = make(tmp_path, device)
    async with started(engine, backend):
        backend.gate.clear()
        asking = [background(ask(engine)) for _ in range(5)]
        await until(lambda: sum(backend.batches) + len(list(engine.check_ready().batcher._queues)) == 5)
        backend.gate.set()
        await asyncio.gather(*asking)
    assert backend.batches == batches
