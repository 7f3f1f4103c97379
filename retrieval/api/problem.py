"""HTTP responses: errors as RFC 9457 problem details that name the field at fault, and plain JSON answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Response
from pydantic import ValidationError

# The answer to a body full of unknown keys must not be longer than the body.
_MAX_ERRORS = 20
_MAX_ERRORS_IN_DETAIL = 5


def problem(
    status: int,
    detail: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Return an `application/problem+json` response.

    Args:
        status: the HTTP status.
        detail: what went wrong, in words.
        errors: the fields at fault, each as {"field": …, "message": …}.
        headers: additional response headers.
        more: further members of the document.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = list(errors)
    body.update(more or {})
    return Response(orjson.dumps(body), status, media_type="application/problem+json", headers=dict(headers or {}))


class _JsonResponse(Response):
    """A response with fixed headers, which the framework would otherwise look up and encode for every answer."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), (b"content-type", b"application/json")]


def json_response(content: dict[str, Any]) -> Response:
    """Return a JSON response, serialised once and not validated again."""
    return _JsonResponse(orjson.dumps(content))


def busy(detail: str) -> Response:
    """Return a 503 response: too much is waiting already, and the client may try again in a second."""
    return problem(503, detail, headers={"Retry-After": "1"})


def failure() -> Response:
    """Return the response to a request on which the server failed; only the server's log has the reason."""
    return problem(500, "the server failed on this request; its log says why")


def field_problem(field: str, message: str) -> Response:
    """Return a 422 response for one field.

    Args:
        field: the dotted path of the field.
        message: what is wrong with its value.
    """
    return problem(422, f"{field}: {message}", [{"field": field, "message": message}])


def validation_problem(error: ValidationError) -> Response:
    """Return a 400 response for a body that is not JSON, else a 422 response that names the first fields at fault."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    if errors[0]["type"] == "json_invalid":
        return problem(400, f"the body is not JSON: {errors[0]['msg']}")
    listed = [
        {"field": _path(line["loc"]), "message": _message(line["type"], line["msg"])} for line in errors[:_MAX_ERRORS]
    ]
    detail = "; ".join(f"{line['field']}: {line['message']}" for line in listed[:_MAX_ERRORS_IN_DETAIL])
    if (more := len(errors) - _MAX_ERRORS_IN_DETAIL) > 0:
        detail += f"; and {more} more"
    return problem(422, detail, listed)


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "body"


def _message(kind: str, message: str) -> str:
    return "unknown key; /docs lists the keys that exist" if kind == "extra_forbidden" else message
