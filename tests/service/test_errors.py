"""What clients read of errors, and the drawing of where each belongs."""

import re
from typing import Any

import pytest

from service import errors
from service.errors import BodyError, NotReadyError, ProtocolError, QueueFullError, RequestError, ServiceError


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
    }
    assert {error: len(re.findall(r"x{2,}", error.detail)[0]) for error in echoes} == echoes


def test_a_status_without_a_kind_is_described_as_a_bad_request() -> None:
    error = RequestError(418, "I am a teapot.")
    assert (error.status, error.code, error.title, error.outcome) == (418, "bad_request", "Bad request", "invalid")


def classes() -> dict[str, Any]:
    found = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, Exception)}


def test_the_drawing_names_every_error_and_its_statuses() -> None:
    drawn = dict(re.findall(r"^ {4,6}(\w+Error) +(.*)$", errors.__doc__ or "", re.MULTILINE))
    assert set(drawn) == set(classes()) - {"InvalidError"}  # which is only what some have in common
    for name, error in classes().items():
        if name not in ("ServiceError", "InvalidError") and issubclass(error, ServiceError):
            statuses = sorted(getattr(error, "_KINDS", None) or [error.status])
            assert [int(status) for status in re.findall(r"\b\d{3}\b", drawn[name])] == statuses, name


def test_a_code_means_one_thing() -> None:
    kinds = [
        (code, title)
        for error in classes().values()
        if issubclass(error, ServiceError) and error is not ServiceError
        for code, title in (getattr(error, "_KINDS", {}).values() or [(error.code, error.title)])
    ]
    named = [(code, title) for code, title in kinds if code != "internal_error"]
    assert len({code for code, _ in named}) == len(named) == len({title for _, title in named})
