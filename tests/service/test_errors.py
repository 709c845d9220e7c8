"""Every error of the service: what a client reads, and where the drawing has it."""

import inspect
import re

import pytest

from service import errors
from service.errors import (
    BodyError,
    InvalidError,
    NotReadyError,
    ProtocolError,
    QueueFullError,
    RequestError,
    ServiceError,
)

ALL = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
FINAL = [kind for kind in ALL.values() if issubclass(kind, ServiceError) and kind not in (ServiceError, InvalidError)]


def test_every_error_is_in_the_drawing_and_nothing_else() -> None:
    drawn = set(re.findall(r"\b(\w+Error)\b", inspect.getdoc(errors) or ""))
    assert drawn == set(ALL) - {"InvalidError"}


@pytest.mark.parametrize("kind", FINAL, ids=lambda kind: kind.__name__)
def test_each_error_has_an_outcome_and_names_of_its_own(kind: type[ServiceError]) -> None:
    assert kind.outcome in ("rejected", "invalid", "expired", "cancelled", "failed")
    entries = kind._KINDS.values() if issubclass(kind, InvalidError) else [(kind.code, kind.title)]
    for code, title in entries:
        assert re.fullmatch("[a-z_0-9]+", code)
        assert re.fullmatch("[A-Z][A-Za-z ]+", title)


def test_no_code_stands_for_two_errors() -> None:
    codes = [
        code
        for kind in FINAL
        for code in ([code for code, _ in kind._KINDS.values()] if issubclass(kind, InvalidError) else [kind.code])
    ]
    assert len(codes) == len(set(codes))


def test_what_passes_says_when_to_try_again_and_what_does_not_pass_does_not() -> None:
    assert errors.QueueFullError(7).retry_after == 7
    for seconds, told in ((0.0, 1), (3.2, 4), (500.0, 60)):
        assert errors.NotReadyError("The model is loading.", seconds).retry_after == told
    assert errors.UploadsFullError().retry_after in (1, 2, 3)
    assert errors.PoisonousImageError().retry_after is None
    assert errors.DeadlineExceededError().retry_after is None


def test_an_unknown_status_is_told_as_a_bad_request() -> None:
    assert RequestError(418, "A teapot.").code == "bad_request"


def test_the_drawing_has_the_statuses_of_each_error() -> None:
    drawn = dict(re.findall(r"^ {2,}(\w+Error) +(.*)$", inspect.getdoc(errors) or "", re.MULTILINE))
    for kind in FINAL:
        statuses = sorted(kind._KINDS) if issubclass(kind, InvalidError) else [kind.status]
        assert [int(status) for status in re.findall(r"\b\d{3}\b", drawn[kind.__name__])] == statuses, kind


@pytest.mark.parametrize(
    ("error", "status", "code", "detail"),
    [
        (
            ProtocolError.refused(431, "Too many headers"),
            431,
            "headers_too_large",
            "Too many headers. Send HTTP/1.1 (RFC 9112).",
        ),
        (
            RequestError.unknown_query("view=x", ["view=ids", "view=overlay"]),
            400,
            "bad_request",
            "Unknown query view=x. The only one is view=ids or view=overlay.",
        ),
        (
            RequestError.bad_deadline("soon", 999),
            400,
            "bad_request",
            "X-Deadline-Ms is 'soon'; expected a whole number of milliseconds, 1 to 999.",
        ),
        (
            RequestError.key_missing(),
            401,
            "unauthorized",
            "This service needs a key. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
        ),
        (RequestError.no_such_route(), 404, "not_found", "No such route. See /docs."),
        (RequestError.wrong_method(), 405, "method_not_allowed", "This route has another method. See /docs."),
        (
            RequestError.not_acceptable("text/html", ["image/png", "application/zip"]),
            406,
            "not_acceptable",
            "Accept: text/html names no form of this answer. Accept one of image/png, application/zip.",
        ),
        (
            RequestError.unknown_expectation("foo", "100-continue"),
            417,
            "expectation_failed",
            "Expect: foo is not known. The only expectation that can be met is 100-continue.",
        ),
        (
            RequestError.coded_body("gzip"),
            415,
            "unsupported_coding",
            "Content-Encoding: gzip is not unpacked. Send the bytes of the file.",
        ),
        (
            BodyError.empty(),
            400,
            "malformed_body",
            "The body is empty. Send an image, or a form with the file in `image`.",
        ),
        (
            BodyError.malformed_form(),
            400,
            "malformed_body",
            "The form is malformed. Send multipart/form-data with the file in `image`.",
        ),
        (BodyError.cut_form(), 400, "malformed_body", "The form ends before its last boundary. Send the whole body."),
        (
            BodyError.form_without_image(),
            400,
            "malformed_body",
            "The form has no part named `image`. Send the file in `image`.",
        ),
        (
            BodyError.crowded_form(65_536),
            400,
            "malformed_body",
            "The form has more than 65536 bytes beside its image. Send the file alone.",
        ),
        (BodyError.too_slow(0.5), 408, "body_timeout", "The body did not arrive within 0.5 s. Send it faster."),
        (
            BodyError.too_large(10),
            413,
            "body_too_large",
            "The image has more than 10 bytes. Send a smaller file or raise UPSNET_MAX_BYTES.",
        ),
        (QueueFullError(3), 429, "queue_full", "The queue is full. Try again in 3 s."),
        (
            NotReadyError.for_now(NotReadyError.STOPPING),
            503,
            "not_ready",
            "The service is stopping. Try again soon.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.islower() else "",
)
def test_an_error_says_what_happened_and_what_to_do(error: ServiceError, status: int, code: str, detail: str) -> None:
    assert (error.status, error.code, error.detail) == (status, code, detail)


def test_what_clients_send_is_repeated_in_part() -> None:
    long = 1000 * "x"
    echoes = {
        RequestError.unknown_query(long, []): 186,  # of 200 with the words before it
        RequestError.bad_deadline(long, 1): 50,
        RequestError.not_acceptable(long, []): 200,
        RequestError.unknown_expectation(long, ""): 50,
        RequestError.coded_body(long): 50,
    }
    assert {error: len(re.findall(r"x{2,}", error.detail)[0]) for error in echoes} == echoes
