"""The way of every exception to its answer."""

import asyncio
import json
import logging

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from service.errors import (
    BodyError,
    DeadlineExceededError,
    InternalError,
    NotReadyError,
    QueueFullError,
    RequestError,
    ServiceError,
)
from service.failures import PredictionError
from service.http.problems import add_error_handlers, answer_error, problem, service_error


def request() -> Request:
    return Request({"type": "http", "headers": [(b"x-request-id", b"abc-1")]})


def test_a_problem_is_what_rfc_9457_has_and_our_code_and_id() -> None:
    answer = problem(request(), RequestError.no_such_route())
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "No such route",
        "status": 404,
        "detail": "No such route. See /docs.",
        "code": "not_found",
        "request_id": "abc-1",
    }


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (QueueFullError(3), {"retry-after": "3"}),
        (QueueFullError(0), {"retry-after": "1"}),
        (NotReadyError.for_now("The model is loading.", 7.2), {"retry-after": "8"}),
        (RequestError.key_missing(), {"www-authenticate": "Bearer"}),
        (RequestError.coded_body("gzip"), {"accept-encoding": "identity"}),
        (BodyError.too_slow(1), {"connection": "close"}),
        (DeadlineExceededError(), {"connection": "close"}),
        (BodyError.too_large(1), {}),
        (InternalError(), {}),
    ],
)
def test_headers_say_what_a_client_can_do(error: ServiceError, headers: dict[str, str]) -> None:
    found = dict(problem(request(), error).headers)
    assert {name: found[name] for name in found if name not in ("content-length", "content-type")} == headers


def test_an_error_of_the_service_is_answered_as_it_is() -> None:
    error = QueueFullError(3)
    assert service_error(request(), error) is error


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (405, "method_not_allowed"), (418, "bad_request")])
def test_an_error_of_the_framework_is_told_as_one_of_the_request(status: int, code: str) -> None:
    error = service_error(request(), HTTPException(status))
    assert (error.status, error.code, error.outcome) == (status, code, "invalid")
    assert error.detail


def test_headers_of_the_framework_are_kept() -> None:
    answer = asyncio.run(answer_error(request(), HTTPException(405, headers={"Allow": "GET, POST"})))
    assert answer.headers["allow"] == "GET, POST"


def test_a_defect_is_logged_once_with_its_trace_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("secret")
    except ValueError as defect:
        error = service_error(request(), defect)
    (record,) = caplog.records
    assert isinstance(error, InternalError)
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "request abc-1 failed")
    assert record.exc_info
    assert "secret" not in error.detail


def test_a_defect_in_the_worker_is_logged_by_its_message(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(service_error(request(), PredictionError("bad image")), InternalError)
    (record,) = caplog.records
    assert record.getMessage() == "request abc-1 failed in the worker: bad image"
    assert not record.exc_info


def test_the_frameworks_own_refusals_are_problems() -> None:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/count/{number}")
    async def count(number: int) -> int:
        return number

    client = TestClient(app)
    assert client.get("/count/3").json() == 3
    for method, path, status in (("GET", "/count/x", 400), ("GET", "/none", 404), ("POST", "/count/3", 405)):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert client.get("/count/x").json()["detail"].startswith("path.number: ")
    assert client.post("/count/3").headers["allow"] == "GET"
