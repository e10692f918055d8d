"""Errors of the API as application/problem+json (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from fleetpatch.api.models import Problem
from fleetpatch.web.rendering import install_error_answers

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

    def answer(_: Request, status: int, message: str, hint: str, errors: Mapping[str, str]) -> Response:
        if "body" in errors:
            hint = "Send an object as JSON, with Content-Type: application/json."
        return build_problem(status, message, hint, errors)

    install_error_answers(api, answer, role_hint="", failure="fleetpatch has failed to answer.")


def build_problem(status: int, detail: str, hint: str = "", errors: Mapping[str, str] | None = None) -> Response:
    """Return an error, with the usual remedy of its status if none is given."""
    hint = hint or _HINTS.get(status, "")
    problem = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, hint=hint, errors=dict(errors or {})
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    return JSONResponse(problem.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)
