"""The image of forms as many clients write them."""

import base64
from typing import Any

import pytest

from service.errors import BodyError
from service.http.body import FORM_OVERHEAD, PART_OVERHEAD
from tests.service.http.test_body import END, FORM, IMAGE, TEXT, read, refusal

JPEG = b"\xff\xd8\r\n--\n\xd9"
"""As many bytes as `read` takes are ten."""
FORMS: dict[str, tuple[str, bytes]] = {
    "curl": (
        "multipart/form-data; boundary=------------------------46c3dc5f53b7f90d",
        b"--------------------------46c3dc5f53b7f90d\r\n"
        b'Content-Disposition: form-data; name="image"; filename="\xc3\xbc %%22q%%22.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n%b\r\n--------------------------46c3dc5f53b7f90d--\r\n",
    ),
    "undici": (
        "multipart/form-data; boundary=----formdata-undici-095074864735",
        b'------formdata-undici-095074864735\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'
        b'------formdata-undici-095074864735\r\nContent-Disposition: form-data; name="image"; filename="blob"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n------formdata-undici-095074864735--\r\n",
    ),
    "requests, httpx": (
        "multipart/form-data; boundary=095f72047e68d8b2d3f2802a8c090535",
        b"--095f72047e68d8b2d3f2802a8c090535\r\n"
        b'Content-Disposition: form-data; name="image"; filename="\xc3\xbc.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n%b\r\n--095f72047e68d8b2d3f2802a8c090535--\r\n",
    ),
    "requests of old": (
        FORM,
        b"--b\r\nContent-Disposition: form-data; name=\"image\"; filename*=utf-8''%%C3%%BC.jpg\r\n\r\n%b\r\n--b--\r\n",
    ),
    "Go": (
        "multipart/form-data; boundary=6ef1a3b1c6f1f2a1b04d7be8a3a6",
        b"--6ef1a3b1c6f1f2a1b04d7be8a3a6\r\n"
        b'Content-Disposition: form-data; name="image"; filename="a\\"b\\\\.jpg"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--6ef1a3b1c6f1f2a1b04d7be8a3a6--\r\n",
    ),
    "Apache HttpClient": (
        "multipart/form-data; boundary=-x_Y; charset=ISO-8859-1",
        b'---x_Y\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n'
        b"Content-Transfer-Encoding: binary\r\n\r\n%b\r\n---x_Y--\r\n",
    ),
    ".NET": (
        'multipart/form-data; boundary="0f8fad5b-d9cb-469f-a165-70867728950e"',
        b"--0f8fad5b-d9cb-469f-a165-70867728950e\r\nContent-Type: image/jpeg\r\n"
        b"Content-Disposition: form-data; name=image; filename=a.jpg; filename*=utf-8''a.jpg\r\n\r\n"
        b"%b\r\n--0f8fad5b-d9cb-469f-a165-70867728950e--\r\n",
    ),
    "aiohttp": (
        "multipart/form-data; boundary=a1b2",
        b"--a1b2\r\nContent-Type: image/jpeg\r\nContent-Length: 8\r\n"
        b'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n%b\r\n--a1b2--\r\n',
    ),
    "Perl's LWP, without a last CRLF": (
        "multipart/form-data; boundary=xYzZY",
        b'--xYzZY\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n%b\r\n--xYzZY--',
    ),
    "Internet Explorer": (
        FORM,
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="C:\\My; x\\a.jpg"\r\n\r\n%b\r\n--b--\r\n',
    ),
    "LF": (FORM, b'MIME-Version: 1.0\n\n--b\nContent-Disposition: form-data;\n name="image"\n\n%b\n--b--\n'),
    "odd": (
        'MULTIPART/FORM-DATA ; x="a; boundary=c" ;\tBoundary = "b"',
        b'--b \t\r\ncontent-DISPOSITION:FORM-DATA\t;\r\n\tNAME = "image"\t\r\n\r\n%b\r\n--b-- \r\nepilogue',
    ),
}


