import pytest

from service.errors import RequestError
from service.http.negotiation import choose_form


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("*", "application/json"),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "application/json"),  # Java's HttpURLConnection
        ("image/*", "image/png"),
        ("image/png, application/json", "application/json"),
        ("image/png, application/json;q=0.9", "image/png"),
        ("application/zip;q=0.2, */*;q=0.1", "application/zip"),
        ("application/*;q=0.5, application/json;q=0", "application/zip"),
        ("text/html, IMAGE/PNG;q=0.1", "image/png"),
        ("", "application/json"),
        (" ,\t, ", "application/json"),
        ("text/html ,\t image/png\t;\tq=0.5 ,", "image/png"),
        ('text/html;x="a, application/zip", image/png', "image/png"),
        ('image/png;x="\\";q=0", text/html', "image/png"),
        ("t\xe9xt/html, image/png", "image/png"),
    ],
)
def test_the_heaviest_range_wins(accept: str | None, form: str) -> None:
    assert choose_form(accept).media_type == form


@pytest.mark.parametrize(
    "accept", ["text/html", "image/png;q=0", "*/*;q=x", 'text/html;x="image/png', '"' * 3, '"' * 60_001, '"\\']
)
def test_nothing_acceptable_is_406(accept: str) -> None:
    with pytest.raises(RequestError) as error:
        choose_form(accept)
    assert error.value.status == 406
    assert "application/json" in error.value.detail
