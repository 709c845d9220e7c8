"""Decoding and encoding: on which threads, within which deadlines, and what is refused."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model.interface.codec import encode_png
from service.errors import DeadlineExceededError, ImageRefusedError, QueueFullError
from service.http.body import Upload, Uploads
from service.image_work import ENCODED_AT_ONCE_PIXELS, LARGE_WORK, ImageWork, Lanes
from tests.service.devices import in_loop
from tests.service.emulated import image


class Heard:
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage_finished(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)


def make(max_pixels: int = 1_000_000) -> tuple[ImageWork, Heard]:
    heard = Heard()
    return ImageWork(2, max_pixels, heard), heard


def upload(content: bytes) -> Upload:
    found = Upload(Uploads(1 << 30))
    found.write(content)
    return found


def soon() -> float:
    return time.monotonic() + 20.0


def free(_: int) -> None:
    """Charges nothing."""


@in_loop
async def test_large_work_never_keeps_small_work_waiting() -> None:
    lanes, gate = Lanes("test", 2), threading.Event()
    large = [asyncio.ensure_future(lanes.run(lambda: gate.wait(5), LARGE_WORK + 1)) for _ in range(3)]
    assert await lanes.run(lambda: "small", LARGE_WORK) == "small"
    gate.set()
    assert await asyncio.gather(*large) == [True, True, True]
    lanes.close()


@in_loop
async def test_one_of_two_threads_is_for_large_work() -> None:
    lanes, running, most = Lanes("test", 2), [0], [0]

    def work() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1

    await asyncio.gather(*(lanes.run(work, LARGE_WORK + 1) for _ in range(4)))
    assert most == [1]
    lanes.close()


@in_loop
async def test_work_of_a_caller_that_left_is_not_begun() -> None:
    lanes, gate, done = Lanes("test", 1), threading.Event(), []
    first = asyncio.ensure_future(lanes.run(lambda: gate.wait(5)))
    left = asyncio.ensure_future(lanes.run(lambda: done.append("left")))
    stayed = asyncio.ensure_future(lanes.run(lambda: done.append("stayed")))
    await asyncio.sleep(0)
    left.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await left
    gate.set()
    await asyncio.gather(first, stayed)
    assert done == ["stayed"]
    lanes.close()


@pytest.mark.parametrize("side", [30, 1800], ids=["small", "large"])  # 3.24 million pixels are large
def test_pixels_are_charged_before_they_are_decoded_and_the_bytes_given_up(side: int) -> None:
    async def scenario() -> None:
        work, heard = make(max_pixels=10_000_000)
        photo, charged = image((1, 2, 3), side, side), []
        held = upload(encode_png(photo))
        pixels, seconds = await work.decode(held, charged.append, soon())
        assert np.array_equal(pixels, photo)
        assert charged == [side * side]
        assert seconds > 0
        assert held.size == 0
        assert heard.stages == ["decode"]
        work.close()

    asyncio.run(scenario())


@in_loop
async def test_an_image_that_is_not_admitted_is_not_decoded() -> None:
    def full(_: int) -> None:
        raise QueueFullError(1)

    work, heard = make()
    held = upload(encode_png(image())[:-30])  # would be 422
    with pytest.raises(QueueFullError):
        await work.decode(held, full, soon())
    assert (held.size, heard.stages) == (0, [])
    work.close()


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"hello", 415), (encode_png(image())[:-30], 422), (encode_png(image(height=40, width=40)), 413)],
    ids=["no image", "truncated", "too large"],
)
def test_what_the_codec_refuses_has_its_status(content: bytes, status: int) -> None:
    async def scenario() -> None:
        work, _ = make(max_pixels=1500 if status == 413 else 4000)
        with pytest.raises(ImageRefusedError) as refusal:
            await work.decode(upload(content), free, soon())
        assert refusal.value.status == status
        work.close()

    asyncio.run(scenario())


@in_loop
async def test_a_deadline_ends_the_wait_for_a_thread() -> None:
    work, heard = make()
    with pytest.raises(DeadlineExceededError):
        await work.decode(upload(encode_png(image())), lambda _: time.sleep(0.3), time.monotonic() + 0.05)
    with pytest.raises(DeadlineExceededError):
        await work.encode(lambda: time.sleep(0.3), 1, True, time.monotonic() + 0.05)
    assert heard.stages == []
    work.close()


@pytest.mark.parametrize(
    ("pixels", "on_thread", "here"),
    [
        (ENCODED_AT_ONCE_PIXELS, False, True),
        (ENCODED_AT_ONCE_PIXELS + 1, False, False),
        (1, True, False),
    ],
)
def test_only_a_small_map_is_written_on_the_event_loop(pixels: int, on_thread: bool, here: bool) -> None:
    async def scenario() -> None:
        work, heard = make()
        build: Callable[[], Any] = threading.current_thread
        thread, seconds = await work.encode(build, pixels, on_thread, soon())
        assert (thread is threading.current_thread()) is here
        assert seconds >= 0
        assert heard.stages == ["encode"]
        work.close()

    asyncio.run(scenario())
