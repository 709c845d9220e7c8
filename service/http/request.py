"""A request beside its body: its id and key, the view and deadline that it asks for, and whether its client left."""

import asyncio
import contextlib
import hmac
import random
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer

from service.errors import ClientGoneError, DeadlineExceededError, RequestError

Value = TypeVar("Value")

ID_HEADER = "X-Request-ID"
DEADLINE_HEADER = "X-Deadline-Ms"
KEY_HEADER = "X-API-Key"
SCHEME = "Bearer"
VIEWS = ("ids", "overlay")
"""What the picture of an answer shows; the first is the default."""
WORD = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class PlainRoute(APIRoute):
    """A route whose endpoint takes the request as it is. FastAPI would spend time to find that nothing is parsed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        return self.endpoint


def request_id(request: Request) -> str:
    """The request's own X-Request-ID where it is a plain word, else a new one."""
    state = request.scope.setdefault("state", {})
    if "request_id" not in state:
        given = request.headers.get(ID_HEADER, "")
        state["request_id"] = given if WORD.fullmatch(given) else f"{random.getrandbits(128):032x}"
    return str(state["request_id"])


def parse_view(request: Request) -> str:
    """The one of `VIEWS` that the query names.

    Raises:
        RequestError: 400, an unknown query name or value.
    """
    for name, value in request.query_params.multi_items():
        if name != "view" or value not in VIEWS:
            raise RequestError.unknown_query(f"{name}={value}", (f"view={view}" for view in VIEWS))
    return request.query_params.get("view", VIEWS[0])


def check_coding(request: Request) -> None:
    """Refuse a body that has to be unpacked first.

    Raises:
        RequestError: 415, by RFC 9110, section 8.4.
    """
    codings = ", ".join(request.headers.getlist("content-encoding"))
    if any(coding.strip(" \t").lower() not in ("", "identity") for coding in codings.split(",")):
        raise RequestError.coded_body(codings)


def deadline_seconds(request: Request, limit_ms: int) -> float:
    """The service's deadline, or the request's where that is sooner.

    Raises:
        RequestError: 400, X-Deadline-Ms is not a positive whole number.
    """
    given = request.headers.get(DEADLINE_HEADER)
    if given is None:
        return limit_ms / 1000
    digits = re.fullmatch(r"0*([1-9][0-9]*)", given)
    if not digits:
        raise RequestError.bad_deadline(given, limit_ms)
    asked = int(digits[1]) if len(digits[1]) < 20 else limit_ms  # Python refuses to read the longest numbers
    if asked < limit_ms:
        request.scope.setdefault("state", {})["own_deadline"] = asked, limit_ms
    return min(asked, limit_ms) / 1000


def deadline_error(request: Request, error: DeadlineExceededError) -> DeadlineExceededError:
    """What to say of a deadline that passed: only a client that set it can set a later one."""
    own = request.scope.get("state", {}).get("own_deadline")
    return DeadlineExceededError.of_client(*own) if own else error


async def unless_gone(request: Request, work: Awaitable[Value]) -> Value:
    """The result of the work, which is cancelled when the client leaves.

    Raises:
        ClientGoneError: it left.
    """
    ours = asyncio.current_task()
    assert ours is not None
    left = False

    def leave(_: asyncio.Future[None]) -> None:
        nonlocal left
        left = True
        ours.cancel()

    gone = asyncio.ensure_future(wait_until_gone(request))
    gone.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if left and not ours.uncancel():
            raise ClientGoneError() from None
        raise
    finally:
        gone.remove_done_callback(leave)
        gone.cancel()


async def wait_until_gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def check_key(request: Request, keys: tuple[str, ...]) -> None:
    """Refuse a request without a configured key in either header; every key is compared, in constant time.

    Of several lines of one of these headers the first counts: neither is a list.

    Raises:
        RequestError: 401.
    """
    if not keys:
        return
    given = [sent(request, KEY_HEADER)]
    scheme, *token = re.split(rb"[ \t]+", sent(request, "Authorization"), maxsplit=1)
    if scheme.lower() == SCHEME.lower().encode():
        given += token
    fits = [hmac.compare_digest(word, form) for word in given for key in keys for form in key_forms(key)]
    if not any(fits):
        raise RequestError.key_missing()


def sent(request: Request, name: str) -> bytes:
    """The value of a header as it came; empty where there is none."""
    return request.headers.get(name, "").encode("latin-1")  # Starlette has decoded it so


def key_forms(key: str) -> list[bytes]:
    """The bytes that clients send for a key: as the environment has it, or as Python's and browsers' do, in Latin-1."""
    forms = [key.encode(errors="surrogateescape")]
    with contextlib.suppress(UnicodeEncodeError):
        forms.append(key.encode("latin-1"))
    return forms


def key_schemes(keys: tuple[str, ...]) -> list[Any]:
    """Both ways to send a key, for /docs to ask for one where keys are configured. `check_key` does the comparison."""
    if not keys:
        return []
    return [Security(APIKeyHeader(name=KEY_HEADER, auto_error=False)), Security(HTTPBearer(auto_error=False))]
