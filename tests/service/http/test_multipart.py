"""Multipart bodies as clients and mail libraries write them, wherever they are split."""

import email.policy
import time
from email.message import EmailMessage
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart

import pytest
import requests

from service.http.multipart import MAX_PADDING, Base64, MultipartError, MultipartParser

JPEG = b"\xff\xd8\r\n--XyZ\xff\r\n-\r\n--Xy\r\n\r\n--XyZ-\r\n--XyZ2\r\n --XyZ\r\n--xyz\r\n\xff\xd9"
"""Bytes of an image that look like a boundary again and again."""
NAME = b'Content-Disposition: form-data; name="image"'
PART = b"--XyZ\r\n" + NAME + b"\r\n\r\n" + JPEG
END = b"\r\n--XyZ--\r\n"


def read(body: bytes, boundary: bytes = b"XyZ", step: int = 1 << 20) -> list[tuple[dict[bytes, bytes], bytes]]:
    """The parts of a body that comes in steps of so many bytes."""
    parser = MultipartParser(boundary)
    found: list[tuple[dict[bytes, bytes], bytes]] = []
    for start in range(0, len(body), step):
        for event in parser.feed(body[start : start + step]):
            if isinstance(event, dict):
                found.append((event, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + event)
    assert parser.ended
    return found


PREAMBLES = {
    "none": b"",
    "an empty line": b"\r\n",
    "of the email package": b"Content-Type: multipart/form-data\r\nMIME-Version: 1.0\r\n\r\n",
    "of mail programs": b"This is a multi-part message in MIME format.\r\n",
    "LF": b"one\ntwo\n",
    "dashes": b"--\r\n-\r\n---\r\n----\r\n\r\n--\r\n",
    "near-boundaries": b"--Xy\r\n--XyZZ\r\n--XyZ-\r\n--XyZ - \r\n--xyz\r\n---XyZ\r\n --XyZ\r\nx--XyZ\r\n--XyZ x\r\n",
    "a boundary's beginning": b"\r\n--Xy\r\n",
    "the last boundary": b"--XyZ--\r\n",
    "CR": b"\r\r\r\n",
    "long": b"- \r\n" * 5_000,
    "zeros": bytes(300) + b"\r\n",
}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("preamble", PREAMBLES.values(), ids=PREAMBLES)
@pytest.mark.parametrize("epilogue", [b"", b"\r\n" + PART + END, b"--XyZ\r\n: \0"], ids=["", "parts", "rubbish"])
def test_preamble_and_epilogue_are_ignored(preamble: bytes, epilogue: bytes, step: int) -> None:
    parts = read(preamble + PART + END + epilogue, step=step)
    assert parts == [({b"content-disposition": NAME.split(b": ")[1]}, JPEG)]


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t " * 20, b" " * MAX_PADDING])
def test_blanks_behind_a_boundary_are_no_part_of_it(blanks: bytes, step: int) -> None:
    body = (PART + b"\r\n" + PART + END).replace(b"--XyZ\r\nC", b"--XyZ" + blanks + b"\r\nC")
    assert [data for _, data in read(body.replace(b"--\r\n", b"--" + blanks + b"\r\n"), step=step)] == [JPEG, JPEG]


def test_a_line_of_too_many_blanks_is_no_boundary_and_is_not_held() -> None:
    line = b"\r\n--XyZ" + b" " * 200_000
    assert read(PART + line + END) == [(read(PART + END)[0][0], JPEG + line)]
    parser = MultipartParser(b"XyZ")
    assert sum(len(event) for event in parser.feed(PART + line) if isinstance(event, bytes)) > 199_000


@pytest.mark.parametrize("step", [1, 4, 1 << 20])
def test_headers_of_a_part_may_be_folded_cased_and_spaced(step: int) -> None:
    head = b"--XyZ\r\nCONTENT-disposition:form-data;\r\n\t name=\"image\";\r\n filename*=utf-8''a.jpg\t\r\n"
    head += b"X:\r\nx: 2\r\n\r\n"
    (headers, data), *_ = read(head + JPEG + END, step=step)
    assert headers == {b"content-disposition": b"form-data; name=\"image\"; filename*=utf-8''a.jpg", b"x": b""}
    assert data == JPEG


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_part_may_have_no_headers_and_no_bytes(step: int) -> None:
    assert read(b"--XyZ\r\n\r\n1\r\n--XyZ\r\n\r\n\r\n--XyZ\r\nA: b\r\n\r\n\r\n--XyZ--", step=step) == [
        ({}, b"1"),
        ({}, b""),
        ({b"a": b"b"}, b""),
    ]


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_lines_end_as_the_first_boundarys_does(step: int) -> None:
    """So a form whose lines end with LF is read, and an LF in a form of CRLF is the image's."""
    body = b"MIME-Version: 1.0\n\n--XyZ\nA: b\n c\n\n1\r\n2\n--XyZ\r\n\n--XyZ \n\n3\n--XyZ--\n"
    assert read(body, step=step) == [({b"a": b"b c"}, b"1\r\n2\n--XyZ\r\n"), ({}, b"3")]
    assert read(b"--XyZ\r\n\r\n1\n--XyZ\n\n2\n--XyZ--\n3\r\n--XyZ--", step=step) == [({}, b"1\n--XyZ\n\n2\n--XyZ--\n3")]


@pytest.mark.parametrize("boundary", [b"'()+_,-./:=?", b"a b", b"--", b"x" * 70, b"x" * 256, b"\xe9", b".*[\\"])
def test_any_boundary_will_do(boundary: bytes) -> None:
    body = (
        (PART + END).replace(b"--XyZ\r\nC", b"--" + boundary + b"\r\nC").replace(b"--XyZ--", b"--" + boundary + b"--")
    )
    for step in (1, 1 << 20):
        assert [data for _, data in read(body, boundary, step)] == [JPEG]


@pytest.mark.parametrize("boundary", [b"", b"x" * 257])
def test_a_boundary_of_no_length_or_of_too_many_bytes_is_refused(boundary: bytes) -> None:
    with pytest.raises(MultipartError):
        MultipartParser(boundary)


@pytest.mark.parametrize("line", [b"no colon", b": empty", b"a b: c", b"a : c", b"\xe9: c", b" folded", b"--XyZ"])
def test_what_is_no_header_is_refused(line: bytes) -> None:
    with pytest.raises(MultipartError):
        read(b"--XyZ\r\n" + line + b"\r\n\r\n1" + END)


def test_what_is_no_part_is_counted_while_it_comes() -> None:
    parser = MultipartParser(b"XyZ")
    assert list(parser.feed(b"a" * 1000)) == []
    assert 1000 <= parser.overhead < 1100
    assert list(parser.feed(b"\r\n--XyZ\r\nA: " + b"b" * 1000)) == []
    assert 2000 <= parser.overhead < 2200
    assert len(list(parser.feed(b"\r\n\r\n" + b"1" * 1000))) == 2
    assert 2000 <= parser.overhead < 2200


def test_a_preamble_and_headers_that_come_by_the_byte_take_a_time_that_grows_with_them() -> None:
    began = time.process_time()
    for body in (b"-" * 60_000, b"\r\n--XyZ" * 8_000, b"--XyZ\r\n" + b"A:\r\n" * 15_000, PART + b"\r\n--XyZ " * 8_000):
        parser = MultipartParser(b"XyZ")
        for byte in range(len(body)):
            list(parser.feed(body[byte : byte + 1]))
    assert time.process_time() - began < 5


def mime(policy: email.policy.Policy) -> bytes:
    form = MIMEMultipart("form-data", "XyZ")
    part = MIMEImage(JPEG * 20, "jpeg")
    part.add_header("Content-Disposition", "form-data", name="image", filename="a.jpg")
    form.attach(part)
    return form.as_bytes(policy=policy)


def message(policy: email.policy.Policy) -> bytes:
    form = EmailMessage(policy=policy)
    form.make_mixed("XyZ")
    form.add_attachment(JPEG * 20, "image", "jpeg", disposition="form-data", filename="a long name of a file.jpg")
    next(form.iter_parts()).set_param("name", "image", header="Content-Disposition")  # and the line is folded
    return form.as_bytes()


@pytest.mark.parametrize("step", [1, 50, 1 << 20])
@pytest.mark.parametrize("write", [mime, message])
@pytest.mark.parametrize("policy", [email.policy.default, email.policy.SMTP, email.policy.compat32])
def test_what_pythons_email_package_writes_is_read(write: object, policy: email.policy.Policy, step: int) -> None:
    if write is message and policy is email.policy.compat32:
        pytest.skip("an EmailMessage has a newer policy")
    ((headers, data),) = read(write(policy), step=step)  # type: ignore[operator]
    assert b'name="image"' in headers[b"content-disposition"]
    assert headers[b"content-transfer-encoding"] == b"base64"
    decoder = Base64()
    image = b"".join(decoder.decode(data[start : start + step]) for start in range(0, len(data), step))
    decoder.end()
    assert image == JPEG * 20


@pytest.mark.parametrize(
    "digits", [b"QUJD*", b"QQ==QUJD", b"QUJ", b"Q=JD", b"=QUJ", b"\xff\xd8\xff\xe0", b"QQ=", b"QQ==="]
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_is_no_base64_is_refused(digits: bytes, step: int) -> None:
    decoder = Base64()
    with pytest.raises(MultipartError):
        for start in range(0, len(digits), step):
            decoder.decode(digits[start : start + step])
        decoder.end()


def test_what_requests_writes_is_read() -> None:
    files = {"x": "y", "image": ("ü.jpg", JPEG, "image/jpeg")}
    made = requests.Request("POST", "http://a", files=files).prepare()
    assert isinstance(made.body, bytes)
    boundary = made.headers["Content-Type"].split("boundary=")[1].encode()
    assert [data for _, data in read(made.body, boundary)] == [b"y", JPEG]
