"""The one place where errors become answers."""

import logging
import random
import re

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.errors import InternalError, RequestError, ServiceError
from service.http.schemas import Problem

log = logging.getLogger(__name__)

WORD = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def request_id(request: Request) -> str:
    """The request's own X-Request-ID where it is a plain word, else a new one."""
    state = request.scope.setdefault("state", {})
    if "request_id" not in state:
        given = request.headers.get("x-request-id", "")
        state["request_id"] = given if WORD.fullmatch(given) else f"{random.getrandbits(128):032x}"
    return str(state["request_id"])


def problem(request: Request, error: ServiceError) -> Response:
    """An error as application/problem+json."""
    body = Problem(
        title=error.title, status=error.status, detail=error.detail, code=error.code, request_id=request_id(request)
    )
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, error.retry_after))
    if error.status in (408, 504):
        headers["Connection"] = "close"  # the rest of the body comes too slowly, if there is one
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(body.model_dump_json(), error.status, headers, "application/problem+json")


def add_error_handlers(app: FastAPI) -> None:
    """Every error is a problem, the framework's own included."""

    async def on_service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return problem(request, error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = {404: "No such route. See /docs.", 405: "This route has another method. See /docs."}
        answer = problem(request, RequestError(error.status_code, detail.get(error.status_code, str(error.detail))))
        answer.headers.update(error.headers or {})
        return answer

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return problem(request, RequestError(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}."))

    async def on_defect(request: Request, error: Exception) -> Response:
        log.error("request %s failed", request_id(request), exc_info=error)
        answer = problem(request, InternalError())
        answer.headers["X-Request-ID"] = request_id(request)  # this one goes out past the envelope
        return answer

    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(Exception, on_defect)
