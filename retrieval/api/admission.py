"""Admission control: the ASGI layer in front of the app that checks tokens and limits concurrent requests."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.api.problem import problem
from retrieval.api.telemetry import Metrics
from retrieval.config import ServeConfig

_RETRY_AFTER_SECONDS = 1
# Monitoring must reach the server even while other requests are rejected.
_ALWAYS_ADMITTED = ("/healthz", "/readyz", "/metrics")


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens. The write token also grants reading.

    Args:
        write: required for routes that change state; without one, those routes are refused.
        read: required for all other routes under `/v1`; without one, they are open.
    """

    write: str | None = field(default=None, repr=False)
    read: str | None = field(default=None, repr=False)

    def may_read(self, authorization: str) -> bool:
        """Return whether the value of an Authorization header lets its sender read."""
        return self.read is None or _matches(authorization, self.read) or self.may_write(authorization)

    def may_write(self, authorization: str) -> bool:
        """Return whether the value of an Authorization header lets its sender change state."""
        return self.write is not None and _matches(authorization, self.write)


def _matches(authorization: str, token: str) -> bool:
    scheme, _, credentials = authorization.partition(" ")
    return scheme.casefold() == "bearer" and hmac.compare_digest(credentials.strip().encode(), token.encode())


class AdmissionControl:
    """Rejects unauthenticated requests, and those above `max_in_flight`."""

    def __init__(self, app: ASGIApp, config: ServeConfig, tokens: Tokens, metrics: Metrics) -> None:
        self._app, self._config, self._tokens, self._metrics = app, config, tokens, metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401, 403 or 503."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ADMITTED:
            await self._app(scope, receive, send)
            return
        if self._in_flight >= self._config.max_in_flight:
            self._metrics.turned_away.inc()
            detail = f"{self._in_flight} requests are being answered, which is this server's limit; try again later"
            rejection = problem(503, detail, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})
            await rejection(scope, receive, send)
            return
        if rejected := self._unauthorised(scope):
            status, detail = rejected
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await problem(status, detail, headers=headers)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1

    def _unauthorised(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and detail with which to reject a request, or None to admit it."""
        tokens = self._tokens
        writes = _changes_state(scope)
        if not scope["path"].startswith("/v1/") or (tokens.read is None and not writes):
            return None
        headers = scope["headers"]
        authorization = next((value.decode("latin-1") for name, value in headers if name == b"authorization"), "")
        if not writes:
            return None if tokens.may_read(authorization) else (401, "reading needs a bearer token")
        if tokens.write is None:
            return 403, "this server takes no changes; to allow them, start it with LIGHTSAGE_WRITE_TOKEN set"
        return None if tokens.may_write(authorization) else (401, "changes need the write token as bearer token")


def _changes_state(scope: Scope) -> bool:
    return scope["method"] not in ("GET", "HEAD", "OPTIONS") and scope["path"].startswith(
        ("/v1/changes", "/v1/ads/", "/v1/campaigns/")
    )
