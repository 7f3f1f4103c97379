"""Admission control: an ASGI layer that checks tokens before a request reaches the app."""

from __future__ import annotations

import hmac
import unicodedata
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.api.problem import problem
from retrieval.errors import TokenError

_READING_METHODS = ("GET", "HEAD", "OPTIONS")
# These routes take POST, but only read. A request to another route counts as a change unless its method is above.
_READING_POSTS = ("/v1/retrieve", "/v1/explain")


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens, compared byte for byte in UTF-8. The write token also grants reading.

    Args:
        write: required for every request that changes state; if None, all such requests are refused.
        read: required for all other requests under `/v1`; if None, everyone may send them.

    Blanks around a token, such as the newline at the end of a file, are not part of it.

    Raises:
        TokenError: a token is empty, or has a character that no HTTP header can carry.
    """

    write: str | None = field(default=None, repr=False)
    read: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, absent in (("write", "the server takes no changes"), ("read", "everyone may read")):
            if (token := getattr(self, name)) is not None:
                object.__setattr__(
                    self, name, _checked(token, f"the {name} token (LIGHTSAGE_{name.upper()}_TOKEN)", absent)
                )

    def may_read(self, authorization: bytes) -> bool:
        """Return whether the value of an Authorization header lets its sender read."""
        return self.read is None or _matches(authorization, self.read) or self.may_write(authorization)

    def may_write(self, authorization: bytes) -> bool:
        """Return whether the value of an Authorization header lets its sender change state."""
        return self.write is not None and _matches(authorization, self.write)


def _checked(token: str, name: str, absent: str) -> str:
    """Return a token without the blanks around it."""
    token = token.strip()
    if not token:
        raise TokenError(f"{name} is empty; give it a value, or unset it: without it, {absent}")
    for number, character in enumerate(token, start=1):
        if unicodedata.category(character) == "Cc":
            raise TokenError(
                f"{name} has the control character {character!r} at position {number}; no client can send it"
            )
    return token


def _matches(authorization: bytes, token: str) -> bool:
    scheme, _, credentials = authorization.partition(b" ")
    # A token from an environment variable may be invalid UTF-8; its bytes are compared all the same.
    expected = token.encode("utf-8", "surrogateescape")
    return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), expected)


class AdmissionControl:
    """Rejects requests without the token that they need."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if rejected := self._unauthorised(scope):
            status, detail = rejected
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await problem(status, detail, headers=headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _unauthorised(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and detail with which to reject a request, or None to admit it."""
        tokens = self._tokens
        reads = _reads(scope)
        if reads and (tokens.read is None or not scope["path"].startswith("/v1/")):
            return None
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if reads:
            return None if tokens.may_read(authorization) else (401, "reading needs a bearer token")
        if tokens.write is None:
            return 403, "this server takes no changes; to allow them, start it with LIGHTSAGE_WRITE_TOKEN set"
        return None if tokens.may_write(authorization) else (401, "changes need the write token as bearer token")


def _reads(scope: Scope) -> bool:
    return scope["method"] in _READING_METHODS or scope["path"] in _READING_POSTS