@pytest.mark.parametrize("step", [1, 11, 1 << 20])
@pytest.mark.parametrize("client", FORMS)
def test_what_clients_write_is_read(client: str, step: int) -> None:
    kind, form = FORMS[client]
    form %= JPEG
    assert read(*(form[start : start + step] for start in range(0, len(form), step)), kind=kind) == JPEG


@pytest.mark.parametrize(
    "form",
    [
        IMAGE % b"first" + TEXT % b"1" + END,
        TEXT % b"" + IMAGE % b"first" + END,
        IMAGE % b"first" + IMAGE % b"second" + END,
        IMAGE % b"first" + IMAGE % b"" + END,
        b"--b\r\n\r\nno name\r\n" + IMAGE % b"first" + END,
        b"--b\r\nContent-Type: image/jpeg\r\n\r\n\r\n" + IMAGE % b"first" + END,
    ],
)
def test_the_image_may_be_first_or_last_and_the_first_of_two_counts(form: bytes) -> None:
    assert read(form, kind=FORM) == b"first"


def test_an_empty_first_image_is_the_image() -> None:
    assert "is empty" in refusal(IMAGE % b"" + IMAGE % b"second" + END, kind=FORM)[2]


@pytest.mark.parametrize("coding", [b"base64", b"BASE64 ", b"\tBase64"])
@pytest.mark.parametrize("step", [1, 11, 1 << 20])
def test_base64_is_decoded(coding: bytes, step: int) -> None:
    lines = base64.encodebytes(JPEG).replace(b"\n", b"\r\n")
    form = (IMAGE % lines).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding:%b\r\n\r\n" % coding, 1) + END
    assert read(*(form[start : start + step] for start in range(0, len(form), step)), kind=FORM) == JPEG


@pytest.mark.parametrize("coding", [b"", b" ", b"binary", b"8BIT", b"7bit "])
def test_a_part_without_a_coding_is_taken_as_it_is(coding: bytes) -> None:
    form = (IMAGE % JPEG).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding:%b\r\n\r\n" % coding, 1) + END
    assert read(form, kind=FORM) == JPEG


@pytest.mark.parametrize(
    ("coding", "content", "says"),
    [
        (b"base64", JPEG, "is not the base64"),
        (b"base64", b"QUJ", "is not the base64"),
        (b"base64", b"QUI=QUJD", "is not the base64"),
        (b"quoted-printable", b"=FF=D8", "quoted-printable is not read"),
        (b"x-\xff", JPEG, "is not read"),
    ],
)
@pytest.mark.parametrize("behind", [b"", TEXT % b"1"])
def test_another_coding_and_what_is_no_base64_are_400(coding: bytes, content: bytes, says: str, behind: bytes) -> None:
    form = (IMAGE % content).replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: %b\r\n\r\n" % coding, 1)
    error, status, detail = refusal(form + behind + END, kind=FORM)
    assert (error, status) == (BodyError, 400)
    assert says in detail


@pytest.mark.parametrize("step", [1000, 65_536, 1 << 20])
def test_a_preamble_counts_as_what_is_beside_the_image(step: int) -> None:
    def sent(size: int) -> tuple[list[bytes], dict[str, Any]]:
        form = b"-" * (size - 2) + b"\r\n" + IMAGE % b"1" + END
        return [form[start : start + step] for start in range(0, len(form), step)], {"kind": FORM}

    chunks, how = sent(FORM_OVERHEAD - PART_OVERHEAD - 100)
    assert read(*chunks, **how) == b"1"
    chunks, how = sent(FORM_OVERHEAD - PART_OVERHEAD)
    assert "bytes beside its image" in refusal(*chunks, **how)[2]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"--b--\r\n", "no part named `image`"),
        (b"preamble\r\n--b--", "no part named `image`"),
        (b"preamble\r\n--bb\r\n", "is malformed"),
        (b"--b\r\n", "before its last boundary"),
        (IMAGE % b"1" + b"--b", "before its last boundary"),
        (IMAGE % b"1" + b"--b-", "before its last boundary"),
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_form_without_parts_or_without_end_is_400(body: bytes, says: str, step: int) -> None:
    assert says in refusal(*(body[start : start + step] for start in range(0, len(body), step)), kind=FORM)[2]
