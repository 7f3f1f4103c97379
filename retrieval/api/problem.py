"""Errors over HTTP as RFC 9457 problem details, with the request's field named; never a traceback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Response
from pydantic import ValidationError

# Errors that are listed: a body of unknown keys must not be answered by a longer one.
_MOST = 20


def problem(
    status: int, detail: str, errors: Sequence[Mapping[str, str]] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """An `application/problem+json` response; errors: [{field, message}]."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = list(errors)
    return Response(orjson.dumps(body), status, media_type="application/problem+json", headers=dict(headers or {}))


class _Json(Response):
    """Headers as they always are, which the framework would look up and encode for each answer."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), (b"content-type", b"application/json")]


def json_response(content: dict[str, Any]) -> Response:
    """A JSON response, serialised once and checked by nobody again."""
    return _Json(orjson.dumps(content))


def of_field(field: str, message: str) -> Response:
    """422 for one field."""
    return problem(422, f"{field}: {message}", [{"field": field, "message": message}])


def of_validation(error: ValidationError) -> Response:
    """400 for what is not JSON, else 422 that names every field at fault."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return problem(400, f"the body is not JSON: {found[0]['msg']}")
    errors = [{"field": _path(line["loc"]), "message": _message(line["type"], line["msg"])} for line in found[:_MOST]]
    said = "; ".join(f"{line['field']}: {line['message']}" for line in errors[:5])
    more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    return problem(422, said + more, errors)


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "body"


def _message(kind: str, message: str) -> str:
    return "unknown key; see /docs for those that are known" if kind == "extra_forbidden" else message
