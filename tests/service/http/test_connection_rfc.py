"""HTTP as the RFCs have it, by literal requests over real sockets: offers to upgrade, lists, blanks, bytes, forms."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.interface.codec import encode_png
from tests.paths import SHARED
from tests.resilience.attack import exchange
from tests.resilience.client import running
from tests.service.emulated import image

REPORTS = SHARED / "faults/reports/http"
PHOTO = encode_png(image())
KEY = "schlüssel"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CURL = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
OFFERS = {
    "h2c, as curl and Java do": CURL,
    "h2c first": (CURL[1], CURL[0], CURL[2]),
    "TLS/1.0": (b"Connection: Upgrade", b"Upgrade: TLS/1.0"),
    "several": (b"Connection: Upgrade", b"Upgrade: h2c, TLS/1.2, websocket"),
    "on several lines": (b"Upgrade: h2c", b"Upgrade: websocket", b"Connection: keep-alive", b"Connection: upgrade"),
    "websocket": (
        b"Upgrade: websocket",
        b"Connection: keep-alive, Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
    ),
    "not of this connection": (b"Upgrade: h2c",),
    "of nothing": (b"Connection: Upgrade", b"Upgrade: "),
    "h2": (b"connection:upgrade", b"upgrade:h2"),
    "chunked": (*CURL, b"Transfer-Encoding: chunked"),
}


def post(*lines: bytes, body: bytes = PHOTO, version: bytes = b"1.1", path: bytes = b"/panoptic") -> bytes:
    if b"Transfer-Encoding: chunked" in lines:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        lines += (b"Content-Length: %d" % len(body),)
    return b"POST %b HTTP/%b\r\n" % (path, version) + b"\r\n".join((b"Host: a", *lines, b"", body))


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", answers) if status != b"100"]


def serve(keys: str) -> Iterator[int]:
    with running("--base-ms", "5", api_keys=keys) as (number, _):
        yield number


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    yield from serve("")


@pytest.fixture(scope="module")
def key_port() -> Iterator[int]:
    """Of a service whose key is no ASCII."""
    yield from serve(KEY)


def reported() -> list[tuple[str, ...]]:
    """The requests of public bug reports, in their segments."""
    files = sorted(path.name for path in REPORTS.glob("*.http")) if REPORTS.is_dir() else []
    first = [name for name in files if not re.search(r"\.[2-9]\.http$", name)]
    return [(name, *(more for more in files if more == name.replace(".1.http", ".2.http") != name)) for name in first]


@pytest.mark.skipif(not REPORTS.is_dir(), reason=f"needs {REPORTS}")
def test_requests_of_public_bug_reports_are_answered(port: int) -> None:
    assert len(reported()) >= 6
    for names in reported():
        parts = [Path(REPORTS, name).read_bytes() for name in names]
        assert statuses(exchange(port, *parts, patience=0.5)) == [200], names
        assert statuses(exchange(port, b"".join(parts), patience=0.5)) == [200], names


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_an_offer_to_upgrade_is_ignored_and_the_body_read(port: int, offer: tuple[bytes, ...]) -> None:
    sent = post(*offer)
    end = sent.index(b"\r\n\r\n")
    for cut in (sent.index(b"Upgrade" if b"Upgrade" in sent else b"upgrade") + 3, end - 9, end + 2, end + 4, end + 9):
        assert statuses(exchange(port, sent[:cut], sent[cut:] + LAST)) == [200, 200]
    assert statuses(exchange(port, sent + sent + LIVE + sent + LAST)) == [200] * 5
    assert statuses(exchange(port, sent, sent, LAST)) == [200] * 3


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_an_offer_to_upgrade_is_ignored_where_every_byte_comes_alone(port: int, offer: tuple[bytes, ...]) -> None:
    sent = post(*offer) + LAST
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in range(len(sent)):
            client.sendall(sent[byte : byte + 1])
            if byte < 400:
                time.sleep(0.0005)
        while piece := client.recv(65_536):
            got += piece
    assert statuses(got) == [200, 200]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("offer", [OFFERS["websocket"], CURL], ids=["websocket", "h2c"])
def test_a_get_that_offers_an_upgrade_is_a_plain_get(port: int, offer: tuple[bytes, ...], method: bytes) -> None:
    sent = method + b" /health/live HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(offer) + b"\r\n\r\n"
    answers = exchange(port, sent + LAST)
    assert statuses(answers) == [200, 200]
    assert b"101" not in answers.split(b"\r\n")[0]


def test_a_client_that_expects_to_be_asked_and_offers_an_upgrade_is_asked(port: int) -> None:
    head, body = post(b"Expect: 100-continue", *CURL).split(b"\r\n\r\n", 1)
    answers = exchange(port, head + b"\r\n\r\n", body + LAST)
    assert answers.startswith(b"HTTP/1.1 100 ")
    assert statuses(answers) == [200, 200]


@pytest.mark.parametrize(
    ("lines", "status", "kind"),
    [
        ((b"Accept: text/html", b"Accept: image/png"), 200, b"image/png"),
        ((b"Accept: image/png;q=0.5", b"Accept: application/zip"), 200, b"application/zip"),
        ((b"Accept: application/json;q=0, */*", b"Accept: application/zip;q=0.1"), 200, b"image/png"),
        ((b"Accept: ", b"Accept: \t image/png \t"), 200, b"image/png"),
        ((b"Accept: text/html", b"Accept: text/plain"), 406, b"application/problem+json"),
        ((b"Accept: t\xe9xt/html", b"Accept: \xff\xfe"), 406, b"application/problem+json"),
        ((b"Expect: 100-continue", b"Expect: 100-Continue , "), 200, b"application/json"),
        ((b"Expect: \t", b"Expect: foo"), 417, b"application/problem+json"),
        ((b"Cache-Control: no-cache", b"Cache-Control: max-age=0"), 200, b"application/json"),
    ],
)
def test_lines_of_one_list_are_one_list(port: int, lines: tuple[bytes, ...], status: int, kind: bytes) -> None:
    answers = exchange(port, post(*lines) + LAST)
    assert statuses(answers) == [status, 200]
    assert b"content-type: %b\r\n" % kind in answers.lower()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Content-Encoding: gzip",), 415),
        ((b"Content-Encoding: identity", b"Content-Encoding: br"), 415),
        ((b"Content-Encoding: Identity", b"Content-Encoding: , identity"), 200),
        ((b"Content-Encoding: ",), 200),
    ],
)
def test_a_body_that_has_to_be_unpacked_is_refused_as_such(port: int, lines: tuple[bytes, ...], status: int) -> None:
    answers = exchange(port, post(*lines) + LAST)
    assert statuses(answers) == [status, 200]
    assert (b"\r\naccept-encoding: identity\r\n" in answers) == (status == 415)


@pytest.mark.parametrize(
    "lines",
    [(b"Connection: keep-alive", b"Connection: close"), (b"Connection: foo ,\tCLOSE\t, Upgrade", b"Connection: bar")],
)
def test_a_connection_is_closed_whichever_line_says_so(port: int, lines: tuple[bytes, ...]) -> None:
    assert statuses(exchange(port, post(*lines) + LIVE)) == [200]


def test_a_length_that_is_said_twice_is_one(port: int) -> None:
    same = b"Content-Length: %d" % len(PHOTO)
    assert statuses(exchange(port, post(same) + LAST)) == [200, 200]
    assert statuses(exchange(port, post(b"Content-Length:\t %d ,%d " % (len(PHOTO), len(PHOTO))) + LAST)) == [200, 200]
    assert statuses(exchange(port, post(b"Content-Length: 1") + LAST)) == [400]
    assert statuses(exchange(port, post(b"Content-Length: 0%d" % len(PHOTO)) + LAST)) == [400]


BLANKS = {
    "deadline": (b"X-Deadline-Ms:", b"5000"),
    "id": (b"X-Request-ID:", b"my-id"),
    "trace": (b"traceparent:", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "accept": (b"Accept:", b"image/png"),
    "expectation": (b"Expect:", b"100-continue"),
    "type": (b"Content-Type:", b"image/jpeg"),
    "connection": (b"Connection:", b"keep-alive"),
    "key": (b"X-API-Key:", KEY.encode()),
    "bearer": (b"Authorization:", b"bearer \t  " + KEY.encode()),
}


@pytest.mark.parametrize("name", BLANKS)
@pytest.mark.parametrize("before", [b"", b" ", b"\t \t", b"\r\n\t"], ids=["none", "one", "tabs", "folded"])
@pytest.mark.parametrize("behind", [b"", b" ", b" \t\t ", b"\r\n "], ids=["none", "one", "tabs", "folded"])
def test_blanks_around_a_value_are_no_part_of_it(key_port: int, name: str, before: bytes, behind: bytes) -> None:
    field, value = BLANKS[name]
    lines = [field + before + value + behind]
    lines += [b"X-API-Key: " + KEY.encode()] if name not in ("key", "bearer") else []
    answers = exchange(key_port, post(*lines) + LAST, patience=3)
    assert statuses(answers) == [200, 200]
    if name in ("id", "trace"):
        assert b"%b %b\r\n" % (field.lower(), value) in answers
    if name == "accept":
        assert b"content-type: image/png" in answers


def test_blanks_around_the_framing_are_no_part_of_it(port: int) -> None:
    host = post().replace(b"Host: a", b"Host:\t a \t").replace(b"Content-Length: ", b"Content-Length:\t")
    chunked = post(b"Transfer-Encoding: chunked").replace(b": chunked", b":\tChunked \t")
    assert statuses(exchange(port, host + chunked + LAST)) == [200, 200, 200]
    for blank in (b"\x0b", b"\x0c"):  # blanks of other grammars
        assert statuses(exchange(port, post().replace(b"Length: ", b"Length: " + blank) + LAST)) == [400]


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (b"X-API-Key: " + KEY.encode(), 200),
        (b"X-API-Key: " + KEY.encode("latin-1"), 200),  # as requests, urllib and fetch send it
        (b"Authorization: BEARER " + KEY.encode(), 200),
        (b"X-API-Key: raw\xff", 401),
        (b"X-API-Key: schl\xffssel", 401),
        (b"X-API-Key: schlussel", 401),
        (b"X-API-Key: \xff\xfe\x80", 401),
        (b"Authorization: B\xe9arer x", 401),
        (b"Authorization: Basic eA==\r\nAuthorization: Bearer " + KEY.encode(), 401),  # no list: the first counts
    ],
)
def test_a_key_is_compared_as_the_bytes_that_came(key_port: int, field: bytes, status: int) -> None:
    assert statuses(exchange(key_port, post(field) + LAST)) == [status, 200]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"X-Request-ID: \xc3\xbc"), 200),
        (post(b"traceparent: \xff"), 200),
        (post(b"Content-Type: \xff; \xe9=\xe9"), 200),
        (post(b"Content-Type: multipart/form-data; boundary=\xff"), 400),
        (post(b"X-Deadline-Ms: \xd9\xa3"), 400),
        (post(b"Expect: \xe9"), 417),
        (post(path=b"/panoptic?view=%ff%ed%a0%80"), 400),
        (post(path=b"/panoptic/%ff%ed%a0%80"), 404),
        (post(path=b"http://a/%ff%ed%a0%80"), 404),
    ],
)
def test_bytes_that_are_no_ascii_are_no_fault_of_the_service(port: int, sent: bytes, status: int) -> None:
    assert statuses(exchange(port, sent + LAST)) == [status, 200]


def test_bytes_that_are_no_ascii_are_no_target(port: int) -> None:
    for path in ("/panoptic?view=ü", "/ü"):
        assert statuses(exchange(port, post(path=path.encode()) + LAST)) == [400]


def test_a_504_advises_a_later_deadline_only_where_the_clients_own_has_passed(port: int) -> None:
    assert b"up to 30000" in exchange(port, post(b"X-Deadline-Ms: 1", b"Connection: close"))
    assert statuses(exchange(port, post(b"X-Deadline-Ms: 120000") + LAST)) == [200, 200]


FORM = b'--XyZ\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + PHOTO + b"\r\n--XyZ--\r\n"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"multipart/form-data; boundary=XyZ", FORM),
        (b'Multipart/Form-Data ;charset=utf-8; BOUNDARY = "XyZ" ', FORM),
        (b"multipart/form-data;\r\n boundary=XyZ", FORM),
        (
            b"multipart/form-data; boundary=XyZ",
            b"Content-Type: multipart/form-data\r\nMIME-Version: 1.0\r\n\r\n" + FORM,
        ),
        (b"multipart/form-data; boundary=XyZ", b"\r\n" + FORM + b"epilogue\r\n--XyZ\r\n"),
    ],
)
@pytest.mark.parametrize("coding", [(), (b"Transfer-Encoding: chunked",)], ids=["length", "chunks"])
def test_a_form_is_read_with_what_stands_around_it(port: int, kind: bytes, body: bytes, coding: tuple[bytes]) -> None:
    sent = post(b"Content-Type: " + kind, *coding, *CURL, body=body)
    for parts in ([sent + LAST], [sent[:150], sent[150:290], sent[290:] + LAST]):
        assert statuses(exchange(port, *parts)) == [200, 200]
