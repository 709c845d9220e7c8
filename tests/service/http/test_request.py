"""What a request asks for in its head, and clients that leave."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import Request

from service.errors import ClientGoneError, DeadlineExceededError, RequestError
from service.http.request import (
    check_key,
    deadline_error,
    deadline_seconds,
    key_schemes,
    parse_view,
    request_id,
    unless_gone,
)


def request(query: str = "", receive: Any = None, charset: str = "utf-8", **headers: str | bytes) -> Request:
    lines = [
        (name.replace("_", "-").encode(), value.encode(charset) if isinstance(value, str) else value)
        for name, value in headers.items()
    ]
    return Request({"type": "http", "query_string": query.encode(), "headers": lines}, receive)


@pytest.mark.parametrize("given", ["abc-1", "a.b:c_d", "x" * 128])
def test_a_plain_word_is_kept_as_the_id(given: str) -> None:
    assert request_id(request(x_request_id=given)) == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "é"])
def test_anything_else_is_replaced_by_an_id_that_stays(given: str) -> None:
    asked = request(x_request_id=given)
    made = request_id(asked)
    assert len(made) == 32
    assert request_id(asked) == made
    assert request_id(request()) != made


@pytest.mark.parametrize(
    ("query", "view"),
    [("", "ids"), ("view=ids", "ids"), ("view=overlay", "overlay"), ("view=ids&view=overlay", "overlay")],
)
def test_the_last_view_wins_and_ids_are_the_default(query: str, view: str) -> None:
    assert parse_view(request(query)) == view


@pytest.mark.parametrize("query", ["view=x", "view=", "scale=2", "view=ids&scale=2"])
def test_an_unknown_query_is_refused(query: str) -> None:
    with pytest.raises(RequestError, match=r"The only one is view=ids or view=overlay\.") as refusal:
        parse_view(request(query))
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, 30.0),
        ("1", 0.001),
        ("007", 0.007),
        ("0" * 40 + "7", 0.007),
        ("29999", 29.999),
        ("30001", 30.0),
        ("120000", 30.0),
        ("999999999", 30.0),
        ("1" + 30 * "0", 30.0),
        ("9" * 9_000, 30.0),
    ],
)
def test_the_sooner_deadline_counts(given: str | None, seconds: float) -> None:
    headers = {} if given is None else {"x_deadline_ms": given}
    assert deadline_seconds(request(**headers), 30_000) == seconds


@pytest.mark.parametrize(
    "given",
    ["", "0", "000", "-1", "+1", "1.5", "5.0", "0x5", "5e3", "5_0", "5 0", "5,5", "5ms", "soon", "١", "²", "1\xa0"],
)
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(given: str) -> None:
    with pytest.raises(RequestError, match="1 to 30000") as refusal:
        deadline_seconds(request(x_deadline_ms=given), 30_000)
    assert refusal.value.status == 400


async def never() -> Any:
    await asyncio.sleep(60)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 5))  # type: ignore[arg-type]


def test_the_result_of_the_work_comes_back_while_the_client_stays() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    async def scenario() -> None:
        before = asyncio.all_tasks()
        assert await unless_gone(request(receive=never), work()) == "done"
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == before  # nobody watches any more

    run(scenario)


def test_work_is_cancelled_when_its_client_leaves() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    messages = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        await asyncio.sleep(0)
        return messages.pop(0)

    async def scenario() -> None:
        with pytest.raises(ClientGoneError):
            await unless_gone(request(receive=receive), work())
        assert ended == ["cancelled"]
        await asyncio.sleep(0)  # the task itself is not cancelled

    run(scenario)


def test_a_cancelled_request_is_not_taken_for_one_whose_client_left() -> None:
    async def scenario() -> None:
        task = asyncio.ensure_future(unless_gone(request(receive=never), never()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)


def test_an_error_of_the_work_is_passed_on() -> None:
    async def work() -> None:
        raise ValueError("bad")

    async def scenario() -> None:
        with pytest.raises(ValueError, match="bad"):
            await unless_gone(request(receive=never), work())

    run(scenario)


def test_only_a_client_that_shortened_its_deadline_is_told_to_send_a_later_one() -> None:
    passed = DeadlineExceededError()
    for given in ({}, {"x_deadline_ms": "30000"}, {"x_deadline_ms": "120000"}):
        asked = request(**given)
        deadline_seconds(asked, 30_000)
        assert "X-Deadline-Ms" not in deadline_error(asked, passed).detail
    asked = request(x_deadline_ms="0050")
    deadline_seconds(asked, 30_000)
    assert "X-Deadline-Ms set, 50 ms" in deadline_error(asked, passed).detail
    assert "up to 30000" in deadline_error(asked, passed).detail


KEYS = ("one", "zwö", "ключ", "raw\udcff", "two words")


@pytest.mark.parametrize(
    "headers",
    [
        {"x_api_key": "one"},
        {"x_api_key": "zwö"},
        {"authorization": "Bearer zwö"},
        {"x_api_key": b"zw\xc3\xb6"},  # as curl sends it
        {"authorization": b"Bearer zw\xc3\xb6"},
        {"x_api_key": "ключ".encode()},
        {"x_api_key": b"raw\xff"},  # of an environment that is no UTF-8
        {"x_api_key": " \tone\t "},
        {"x_api_key": "two words"},
        {"authorization": "Bearer two words"},
        {"authorization": "Bearer one"},
        {"authorization": "BEARER \t one\t"},
        {"authorization": "bearer  one "},
        {"authorization": "Bearer three", "x_api_key": "one"},
        {"authorization": "Bearer one", "x_api_key": "three"},
    ],
)
def test_a_key_that_fits_in_either_header_is_enough(headers: dict[str, Any]) -> None:
    check_key(request(charset="latin-1", **headers), KEYS)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_api_key": ""},
        {"x_api_key": "three"},
        {"x_api_key": "on"},
        {"x_api_key": "one,zwö"},
        {"authorization": "one"},
        {"authorization": "Basic one"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer one, Bearer one"},
        {"authorization": "Bearer\xa0one"},
        {"x_api_key": "one\xa0"},
        {"x_api_key": "zwo"},
        {"x_api_key": b"zwo\xcc\x88"},  # the same letter in two characters
        {"x_api_key": "ZWÖ"},
        {"x_api_key": "ключ".encode("koi8-r")},
        {"x_api_key": bytes(range(128, 256))},
        {"authorization": bytes(range(128, 256))},
    ],
)
def test_anything_else_is_401(headers: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refusal:
        check_key(request(charset="latin-1", **headers), KEYS)
    assert refusal.value.status == 401


def test_without_configured_keys_nothing_is_asked() -> None:
    check_key(request(), ())
    assert key_schemes(()) == []


def test_docs_ask_for_a_key_in_both_ways() -> None:
    schemes = [security.dependency.model.model_dump() for security in key_schemes(KEYS)]
    assert [(scheme.get("name"), scheme.get("scheme")) for scheme in schemes] == [("X-API-Key", None), (None, "bearer")]
