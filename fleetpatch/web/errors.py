"""The pages of errors: what is wrong, and the remedy."""

import logging

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from fleetpatch.web.rendering import build_login_url, render_page
from inventory.errors import InvalidFiles, InventoryError
from tasks.domain.errors import CannotRun, FleetpatchError, PolicyRefused, RecordsError, RequestError, RunNotFound

logger = logging.getLogger(__name__)

_TITLES = {
    400: "The request is not valid",
    401: "Log in first",
    403: "Not allowed",
    404: "Not found",
    503: "Not available now",
}


def install_error_pages(app: FastAPI) -> None:
    """Show errors as pages."""
    app.add_exception_handler(FleetpatchError, _show_error)
    app.add_exception_handler(PermissionError, _show_refusal)
    app.add_exception_handler(StarletteHTTPException, _show_http_error)
    app.add_exception_handler(RequestValidationError, _show_invalid_request)
    app.add_exception_handler(Exception, _show_internal_error)


def _show_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FleetpatchError)  # noqa: S101 - for the type checker
    return show_message(request, find_status(error), error.message, error.hint)


def find_status(error: FleetpatchError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, RunNotFound):
        return 404
    if isinstance(error, RecordsError | CannotRun | InvalidFiles):
        return 503
    if isinstance(error, PolicyRefused):
        return 403
    return 400 if isinstance(error, RequestError | InventoryError) else 409


def answer_stranger(request: Request) -> Response:
    """Return the way to the login, and back to the page that somebody wanted."""
    if request.method not in {"GET", "HEAD"}:
        return show_message(request, 401, "You are not logged in, or no longer.", "Log in, and send the form again.")
    if "hx-request" in request.headers:  # a part of a page: the whole page must go to the login
        return Response(status_code=401, headers={"HX-Redirect": build_login_url(request)})
    return RedirectResponse(build_login_url(request), 303)


def _show_refusal(request: Request, error: Exception) -> Response:
    return show_message(request, 403, f"This needs the role {error}.", "Log in with a token that has it.")


def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException | StarletteHTTPException)  # noqa: S101 - for the type checker
    answer = show_message(request, error.status_code, str(error.detail), "")
    answer.headers.update(error.headers or {})
    return answer


def _show_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
    faults = "; ".join(
        f"{'.'.join(map(str, fault['loc'][1:] or fault['loc']))}: {fault['msg']}" for fault in error.errors()
    )
    return show_message(request, 400, faults, "")


def _show_internal_error(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return show_message(request, 500, "fleetpatch has failed to make this page.", "The log of fleetpatch web says why.")


def show_message(request: Request, status: int, message: str, hint: str) -> Response:
    """Return a page with a message."""
    title = _TITLES.get(status, "Error")
    values = {"title": title, "message": message, "hint": hint, "is_temporary": status == 503}
    return render_page(request, "message.html.j2", status=status, **values)
