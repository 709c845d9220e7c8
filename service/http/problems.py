"""The one way from an exception to its answer, which is application/problem+json (RFC 9457)."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.errors import DeadlineExceededError, InternalError, RequestError, ServiceError
from service.failures import PredictionError
from service.http.request import SCHEME, deadline_error, request_id
from service.http.schemas import Problem

log = logging.getLogger(__name__)


def service_error(request: Request, error: Exception) -> ServiceError:
    """The error to answer with. A defect is logged, with the trace if it is ours, and becomes an InternalError."""
    match error:
        case DeadlineExceededError():
            return deadline_error(request, error)
        case ServiceError():
            return error
        case HTTPException(status_code=404):
            return RequestError.no_such_route()
        case HTTPException(status_code=405):
            return RequestError.wrong_method()
        case HTTPException():
            return RequestError(error.status_code, error.detail)
        case RequestValidationError():
            first = error.errors()[0]
            return RequestError(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.")
        case PredictionError():  # happened in a worker: our own trace would only show how the message came here
            log.error("request %s failed in the worker: %s", request_id(request), error)
        case _:
            log.error("request %s failed", request_id(request), exc_info=error)
    return InternalError()


def describe(error: ServiceError, request_id: str) -> Problem:
    """The JSON of an error."""
    return Problem(title=error.title, status=error.status, detail=error.detail, code=error.code, request_id=request_id)


def problem(request: Request, error: ServiceError) -> Response:
    """The answer to a request that ended in an error of the service."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, error.retry_after))
    if error.status in (408, 504):
        headers["Connection"] = "close"  # the rest of the body comes too slowly, if there is one
    if error.code == "unsupported_coding":
        headers["Accept-Encoding"] = "identity"
    if error.status == 401:
        headers["WWW-Authenticate"] = SCHEME
    body = describe(error, request_id(request)).model_dump_json()
    return Response(body, error.status, headers, "application/problem+json")


async def answer_error(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in any exception."""
    answer = problem(request, service_error(request, error))
    if isinstance(error, HTTPException):
        answer.headers.update(error.headers or {})  # Allow, of 405
    return answer


def add_error_handlers(app: FastAPI) -> None:
    """Answer the framework's own errors as problems. All others reach the `Envelope`, which does the same."""
    app.add_exception_handler(HTTPException, answer_error)
    app.add_exception_handler(RequestValidationError, answer_error)
