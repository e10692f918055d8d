"""Errors of the API as application/problem+json (RFC 9457)."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from fleetpatch.api.models import Problem
from fleetpatch.web.rendering import find_status
from tasks.domain.errors import FleetpatchError

logger = logging.getLogger(__name__)
MEDIA_TYPE: Final = "application/problem+json"
_WORDS: Final = {
    400: "The request is not valid.",
    401: "There is no valid bearer token.",
    403: "The token lacks the role, or a rule of the policy forbids it.",
    404: "There is no such thing.",
    408: "The request did not come in time.",
    409: "It can't be done in the present state.",
    413: "The request is too large.",
    415: "The request is not UTF-8.",
    503: "The records or Prefect can't be reached.",
}

_HINTS: Final = {
    400: "/api/v1/openapi.json describes each request.",
    401: "Tokens are made by: fleetpatch web token add NAME",
    404: "The lists have the names and ids that exist; /api/v1/openapi.json has the paths.",
    405: "/api/v1/openapi.json has the methods of each path.",
}


def describe_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _WORDS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({400, 401, 403, 503, *statuses})
    }


def install_problems(api: FastAPI) -> None:
    """Answer errors as problems."""
    api.add_exception_handler(FleetpatchError, _answer_error)
    api.add_exception_handler(PermissionError, lambda _, error: build_problem(403, f"This needs the role {error}."))
    api.add_exception_handler(StarletteHTTPException, _answer_http_error)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    api.add_exception_handler(Exception, _answer_failure)


def build_problem(status: int, detail: str, hint: str = "", errors: Mapping[str, str] | None = None) -> Response:
    """Return an error, with the usual remedy of its status if none is given."""
    hint = hint or _HINTS.get(status, "")
    problem = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, hint=hint, errors=dict(errors or {})
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return JSONResponse(problem.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, FleetpatchError)  # noqa: S101 - for the type checker
    return build_problem(find_status(error), error.message, error.hint)


def _answer_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException | StarletteHTTPException)  # noqa: S101 - for the type checker
    answer = build_problem(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
    errors = {_name_field(detail_error): str(detail_error["msg"]) for detail_error in error.errors()}
    detail = "; ".join(f"{name}: {message}" for name, message in errors.items())
    hint = "Send an object as JSON, with Content-Type: application/json." if "body" in errors else ""
    return build_problem(400, detail, hint, errors)


def _name_field(error: Mapping[str, Any]) -> str:
    steps: Sequence[object] = error["loc"]
    if error["type"] == "json_invalid":  # its place is a number of characters
        return "body"
    return ".".join(map(str, steps[1:] or steps))


def _answer_failure(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return build_problem(500, "fleetpatch has failed to answer.", "The log of fleetpatch web says why.")
