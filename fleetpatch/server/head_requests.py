"""Answers HEAD, which monitors and balancers send, as GET. The server leaves the body out."""

from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

_STREAMS: Final = "/live/"
"""Their answers have no end. Nobody needs their headers alone."""


class HeadRequests:
    """Has each HEAD request answered as GET: routes of FastAPI know no HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].startswith(_STREAMS):
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def install_head_requests(app: FastAPI) -> None:
    """Answer HEAD for every page of the application."""
    app.add_middleware(HeadRequests)
