"""The cookies of browsers: of those that are logged in here, and of those whose user a proxy names."""

from datetime import timedelta
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from fleetpatch.access.token_secrets import is_secret
from fleetpatch.settings import WebSettings

_SESSION: Final = "fleetpatch-session"
_BROWSER: Final = "fleetpatch-browser"
_PENDING: Final = "fleetpatch-login"
PENDING_LENGTH: Final = timedelta(minutes=10)
"""How long somebody may take to log in at a provider."""


def read_session(request: Request) -> str:
    """Return the secret of the browser's session; "" if it has none."""
    return _read(request, _SESSION)


def read_browser(request: Request) -> str:
    """Return the secret of a browser whose user a proxy names; "" if it has none."""
    return _read(request, _BROWSER)


def set_session(request: Request, response: Response, secret: str) -> None:
    """Log the browser in. The cookie goes with the browser's own session: when that of the pages ends, they know."""
    _set(request, response, _SESSION, secret, None)


def read_pending(request: Request) -> str:
    """Return the sealed login that this browser has begun at a provider; "" if there is none."""
    return request.cookies.get(_name(request, _PENDING)[0], "")


def set_pending(request: Request, response: Response, sealed: str) -> None:
    """Give a browser the sealed login that it begins at a provider. It comes back from there with this cookie."""
    _set(request, response, _PENDING, sealed, PENDING_LENGTH)


def set_browser(request: Request, response: Response, secret: str) -> None:
    """Give a browser the secret that its forms' CSRF tokens are made of."""
    _set(request, response, _BROWSER, secret, None)


def delete_session(request: Request, response: Response) -> None:
    """Log the browser out."""
    _delete(request, response, _SESSION)


def delete_pending(request: Request, response: Response) -> None:
    """End a login at a provider: it is used once."""
    _delete(request, response, _PENDING)


def _delete(request: Request, response: Response, name: str) -> None:
    name, is_secure = _name(request, name)
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
