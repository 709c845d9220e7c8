"""The front's side of one worker."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest

from service.failures import DeviceLostError, WorkerStartError
from service.workers import worker
from service.workers.messages import Batch, Done, NewBlock, Ready
from service.workers.process import WarmUp
from service.workers.progress import Progress
from service.workers.worker import Worker
from tests.service import emulated
from tests.service.emulated import HANG, SERVED, Emulated, image


@contextlib.asynccontextmanager
async def started(factory: Any = Emulated) -> AsyncIterator[Worker]:
    one = Worker(factory, WarmUp())
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


def test_it_answers_and_knows_its_predictor() -> None:
    async def scenario() -> None:
        async with started() as one:
            assert one.served == SERVED
            assert 0 < one.device_memory < one.device_memory_total
            (answer,) = await one.run([image((90, 0, 0))])
            assert np.array_equal(answer.segment_ids, emulated.answer(image((90, 0, 0))).segment_ids)
            assert one.outstanding == 0

    asyncio.run(scenario())


def test_a_batch_that_hangs_costs_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HANG_SECONDS", 0.5)

    async def scenario() -> None:
        async with started() as one:
            began = time.monotonic()
            with pytest.raises(DeviceLostError):
                await one.run([image(HANG)])
            assert 0.5 <= time.monotonic() - began < 20.0  # it would hang for an hour
            assert one.ended.done()

    asyncio.run(scenario())


def test_only_the_first_of_its_batches_can_have_ended_it() -> None:
    async def scenario() -> None:
        async with started() as one:
            calls = [asyncio.ensure_future(one.run([image(color)])) for color in (emulated.KILL, emulated.GOOD)]
            lost = await asyncio.gather(*calls, return_exceptions=True)
            assert [error.started for error in lost if isinstance(error, DeviceLostError)] == [True, False]
            with pytest.raises(DeviceLostError):
                await one.run([image()])

    asyncio.run(scenario())


def babbling(pipe: Connection, message: Any, *_: Any) -> None:
    """In place of the worker's program: answers a batch with this message."""
    pipe.send(Ready(SERVED, 1, 2))
    assert isinstance(pipe.recv(), NewBlock)
    os.close(reduction.recv_handle(pipe))
    assert isinstance(pipe.recv(), Batch)
    pipe.send(message)
    pipe.poll(20)


@pytest.mark.parametrize(
    ("message", "kind"),
    [(("done", [], 1, 0), AssertionError), (Done(99, [], 0), KeyError)],
    ids=["of no kind", "for no batch"],
)
def test_an_unknown_message_is_raised_and_ends_the_worker(
    message: Any, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "main", babbling)
    raised: list[Exception] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        async with started(message) as one:
            with pytest.raises(DeviceLostError, match="it sent an unknown message"):
                await one.run([image()])
            assert one.ended.done()

    asyncio.run(scenario())
    assert [type(error) for error in raised] == [kind]


def test_an_image_is_named_when_its_worker_ends_by_itself_and_not_when_we_end_it_or_nobody_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(left: bool, stopped: bool) -> None:
        caplog.clear()
        async with started() as one:
            call = asyncio.ensure_future(one.run([image(HANG)]))
            while not one._orders:
                await asyncio.sleep(0.01)
            if left:
                call.cancel()
                await asyncio.sleep(0)
            if stopped:
                await one.stop()
            else:
                os.kill(one.pid, signal.SIGKILL)
                await one.ended
            (found,) = await asyncio.gather(call, return_exceptions=True)
            if not left:
                assert isinstance(found, DeviceLostError)
                assert found.started is not stopped
        assert ("sha256" in caplog.text) is not (left or stopped)

    for left, stopped in ((False, False), (True, False), (False, True)):
        asyncio.run(scenario(left, stopped))


def test_a_worker_that_is_stopped_by_a_signal_is_replaced_without_blame(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STOPPED_SECONDS", 0)

    async def scenario() -> None:
        async with started() as one:
            call = asyncio.ensure_future(one.run([image(HANG)]))
            while not one._orders:
                await asyncio.sleep(0.01)
            os.kill(one.pid, signal.SIGSTOP)
            with pytest.raises(DeviceLostError) as lost:
                await asyncio.wait_for(call, 10)
            assert not lost.value.started
            await one.stop()

    asyncio.run(scenario())
    assert "is killed" in caplog.text
    assert "sha256" not in caplog.text


def test_the_steps_of_its_start_are_told() -> None:
    class Told(Progress):
        def __init__(self) -> None:
            super().__init__()
            self.steps: list[str] = []

        def reach(self, step: str, done: float) -> None:
            self.steps.append(step)
            super().reach(step, done)

    async def scenario() -> list[str]:
        told = Told()
        one = Worker(Emulated, WarmUp(((48, 64),)), progress=told)
        await one.start()
        await one.stop()
        return told.steps

    assert asyncio.run(scenario()) == ["torch is imported", "the archive is loaded", "warm-up 1 of 1"]


def test_a_worker_that_ends_before_it_is_ready_cannot_start() -> None:
    async def scenario() -> None:
        with pytest.raises(WorkerStartError, match="before it was ready"):
            async with started(emulated.dying):
                pass

    asyncio.run(scenario())


def test_a_front_with_too_much_open_cannot_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    async def scenario() -> None:
        monkeypatch.setattr("socket.socketpair", full)
        with pytest.raises(WorkerStartError, match="No pipe to a worker can be opened"):
            Worker(Emulated, WarmUp())

    asyncio.run(scenario())
