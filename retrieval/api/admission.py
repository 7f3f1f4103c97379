"""Who may ask, and how much at once: an ASGI layer in front of the app."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.api.problem import problem
from retrieval.api.telemetry import Metrics
from retrieval.config import ServeConfig

_RETRY_AFTER_SECONDS = 1
# What watches a server must see it also while it turns others away.
_ALWAYS = ("/healthz", "/readyz", "/metrics")


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens. write: for what changes state, which is refused without one; read: for `/v1`, open without one.

    Who may write may read.
    """

    write: str | None = field(default=None, repr=False)
    read: str | None = field(default=None, repr=False)

    def may_read(self, sent: str) -> bool:
        """Whether an Authorization header's value lets its sender read."""
        return self.read is None or _is(sent, self.read) or self.may_write(sent)

    def may_write(self, sent: str) -> bool:
        """Whether it lets its sender change state."""
        return self.write is not None and _is(sent, self.write)


def _is(sent: str, token: str) -> bool:
    scheme, _, given = sent.partition(" ")
    return scheme.casefold() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


class Guard:
    """Turns away who has no token, and whoever comes while enough are being answered."""

    def __init__(self, app: ASGIApp, config: ServeConfig, tokens: Tokens, metrics: Metrics) -> None:
        self._app, self._config, self._tokens, self._metrics = app, config, tokens, metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401, 403 or 503."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._in_flight >= self._config.max_in_flight:
            self._metrics.turned_away.inc()
            said = f"{self._in_flight} requests are being answered, the most that this server takes at once"
            refusal = problem(503, said, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})
            await refusal(scope, receive, send)
            return
        if refused := self._not_allowed(scope):
            status, said = refused
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await problem(status, said, headers=headers)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1

    def _not_allowed(self, scope: Scope) -> tuple[int, str] | None:
        tokens = self._tokens
        if not scope["path"].startswith("/v1/") or (tokens.read is None and not _changes(scope)):
            return None
        sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), "")
        if not _changes(scope):
            return None if tokens.may_read(sent) else (401, "a bearer token is needed to read")
        if tokens.write is None:
            return 403, "this server takes no changes: start it with LIGHTSAGE_WRITE_TOKEN set"
        return None if tokens.may_write(sent) else (401, "the bearer token for changes is needed")


def _changes(scope: Scope) -> bool:
    return scope["method"] not in ("GET", "HEAD", "OPTIONS") and scope["path"].startswith(
        ("/v1/changes", "/v1/ads/", "/v1/campaigns/")
    )
