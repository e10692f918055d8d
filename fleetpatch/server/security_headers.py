"""The headers of every answer: browsers run no script and load nothing that does not come from these pages."""

from typing import Final

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
STRICT_TRANSPORT: Final = "max-age=31536000"
"""Browsers use only TLS for this name for a year (RFC 6797), on each of its ports. They ignore it for addresses."""
_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Adds the headers to every answer, if it has none of its own.

    Only static files are kept in caches. Browsers ask each time whether they have changed: otherwise a page of a new
    release would get scripts and styles of the earlier one.
    """

    def __init__(self, app: ASGIApp, *, is_encrypted: bool) -> None:
        self._app = app
        self._headers = {**_HEADERS, "Strict-Transport-Security": STRICT_TRANSPORT} if is_encrypted else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                is_static = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
                if message["status"] == 500:
                    headers["Connection"] = "close"  # uvicorn closes it after an exception, and would not say so
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def install_security_headers(app: FastAPI, *, is_encrypted: bool) -> None:
    """Add the headers to every answer of the application, also to the page that says that it has failed.

    With ``is_encrypted``, browsers come by TLS only from then on.

    Starlette makes that page outside of all middleware that ``add_middleware`` adds.
    """
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: SecurityHeaders(build(), is_encrypted=is_encrypted)  # type: ignore[method-assign]
