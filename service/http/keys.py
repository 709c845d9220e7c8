"""API keys: how they are sent and checked, and what /docs says of them."""

import hmac
from typing import Any

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from service.errors import RequestError

KEY_HEADER = "X-API-Key"
SCHEME = "Bearer"


def check_key(request: Request, keys: tuple[str, ...]) -> None:
    """Refuse a request without a configured key in either header; every key is compared, in constant time.

    Raises:
        RequestError: 401.
    """
    if not keys:
        return
    given = [request.headers.get(KEY_HEADER, "")]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == SCHEME.lower():
        given.append(token.strip())
    fits = [hmac.compare_digest(word.encode(), key.encode()) for word in given for key in keys]
    if not any(fits):
        raise RequestError.key_missing()


def key_schemes(keys: tuple[str, ...]) -> list[Any]:
    """Both ways to send a key, for /docs to ask for one where keys are configured. `check_key` does the comparison."""
    if not keys:
        return []
    return [Security(APIKeyHeader(name=KEY_HEADER, auto_error=False)), Security(HTTPBearer(auto_error=False))]
