"""One connection: uvicorn's protocol on h11, with bounds on what a client can make it hold, do or believe.

h11 parses one message at a time, never takes trailers for headers, and never hands a body to another protocol.
"""

import asyncio
import re
import socket
import sys
import time
from typing import Any

import h11
import uvicorn
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from service.errors import ProtocolError
from service.http.envelope import add_headers
from service.http.problems import problem

HEADER_SECONDS = 10.0
"""Time for the headers of a request to arrive, from the opening of the connection or from their first byte."""
HEADER_BYTES = 65_536
"""The most bytes of a request's headers, of its trailers, and of the extensions of chunks."""
MAX_HEADERS = 200
FRAMING_A_BYTE = 16
"""Bytes of framing that each byte of a body may come with: a chunk of a single byte has five."""
CHUNK_BYTES, SMALL_CHUNKS = 128, 256
"""Chunks must have `CHUNK_BYTES` on average, after the first `SMALL_CHUNKS`: to parse one takes some 6 us."""
HEAD_PIECE, BODY_PIECE = 16_384, 65_536
"""Bytes that are parsed at a time. What follows a request is parsed when that is answered."""
TURN_SECONDS = 0.002
"""Time after which a connection that has more to parse lets the others run."""
EMPTY = (b"\r", b"\n")
STALL_SECONDS, STALL_BYTES = 10.0, 131_072
"""A client that takes less than `STALL_BYTES` of its answer in that time is cut off: the answer is held in memory."""
LINGER_SECONDS, LINGER_BYTES = 2.0, 1 << 20
"""After a refusal, what the client still sends is read and dropped, so that it sees the answer and not a reset."""
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.02, 1.0
"""Time between two checks whether a client that has closed its side is still there."""
STILL_THERE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""A client that waits ignores this; the host of a client that is gone answers it with a TCP reset."""
HOST = re.compile(rb"[\w.~!$&'()*+,;=:%\[\]-]*", re.ASCII)
QUOTE = re.compile(r""":? \(?b(?:ytearray\(b)?['"]""")
"""Begins what h11 repeats of the request behind what is wrong with it."""
READABLE = (h11.IDLE, h11.SEND_BODY)


class StrictConnection(h11.Connection):
    """h11's connection, which also refuses messages that other servers read differently, or that are mostly framing."""

    _framing = _missing = 0

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take bytes to parse."""
        if self.their_state is h11.SEND_BODY:
            self._framing += len(data)
        super().receive_data(data)  # type: ignore[arg-type]  # any buffer will do

    def start_next_cycle(self) -> None:
        """Start to wait for the next request; empty lines before it are dropped (RFC 9112, section 2.2)."""
        super().start_next_cycle()
        held, _ = self.trailing_data
        if held.startswith(EMPTY):
            self.__init__(h11.SERVER, HEADER_BYTES)  # type: ignore[misc]  # nothing else empties its buffer
            if held := held.lstrip(b"\r\n"):
                self.receive_data(held)

    def next_event(self) -> Any:
        """The next event.

        Raises:
            h11.RemoteProtocolError: the client broke the protocol, or a limit.
        """
        event = super().next_event()
        if isinstance(event, h11.Data):
            size = len(event.data)
            self._framing = max(0, self._framing - (1 + FRAMING_A_BYTE) * size)
            self._missing = max(0, self._missing - size + (CHUNK_BYTES if event.chunk_start else 0))
            if self._missing > SMALL_CHUNKS * CHUNK_BYTES:
                raise h11.RemoteProtocolError("The chunks of the body are too small")
        elif isinstance(event, h11.Request):
            self._framing = self._missing = 0
            check_head(event)
        elif event is h11.NEED_DATA and self.their_state is h11.SEND_BODY and self._framing > HEADER_BYTES:
            raise h11.RemoteProtocolError("The chunks of the body are nearly all framing")
        return event


def check_head(request: h11.Request) -> None:
    """Refuse a head that h11 lets pass.

    Raises:
        h11.RemoteProtocolError: 505, 431, or 400 for two lengths of one body.
    """
    if request.http_version not in (b"1.0", b"1.1"):
        raise h11.RemoteProtocolError("HTTP/1.1 is spoken here", 505)
    headers = list(request.headers)
    size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in headers)
    if size > HEADER_BYTES or len(headers) > MAX_HEADERS:
        raise h11.RemoteProtocolError("Too many headers", 431)
    named = dict(headers)
    if not HOST.fullmatch(named.get(b"host", b"")):  # h11 takes no second one
        raise h11.RemoteProtocolError("Host is no name of a host")
    if b"transfer-encoding" in named and (b"content-length" in named or request.http_version == b"1.0"):
        raise h11.RemoteProtocolError("Transfer-Encoding goes with HTTP/1.1 and without Content-Length")


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol, which closes a connection whose headers do not arrive in time or whose answer is not read.

    Requests that are sent ahead wait unparsed. What is not HTTP is answered with a problem, after the answers to the
    requests before it. A client that closes its sending side still gets its answer, unless it is gone altogether.
    """

    conn: StrictConnection

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.conn = StrictConnection(h11.SERVER, HEADER_BYTES)
        self._ahead = b""
        self._refused = self._half_closed = False
        self._unheard = 0
        self._guard: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Start to wait for headers."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Parse what came; what follows a request that is not answered yet is kept for later."""
        if self._refused:
            self._unheard += len(data)
            if self._unheard > LINGER_BYTES:
                self._close()
            return
        self._unset_keepalive_if_required()
        self._catch_up()
        self._ahead = self._ahead + data if self._ahead else data
        self._read_on()

    def _catch_up(self) -> None:
        """Finish what waits to be parsed before more is read: only one such wait can be scheduled."""
        while self._turn:
            self._read_on()

    def _read_on(self) -> None:
        """Parse, piece by piece, until a request ends, nothing is left, or this connection's turn is over."""
        turn, self._turn = self._turn, None
        if turn:
            turn.cancel()
        if self._ahead.startswith(EMPTY) and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._ahead = self._ahead.lstrip(b"\r\n")
        came, self._ahead = memoryview(self._ahead), b""
        end = time.monotonic() + TURN_SECONDS
        while came and not self._refused and self.conn.their_state in READABLE:
            size = BODY_PIECE
            if self.conn.their_state is h11.IDLE:
                self._watch()
                size = HEAD_PIECE
            self.conn.receive_data(came[:size])
            came = came[size:]
            self.handle_events()
            if came and time.monotonic() > end:
                self._turn = self.loop.call_soon(self._read_on)
                break
        self._ahead = b"" if self._refused else bytes(came)
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        if self._ahead:
            self.flow.pause_reading()
        elif turn or self.conn.their_state not in READABLE:
            self.flow.resume_reading()  # to see the client leave; h11 has no more than a piece

    def on_response_complete(self) -> None:
        """Go on with the next request, which may be here already."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_progress()
            return
        self._read_on()
        if self._half_closed and not self.busy:
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no request has come for a while."""
        if not self.transport.is_closing():
            super().timeout_keep_alive_handler()
            self._watch_progress()

    def _should_upgrade(self) -> bool:
        return False

    def send_400_response(self, msg: str) -> None:
        """Answer with a problem and end the connection. uvicorn calls this while it handles h11's exception."""
        reason = sys.exception()
        self._refused = True
        self._unwatch()
        status = reason.error_status_hint if isinstance(reason, h11.RemoteProtocolError) else 400
        request = Request({"type": "http", "headers": [], "state": {}})
        if self.busy:  # the body of this request is what is wrong
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self._close()
                return
            request = Request(dict(self.scope))
        answer = problem(request, ProtocolError.refused(status, QUOTE.split(str(reason or msg))[0]))
        answer.headers["Connection"] = "close"
        add_headers(answer.headers, request)
        lines = [b"HTTP/1.1 %d %b" % (status, STATUS_PHRASES[status])]
        lines += [b"%b: %b" % pair for pair in (*self.server_state.default_headers, *answer.raw_headers)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.write_eof()
        self._guard = self.loop.call_later(LINGER_SECONDS, self._close)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open for an answer, now that the client sends no more."""
        self._catch_up()
        if self._refused or not self.busy or self.cycle.more_body:
            return False
        if not self._half_closed and self.scope["http_version"] == "1.1" and not self.cycle.response_started:
            self.transport.write(STILL_THERE)
            self._look = self.loop.call_later(FIRST_LOOK_SECONDS, self._look_for_reset, FIRST_LOOK_SECONDS)
        self._half_closed = True
        return True

    def _look_for_reset(self, seconds: float) -> None:
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            seconds = min(2 * seconds, LONGEST_LOOK_SECONDS)
            self._look = self.loop.call_later(seconds, self._look_for_reset, seconds)

    def pause_writing(self) -> None:
        """Watch a client that is slow to read."""
        super().pause_writing()
        self._watch_progress()

    def resume_writing(self) -> None:
        """Stop to watch a client that has caught up."""
        super().resume_writing()
        if self._stall:
            self._stall.cancel()
            self._stall = None
        if self.transport.is_closing():
            self._watch_progress()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every timer."""
        self._unwatch()
        for timer in (self._stall, self._look, self._turn):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def _close(self) -> None:
        self.transport.close()  # when its client has taken what it was sent
        self._watch_progress()

    def _watch_progress(self) -> None:
        if self._stall is None:
            left = self.transport.get_write_buffer_size()
            self._stall = self.loop.call_later(STALL_SECONDS, self._check_progress, left)

    def _check_progress(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > before - STALL_BYTES:
            self.transport.abort()  # `close` would wait for the client
        else:
            self._stall = self.loop.call_later(STALL_SECONDS, self._check_progress, left)

    def _watch(self) -> None:
        if self._guard is None:
            self._guard = self.loop.call_later(HEADER_SECONDS, self._close)

    def _unwatch(self) -> None:
        if self._guard:
            self._guard.cancel()
            self._guard = None
