"""Guards every request before any page runs: its host, its size, its origin, who makes it; and heads every answer."""

import asyncio
import re
import time
from typing import Final
from urllib.parse import unquote

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleetpatch.access.cookies import BROWSER, SESSION
from fleetpatch.access.network import Peer, is_from_these_pages, is_known_host, parse_address, parse_networks
from fleetpatch.access.providers.person import ProviderAway
from fleetpatch.access.roles import Role
from fleetpatch.access.token_secrets import has_token
from fleetpatch.api.api_app import API_PATH
from fleetpatch.api.problems import build_problem
from fleetpatch.web.audit import record_refusal
from fleetpatch.web.authentication import FEED_PATH, LoginRequired, identify, identify_stranger
from fleetpatch.web.context import WebContext
from fleetpatch.web.rendering import answer_stranger, show_message
from tasks.domain.errors import FleetpatchError

API_PREFIX: Final = "/api/"
OPEN_PATHS: Final = frozenset(
    {"/login", "/login/link", "/login/ldap", "/login/oidc", "/login/oidc/callback", "/logout/oidc", "/health"}
)
"""What strangers may ask for, besides the static files. All else needs a role, also a page that forgets to say so."""
STATIC_PREFIX: Final = "/static/"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY_BYTES: Final = 1024 * 1024
MAX_BODY_SECONDS: Final = 30.0
_TOKEN_PARAMETERS: Final = frozenset({"token", "access_token", "api_key", "apikey", "api-key", "bearer", "password"})
_UTF8: Final = re.compile(r";\s*charset=(utf-8|\"utf-8\")\s*(?=;|$)", re.IGNORECASE)


