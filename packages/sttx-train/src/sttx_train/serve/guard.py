"""The checks before every route: keys, hosts and origins, and failures as error objects. Plain ASGI.

Without a key only this machine may ask, and no web page may: a page that a browser has open elsewhere could
otherwise use the server in the person's name. So the host that is asked for must be a name of this machine,
and a request that comes from a page must come from the server's own.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sttx_train.serve.failures import RequestError

_LOG = logging.getLogger(__name__)
_LOCAL = {"127.0.0.1", "localhost", "::1"}
KEY = "sttx.key"
"""Where a request's scope has its key."""
_OPEN = {"/health", "/"}  # without a key: they say nothing of anybody


class Guard:
    """Refuses requests that may not be answered, and answers with an error object if the application fails.

    Args:
        app: what answers the others.
        keys: keys of which a request needs one; none to let only this machine ask.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str] = ()) -> None:
        self._app, self._keys = app, [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            scope[KEY] = self._check(scope)
            await self._app(scope, receive, noting)
        except RequestError as error:
            if not started:
                await answer(error, send)
        except Exception:
            if started:
                raise
            _LOG.exception("a request failed")
            await answer(RequestError(500, "something failed inside the server; its log says what"), send)

    def _check(self, scope: Scope) -> str:
        """Return the key of a request, empty where none is needed; refuse one that may not ask."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if self._keys:
            key = self._key(headers)
            if scope["path"] not in _OPEN and key is None:
                raise RequestError(401, "a key is needed: send it as a bearer token", code="invalid_api_key")
            return key or ""
        host = _host_of("//" + headers.get(b"host", ""))
        if host not in _LOCAL:
            raise RequestError(403, f"this server answers to this machine alone, not as {host!r}")
        origin = headers.get(b"origin")
        if origin is not None and origin != f"http://{headers.get(b'host', '')}":
            raise RequestError(403, "this server does not answer to pages of other places")
        return ""

    def _key(self, headers: dict[bytes, str]) -> str | None:
        kind, _, given = headers.get(b"authorization", "").partition(" ")
        given = given.strip()
        good = kind.lower() == "bearer" and _among(given.encode("latin-1"), self._keys)
        return given if good else None


def _among(given: bytes, keys: list[bytes]) -> bool:
    """Return whether a key is among others; how long it takes says nothing of them."""
    found = False
    for key in keys:
        found |= hmac.compare_digest(given, key)
    return found


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def answer(error: RequestError, send: Send) -> None:
    """Send an error object."""
    body = json.dumps(error.body(), ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
