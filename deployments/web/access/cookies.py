"""The cookies of browsers: of those that are logged in here, and of those whose user a proxy names."""

from datetime import timedelta
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from deployments.web.access.token_secrets import is_secret
from deployments.web.settings import WebSettings

SESSION_LENGTH: Final = timedelta(hours=12)
_SESSION: Final = "fleetpatch-session"
_BROWSER: Final = "fleetpatch-browser"


def read_session(request: Request) -> str:
    """Return the secret of the browser's session; "" if it has none."""
    return _read(request, _SESSION)


def read_browser(request: Request) -> str:
    """Return the secret of a browser whose user a proxy names; "" if it has none."""
    return _read(request, _BROWSER)


def set_session(request: Request, response: Response, secret: str) -> None:
    """Log the browser in."""
    _set(request, response, _SESSION, secret, SESSION_LENGTH)


def set_browser(request: Request, response: Response, secret: str) -> None:
    """Give a browser the secret that its forms' CSRF tokens are made of."""
    _set(request, response, _BROWSER, secret, None)


def delete_session(request: Request, response: Response) -> None:
    """Log the browser out."""
    name, is_secure = _name(request, _SESSION)
    response.delete_cookie(name, path="/", secure=is_secure, httponly=True, samesite="lax")


def _read(request: Request, name: str) -> str:
    secret = request.cookies.get(_name(request, name)[0], "")
    return secret if is_secret(secret) else ""


def _set(request: Request, response: Response, name: str, secret: str, length: timedelta | None) -> None:
    whole_name, is_secure = _name(request, name)
    response.set_cookie(
        whole_name,
        secret,
        max_age=int(length.total_seconds()) if length is not None else None,
        path="/",
        secure=is_secure,
        httponly=True,
        # Not "strict": the link of a notification must open for somebody who is logged in. Acts need a form's CSRF
        # token and an Origin of these pages, which no other site can have.
        samesite="lax",
    )


def _name(request: Request, name: str) -> tuple[str, bool]:
    """Return the cookie's name, and whether it is for TLS only. No other host can set one that begins with __Host-."""
    settings: WebSettings = request.app.state.context.settings
    return (f"__Host-{name}", True) if settings.is_secure else (name, False)
