"""The cookies of browsers: of those that are logged in here, and of those whose user a proxy names."""

from datetime import timedelta
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from fleetpatch.access.token_secrets import is_secret
from fleetpatch.settings import WebSettings
from inventory.data_class import dataclass

PENDING_LENGTH: Final = timedelta(minutes=10)
"""How long somebody may take to log in at a provider."""


@dataclass(frozen=True, slots=True)
class BrowserCookie:
    """A cookie. ``length``: how long a browser keeps it; None: until the browser's own session ends."""

    name: str
    length: timedelta | None = None

    def read(self, request: Request) -> str:
        """Return what the browser sends; "" if it has none."""
        return request.cookies.get(self._find_name(request)[0], "")

    def read_secret(self, request: Request) -> str:
        """Return the secret that the browser sends; "" if it has none."""
        secret = self.read(request)
        return secret if is_secret(secret) else ""

    def set(self, request: Request, response: Response, value: str) -> None:
        """Give it to the browser."""
        name, is_secure = self._find_name(request)
        response.set_cookie(
            name,
            value,
            max_age=int(self.length.total_seconds()) if self.length is not None else None,
            path="/",
            secure=is_secure,
            httponly=True,
            # Not "strict": the link of a notification must open for somebody who is logged in. Acts need a form's CSRF
            # token and an Origin of these pages, which no other site can have.
            samesite="lax",
        )

    def delete(self, request: Request, response: Response) -> None:
        """Take it from the browser."""
        name, is_secure = self._find_name(request)
        response.delete_cookie(name, path="/", secure=is_secure, httponly=True, samesite="lax")

    def _find_name(self, request: Request) -> tuple[str, bool]:
        """Return its name, and whether it is for TLS only. No other host can set one that begins with __Host-."""
        settings: WebSettings = request.app.state.context.settings
        return (f"__Host-{self.name}", True) if settings.is_secure else (self.name, False)


SESSION: Final = BrowserCookie("fleetpatch-session")
"""The secret of a browser that is logged in. When the browser's own session ends, that of the pages does."""
BROWSER: Final = BrowserCookie("fleetpatch-browser")
"""The secret of a browser whose user a proxy names: the CSRF tokens of its forms are made of it."""
PENDING: Final = BrowserCookie("fleetpatch-login", PENDING_LENGTH)
"""The sealed login that a browser begins at a provider. It comes back from there with this cookie."""
