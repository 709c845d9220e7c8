"""HTTP as clients should not speak it, over real sockets: each request gets its own answer, or is refused."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from model.interface.codec import encode_png
from service.http.connection import HEADER_SECONDS
from tests.resilience.attack import exchange
from tests.resilience.client import request, running
from tests.service.emulated import image

PHOTO = encode_png(image())
LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST /panoptic HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(PHOTO), PHOTO)


def head(*lines: bytes, path: bytes = b"/panoptic") -> bytes:
    return b"POST %b HTTP/1.1\r\n" % path + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes) -> bytes:
    return head(b"Host: a", *lines, b"Content-Length: %d" % len(PHOTO)) + PHOTO


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", answers)]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a service whose batches take 50 ms."""
    yield from keyed("")


@pytest.fixture(scope="module")
def key_port() -> Iterator[int]:
    """Of one that asks for a key."""
    yield from keyed("goodkey")


def keyed(keys: str) -> Iterator[int]:
    with running("--base-ms", "50", api_keys=keys) as (number, _):
        yield number


REFUSED = {
    "no Host": (b"GET /health/live HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two lengths": (head(b"Host: a", b"Content-Length: 4", b"Content-Length: 5") + b"abcd", 400),
    "a length that is none": (head(b"Host: a", b"Content-Length: +4") + b"abcd", 400),
    "length and chunks": (head(b"Host: a", b"Content-Length: 4", b"Transfer-Encoding: chunked") + CHUNK, 400),
    "chunks in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + CHUNK + b"0\r\n\r\n", 400),
    "another coding": (CHUNKED.replace(b"chunked", b"gzip, chunked") + CHUNK + b"0\r\n\r\n", 501),
    "a coding that is none": (CHUNKED.replace(b"chunked", b"xchunked") + CHUNK + b"0\r\n\r\n", 501),
    "a chunk without size": (CHUNKED + b"\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk longer than it says": (CHUNKED + b"2\r\nabc\r\n0\r\n\r\n", 400),
    "space before the colon": (head(b"Host : a", b"Content-Length: 0"), 400),
    "a Host that is none": (b"GET /health/live HTTP/1.1\r\nHost: a b/@c\r\n\r\n", 400),
    "NUL in a header": (b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "CR in a header": (b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: a\rX-B: c\r\n\r\n", 400),
    "no version": (b"GET /health/live\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "201 headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + 200 * b"X: 1\r\n" + b"\r\n", 431),
    "70 kB of path": (b"GET /" + bytes(70_000).replace(b"\0", b"a") + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    "1 MB of trailers": (CHUNKED + CHUNK + b"0\r\n" + b"X: y\r\n" * 170_000, 431),
    "1 MB of a chunk's extension": (CHUNKED + b"5;" + b"a" * 1_000_000, 431),
    "70 000 chunks of a byte": (CHUNKED + b"1\r\nx\r\n" * 70_000, 400),
    "small chunks of long extensions": (CHUNKED + (b"1;" + b"a" * 40_000 + b"\r\nx\r\n") * 20, 400),
}


TOLD = {
    "no Host": "Missing mandatory Host: header",
    "two Hosts": "Found multiple Host: headers",
    "two lengths": "Conflicting Content-Length headers",
    "another coding": "Only Transfer-Encoding: chunked is supported",
    "space before the colon": "Illegal header line",
    "no version": "Illegal request line",
    "a chunk longer than it says": "Malformed chunk footer",
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_wrong_is_told_in_a_whole_sentence_that_repeats_nothing(port: int, name: str) -> None:
    body = exchange(port, REFUSED[name][0]).split(b"\r\n\r\n", 1)[1]
    assert json.loads(body)["detail"] == f"{TOLD[name]}. Send HTTP/1.1 (RFC 9112)."


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_http_is_refused_as_a_problem_and_ends_the_connection(port: int, name: str) -> None:
    sent, status = REFUSED[name]
    answers = exchange(port, sent + LIVE)
    assert statuses(answers) == [status]
    lines, body = answers.split(b"\r\n\r\n", 1)
    headers = dict(line.lower().split(": ", 1) for line in lines.decode().split("\r\n")[1:])
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + CHUNK + b"0\r\n\r\n",
        CHUNKED + CHUNK.replace(b"\r\n", b";a=b\r\n", 1) + b"0;x\r\n\r\n",
        CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in PHOTO) + b"0\r\n\r\n",
        CHUNKED + CHUNK + b"0\r\nX-Checksum: 1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        post(b"Expect: 100-continue"),
        post(b"X: " + b"a" * 60_000),
        head(b"Host: a", b"Content-Length: %d" % len(PHOTO), path=b"http://a/panoptic") + PHOTO,
        b"\r\n" + post(),
        post(b"Expect: "),
    ],
    ids=[
        "chunks",
        "extensions",
        "single bytes",
        "trailers",
        "expectation",
        "long header",
        "absolute form",
        "empty line",
        "empty expectation",
    ],
)
def test_what_is_http_is_answered_whatever_its_segments(port: int, sent: bytes) -> None:
    for parts in ([sent + LAST], [sent[:37], sent[37:130], sent[130:], LAST]):
        answers = statuses(exchange(port, *parts))
        assert [status for status in answers if status != 100] == [200, 200]


@pytest.mark.parametrize(
    "parts",
    [
        [post() + b"\r\n" + LAST],
        [post() + b"\r\n", LAST],
        [post() + b"\r", b"\n" + LAST],
        [post() + b"\r\n\r\n", b"\r\n", b"\r\n" + LAST],
        [post() + LIVE + b"\r\n" + LAST],
    ],
    ids=["together", "behind the body", "halved", "many", "behind others"],
)
def test_empty_lines_between_requests_are_dropped(port: int, parts: list[bytes]) -> None:
    assert set(statuses(exchange(port, *parts))) == {200}


def test_chunks_that_take_many_turns_to_parse_arrive_whole(port: int) -> None:
    pieces = [PHOTO[i : i + 1] for i in range(len(PHOTO))]
    junk = bytes(300_000)  # behind the picture, and ignored
    body = b"".join(b"1\r\n%b\r\n" % piece for piece in pieces)
    body += b"".join(b"80\r\n%b\r\n" % junk[i : i + 128] for i in range(0, len(junk) - 127, 128)) + b"0\r\n\r\n"
    for parts in ([CHUNKED + body + LAST], [CHUNKED + body[:50_000], body[50_000:] + LAST]):
        assert statuses(exchange(port, *parts)) == [200, 200]
    assert statuses(exchange(port, CHUNKED + body, half_close=True))[-1] == 200


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"foo", b"h2c, foo", b"TLS/1.0"])
@pytest.mark.parametrize("before", [b"", LIVE], ids=["first", "behind another"])
def test_an_offer_of_another_protocol_is_not_heard_wherever_the_head_is_split(
    port: int, protocol: bytes, before: bytes
) -> None:
    """And the body is the request's, even one that looks like a request."""
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    offer = head(b"Host: a", b"Connection: Upgrade", b"Upgrade: " + protocol, b"Content-Length: %d" % len(smuggled))
    for parts in ([offer + smuggled], [offer, smuggled], [offer[:40], offer[40:], smuggled]):
        answers = exchange(port, before + parts[0], *parts[1:], LAST)
        assert statuses(answers) == [*([200] if before else []), 415, 200]
        assert b"# HELP" not in answers


@pytest.mark.parametrize("field", [b"X-API-Key: goodkey", b"Authorization: Bearer goodkey"])
def test_a_key_in_a_trailer_opens_nothing(key_port: int, field: bytes) -> None:
    ends = CHUNK + b"0\r\n" + field + b"\r\n\r\n"
    assert statuses(exchange(key_port, CHUNKED + ends + LAST)) == [401, 200]
    opened = CHUNKED.replace(b"Host: a\r\n", b"Host: a\r\n" + field + b"\r\n")
    trailers = b"0\r\nX-Request-ID: from-a-trailer\r\nX-API-Key: bad\r\n\r\n"
    answers = exchange(key_port, opened + CHUNK + trailers + LAST)
    assert statuses(answers) == [200, 200]
    assert b"from-a-trailer" not in answers


@pytest.mark.parametrize("rubbish", [b"garbage\r\n\r\n", b"\0\1 bad\r\n\r\n"])
def test_answers_that_are_due_come_before_a_refusal(port: int, rubbish: bytes) -> None:
    assert statuses(exchange(port, post() + LIVE + rubbish + LIVE)) == [200, 200, 400]
    assert statuses(exchange(port, post(), rubbish)) == [200, 400]


@pytest.mark.parametrize("sent", [post(), CHUNKED + CHUNK + b"0\r\n\r\n", post() + post() + LIVE])
def test_a_client_that_closes_its_side_behind_its_request_gets_its_answer(port: int, sent: bytes) -> None:
    answers = exchange(port, sent, half_close=True)
    expected = 3 if sent.endswith(LIVE) else 1
    assert [status for status in statuses(answers) if status != 100] == [200] * expected


def test_a_client_that_leaves_while_it_waits_is_noticed(port: int) -> None:
    def outcomes() -> dict[str, float]:
        text = exchange(port, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").decode()
        return {name: float(count) for name, count in re.findall(r'images_total\{outcome="(\w+)"\} (\S+)', text)}

    before = outcomes()["cancelled"]
    patience = time.monotonic() + 30
    while outcomes()["cancelled"] == before:  # on a busy host a client may leave before it waits, or be answered
        assert time.monotonic() < patience
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(post())
            time.sleep(0.02)
        time.sleep(0.1)


def test_an_unknown_expectation_is_refused_and_the_connection_goes_on(port: int) -> None:
    answers = exchange(port, post(b"Expect: 200-ok") + LAST)
    assert statuses(answers) == [417, 200]
    assert b'"expectation_failed"' in answers


@pytest.mark.parametrize("lines", [[b"Expect: 100-continue", b"Expect: 200-ok"], [b"Expect: 100-continue, foo"]])
def test_an_unknown_expectation_is_refused_beside_a_known_one_too(port: int, lines: list[bytes]) -> None:
    assert statuses(exchange(port, post(*lines))) == [417]


def test_expectations_of_http_1_0_are_ignored(port: int) -> None:
    assert statuses(exchange(port, post(b"Expect: foo").replace(b"HTTP/1.1", b"HTTP/1.0"))) == [200]


@pytest.mark.parametrize(
    ("given", "echoed"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", False),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", True),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False),
        ("<script>", False),
    ],
)
def test_a_traceparent_is_passed_on_where_it_is_one(port: int, given: str, echoed: bool) -> None:
    sent = request(b"", "/health/live", "GET", traceparent=given, Connection="close")
    assert (f"traceparent: {given}\r\n".encode() in exchange(port, sent)) is echoed


def test_a_refusal_does_not_wait_for_the_body(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head(b"Host: a", b"Content-Length: 99999999999"))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["code"]) == (413, "body_too_large")


def test_requests_sent_ahead_are_answered_in_turn_and_in_order(port: int) -> None:
    ahead = [b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Request-ID: n%d\r\n\r\n" % number for number in range(500)]
    answers = exchange(port, b"".join(ahead) + LAST)
    assert re.findall(rb"x-request-id: n(\d+)", answers) == [b"%d" % number for number in range(500)]


def test_headers_sent_by_half_are_cut(port: int) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=4 * HEADER_SECONDS) as client:
        client.sendall(b"POST /panoptic HTTP/1.1\r\nHost: a\r\nX-")
        assert client.recv(100) == b""
        assert time.monotonic() - began > 0.9 * HEADER_SECONDS


def test_headers_without_end_are_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Long: ")
        sent = 0
        with pytest.raises(OSError):
            while sent < 50_000_000:
                client.sendall(b"a" * 100_000)
                sent += 100_000
    assert sent < 10_000_000


def test_headers_of_ordinary_length_are_not_cut(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(3):  # each request of a connection is counted anew
        connection.request("GET", "/health/live", headers={"X-Long": "a" * 40_000})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()
