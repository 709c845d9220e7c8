"""Who may ask, where keys are configured."""

import pytest
from fastapi import Request

from service.errors import RequestError
from service.http.keys import check_key, key_schemes

KEYS = ("one", "zwö")


def request(**headers: str) -> Request:
    lines = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": lines})


@pytest.mark.parametrize(
    "headers",
    [
        {"x_api_key": "one"},
        {"x_api_key": "zwö"},
        {"authorization": "Bearer one"},
        {"authorization": "bearer  one "},
        {"authorization": "Bearer three", "x_api_key": "one"},
        {"authorization": "Bearer one", "x_api_key": "three"},
    ],
)
def test_a_key_that_fits_in_either_header_is_enough(headers: dict[str, str]) -> None:
    check_key(request(**headers), KEYS)


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
    ],
)
def test_anything_else_is_401(headers: dict[str, str]) -> None:
    with pytest.raises(RequestError) as refusal:
        check_key(request(**headers), KEYS)
    assert refusal.value.status == 401


def test_without_configured_keys_nothing_is_asked() -> None:
    check_key(request(), ())
    assert key_schemes(()) == []


def test_docs_ask_for_a_key_in_both_ways() -> None:
    schemes = [security.dependency.model.model_dump() for security in key_schemes(KEYS)]
    assert [(scheme.get("name"), scheme.get("scheme")) for scheme in schemes] == [("X-API-Key", None), (None, "bearer")]