class AccessMiddleware:
    """Puts the identity into ``request.state.identity``, or refuses the request."""

    def __init__(self, app: ASGIApp, context: WebContext) -> None:
        self._app = app
        self._context = context
        self._trusted = parse_networks(context.settings.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":  # nothing here speaks it, and nobody has asked who comes
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        peer = Peer(parse_address(request.client.host) if request.client else None, request.headers, self._trusted)
        scope.setdefault("state", {})["identity"] = identify_stranger(self._context, peer)
        try:
            await self._admit(request, peer)
        except LoginRequired as error:
            answer = _demand_credentials(request, error.scheme, str(error))
        except PermissionError:
            answer = _ask_for_login(request)
        except HTTPException as error:
            answer = _refuse(request, error.status_code, str(error.detail), "")
        except FleetpatchError as error:  # the records can't be read
            answer = _refuse(request, 503, error.message, error.hint)
        else:
            await self._app(scope, _limit_body(receive), _add_browser_cookie(request, send))
            return
        await answer(scope, receive, send)

    async def _admit(self, request: Request, peer: Peer) -> None:
        """Find out who makes the request, and refuse what nobody may send."""
        _check_address(self._context, request)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            raise HTTPException(413, f"A request must not have more than {MAX_BODY_BYTES} bytes.")
        if "charset" in _UTF8.sub("", request.headers.get("content-type", "")).lower():
            raise HTTPException(415, "Forms and JSON must be UTF-8.")  # others have texts that can't be stored
        if _get_path(request).startswith(STATIC_PREFIX):
            return
        settings = self._context.settings
        names = ("authorization", settings.user_header, settings.roles_header)
        if any(name and name in request.headers for name in names) or bool(SESSION.read_secret(request)):
            try:
                request.state.identity = await run_in_threadpool(identify, request, peer)
            except ProviderAway:  # who logs in anew needs no answer about the earlier login
                if _get_path(request) not in OPEN_PATHS:
                    raise
        await self._check_origin(request)
        if _get_path(request) not in OPEN_PATHS and not request.state.identity.has_role(Role.VIEW):
            raise PermissionError(Role.VIEW.value)

    async def _check_origin(self, request: Request) -> None:
        if request.method in SAFE_METHODS or _get_path(request).startswith(API_PREFIX):
            return  # the API reads no cookie
        if not is_from_these_pages(self._context.settings, request.headers):
            await run_in_threadpool(record_refusal, request, "the form comes from another site")
            raise HTTPException(
                403, "This form comes from another site. If it does not: fleetpatch web --public-url says your address."
            )


def _get_path(request: Request) -> str:
    """Return the path that decides which page answers.

    That of ``request.url`` is read from a text that was put together with the Host header: it can be another one.
    """
    path: str = request.scope["path"]
    return path


def _check_address(context: WebContext, request: Request) -> None:
    host = request.headers.get("host", "")
    if len(request.headers.getlist("host")) != 1 or not is_known_host(context.settings, host):
        raise HTTPException(
            400, "The Host header has a name that is not known here: see fleetpatch web --allow-host and --public-url."
        )
    names = {name.lower() for name in request.query_params}
    path = _get_path(request)
    if "\0" in unquote(path + request.url.query):
        raise HTTPException(400, "The address has a character that no name has.")
    if path.startswith(API_PREFIX) and ("\n" in path or not path.startswith(f"{API_PATH}/")):
        raise HTTPException(404, f"There is nothing here: the API is at {API_PATH}.")  # and not a page for people
    if has_token(unquote(str(request.url))) or _TOKEN_PARAMETERS & names:
        request.state.hides_address = True  # no page repeats it
        raise HTTPException(
            400,
            "A token must never stand in an address: logs and histories keep addresses. If it was a valid one, remove "
            "it: fleetpatch web token remove NAME.",
        )


def _limit_body(receive: Receive) -> Receive:
    """Return a source of the body that refuses one that is too long, also if its length was not said, or too slow."""
    total, until, is_complete = 0, 0.0, False

    async def receive_limited() -> Message:
        nonlocal total, until, is_complete
        if is_complete:  # streams wait here until their browser leaves
            return await receive()
        until = until or time.monotonic() + MAX_BODY_SECONDS
        try:
            message = await asyncio.wait_for(receive(), until - time.monotonic())
        except TimeoutError:
            raise HTTPException(408, f"A request must come within {MAX_BODY_SECONDS:g} seconds.") from None
        is_complete = not message.get("more_body", False)
        total += len(message.get("body", b""))
        if total > MAX_BODY_BYTES:
            raise HTTPException(413, f"A request must not have more than {MAX_BODY_BYTES} bytes.")
        return message

    return receive_limited


def _add_browser_cookie(request: Request, send: Send) -> Send:
    """Give the browser of a user whom a proxy names the secret of its forms, if it has none yet."""
    secret = getattr(request.state, "new_browser_secret", "")
    if not secret:
        return send

    async def send_with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            response = Response()
            BROWSER.set(request, response, secret)
            MutableHeaders(scope=message).append("set-cookie", response.headers["set-cookie"])
        await send(message)

    return send_with_cookie


def _ask_for_login(request: Request) -> Response:
    if _get_path(request).startswith(API_PREFIX):
        return build_problem(401, "The API needs a bearer token: Authorization: Bearer TOKEN.")
    if request.state.identity.name:
        return _refuse(request, 403, "Your login has no role here.", "The proxy names the roles of its users.")
    if _get_path(request) == FEED_PATH:
        return _demand_credentials(request, "Basic", "The feed needs the name of an access token, and the token.")
    if request.method in SAFE_METHODS and "text/html" not in request.headers.get("accept", ""):
        return _demand_credentials(request, "Bearer", "This needs a bearer token: Authorization: Bearer TOKEN.")
    return answer_stranger(request)


def _demand_credentials(request: Request, scheme: str, message: str) -> Response:
    answer = _refuse(request, 401, message, "Tokens are made by: fleetpatch web token add NAME")
    answer.headers["WWW-Authenticate"] = f'{scheme} realm="fleetpatch"'
    return answer


def _refuse(request: Request, status: int, message: str, hint: str) -> Response:
    if _get_path(request).startswith(API_PREFIX):
        return build_problem(status, message, hint)
    return show_message(request, status, message, hint)


_STREAMS: Final = "/live/"
"""Their answers have no end. A client has no use for the headers alone."""


class HeadRequests:
    """Has each HEAD request answered as GET: routes of FastAPI know no HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].startswith(_STREAMS):
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


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


def install_middleware(app: FastAPI, context: WebContext) -> None:
    """Guard every request, answer HEAD, and add the headers to every answer, also to the page that says a failure.

    Starlette makes that page outside of all middleware that ``add_middleware`` adds.
    """
    app.add_middleware(AccessMiddleware, context=context)
    app.add_middleware(HeadRequests)
    build, is_encrypted = app.build_middleware_stack, context.settings.is_encrypted_for_others
    app.build_middleware_stack = lambda: SecurityHeaders(build(), is_encrypted=is_encrypted)  # type: ignore[method-assign]
