"""Requests that are counted, waited for, and given up."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.errors import NotReadyError
from service.in_flight import InFlight
from tests.service.devices import in_loop, turns


def under_way(requests: InFlight, work: Callable[[], Awaitable[object]]) -> "asyncio.Task[object]":
    async def answer() -> object:
        with requests.request():
            return await work()

    return asyncio.ensure_future(answer())


@in_loop
async def test_it_waits_until_every_request_is_answered() -> None:
    requests, gate = InFlight(), asyncio.Event()
    under = [under_way(requests, gate.wait) for _ in range(2)]
    await turns()
    waiting = asyncio.ensure_future(requests.finish(5.0))
    await turns()
    assert (len(requests), waiting.done()) == (2, False)
    gate.set()
    assert await waiting == 0
    await asyncio.gather(*under)
    assert len(requests) == 0


@in_loop
async def test_what_is_given_up_can_still_wait_with_a_timeout_for_what_its_answer_needs() -> None:
    requests = InFlight()

    async def answer() -> str:
        try:
            with requests.request():
                await asyncio.sleep(60)
        except NotReadyError as error:
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            with pytest.raises(TimeoutError):  # as an unread body is waited for
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(60)
            return f"{error} {error.retry_after}"
        return "answered"

    answering = asyncio.ensure_future(answer())
    await turns()
    assert await requests.finish(0.0) == 1
    assert await answering == "The service has stopped. Try again soon. 5"


@in_loop
async def test_who_is_cancelled_by_another_stays_cancelled() -> None:
    requests = InFlight()
    one = under_way(requests, lambda: asyncio.sleep(60))
    await turns()
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert (len(requests), await requests.finish(0.0)) == (0, 0)
