"""Every error of the service: what a client reads, and where the drawing has it."""

import inspect
import re

import pytest

from service import errors
from service.errors import InvalidError, ServiceError

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
    assert errors.NotReadyError("The model is loading.").retry_after == 2
    assert errors.UploadsFullError().retry_after in (1, 2, 3)
    assert errors.PoisonousImageError().retry_after is None
    assert errors.DeadlineExceededError().retry_after is None


def test_an_unknown_status_is_told_as_a_bad_request() -> None:
    assert errors.RequestError(418, "A teapot.").code == "bad_request"
