"""Finds out who makes a request, by a token, a session or what a trusted proxy says, and whether they may act."""

import base64
import hmac
from dataclasses import replace
from datetime import datetime
from typing import Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from fleetpatch.access.cookies import BROWSER, SESSION
from fleetpatch.access.identity import STRANGER, Identity, get_identity, require_role
from fleetpatch.access.network import Peer
from fleetpatch.access.providers.person import LoginRefused
from fleetpatch.access.roles import Role, parse_grants
from fleetpatch.access.sessions import LINK_SOURCE
from fleetpatch.access.token_secrets import create_secret, derive_csrf_token, digest_secret, is_token
from fleetpatch.web.audit import record_refusal
from fleetpatch.web.context import WebContext, get_context
from inventory.data_class import dataclass
from tasks.records.access_tokens import TOKEN_SOURCE, AccessToken, SqlAccessTokens
from tasks.records.web_sessions import WebSession

FEED_PATH: Final = "/calendar.ics"
"""Calendar programs can't send a bearer token: for this path HTTP Basic has the token's name and the token."""
MAX_NAME_LENGTH: Final = 200


class LoginRequired(Exception):
    """Credentials that are not valid.

    Attributes:
        scheme: what the answer asks for: "Bearer" or "Basic".
    """

    def __init__(self, scheme: str) -> None:
        super().__init__("The token is not valid, has expired or was removed.")
        self.scheme = scheme


def identify(request: Request, peer: Peer) -> Identity:
    """Return who makes a request, and what they may do.

    Raises:
        LoginRequired: the token is not valid.
        HTTPException: a header with a user from somewhere that is no trusted proxy (403).
        RecordsError: the records can't be read.
    """
    context = get_context(request)
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    proxied = _find_proxied_user(request, context, peer)
    if scheme.lower() == "bearer" and (not proxied or is_token(sent.strip())):
        token = find_token(context, sent.strip())
        if token is None:
            record_refusal(request, "the bearer token is not valid", act="login")
            raise LoginRequired("Bearer")
        grants = parse_grants(token.roles)
        return Identity(token.name, grants.roles, "token", address=peer.display, scopes=grants.scopes)
    if proxied:
        settings = context.settings
        roles = request.headers.get(settings.roles_header) if settings.roles_header else None
        grants = parse_grants(roles.split(",") if roles is not None else settings.proxy_roles)
        secret = BROWSER.read_secret(request)
        if not secret:
            secret = request.state.new_browser_secret = create_secret()
        csrf_token = derive_csrf_token(context.form_key, secret, proxied)
        return Identity(proxied, grants.roles, "proxy", csrf_token, peer.display, grants.scopes)
    if scheme.lower() == "basic" and request.url.path == FEED_PATH:
        try:
            name, _, password = base64.b64decode(sent.strip(), validate=True).decode().partition(":")
        except ValueError:  # no base64, or no text
            name, password = "", ""
        token = find_token(context, password)
        if token is None or token.name != name:
            record_refusal(request, "the name and the token are not valid", act="login", who=name)
            raise LoginRequired("Basic")
        return Identity(token.name, frozenset({Role.VIEW}), "token", address=peer.display)
    return _identify_session(request, context, peer) or identify_stranger(context, peer)


def identify_stranger(context: WebContext, peer: Peer) -> Identity:
    """Return the identity of somebody without a login: on this machine they may look, unless the settings say no.

    Where the public address is another one, a proxy is before these pages: all its visitors come from this machine. And
    where others may connect, what forwards their connections may run on this machine, without a word about them.
    """
    settings = context.settings
    is_only_here = settings.is_local and not settings.has_public_address
    if peer.is_local and is_only_here and not settings.requires_login:
        return Identity("", frozenset({Role.VIEW}), "loopback", address=peer.display)
    return Identity(STRANGER.name, STRANGER.roles, STRANGER.source, address=peer.display)


def _find_proxied_user(request: Request, context: WebContext, peer: Peer) -> str:
    settings = context.settings
    user_names = request.headers.getlist(settings.user_header) if settings.user_header else []
    roles = request.headers.getlist(settings.roles_header) if settings.roles_header else []
    if (user_names or roles) and not peer.is_trusted_proxy:
        record_refusal(
            request, "a header with a user from an address that is no trusted proxy", who=",".join(user_names)
        )
        raise HTTPException(403, "Only a trusted proxy may say who you are: see fleetpatch web --trusted-proxy.")
    if len(user_names) > 1 or len(roles) > 1:
        record_refusal(request, "more than one header with a user or with roles", who=",".join(user_names))
        raise HTTPException(403, "The proxy sends more than one header with a user, or with roles.")
    name = _decode(user_names[0]) if user_names else ""
    if len(name) > MAX_NAME_LENGTH or not all(character.isprintable() for character in name):
        raise HTTPException(403, "The user's name from the proxy is too long, or has characters that names don't have.")
    return name


def _decode(header: str) -> str:
    """Return the text of a header. Names that are not ASCII come as UTF-8 from all current proxies."""
    try:
        return header.encode("latin-1").decode().strip()
    except UnicodeError:
        return header.strip()


def find_token(context: WebContext, text: str) -> AccessToken | None:
    """Return the access token of a text, if it is valid now."""
    if not is_token(text):
        return None
    now = context.clock.now()
    return _note_use(context, SqlAccessTokens(context.records.database).find_by_token(digest_secret(text), now), now)


def _identify_session(request: Request, context: WebContext, peer: Peer) -> Identity | None:
    secret = SESSION.read_secret(request)
    session = context.sessions.find(secret) if secret else None
    session = _check_source(request, session) if session is not None else None
    if session is None:
        return None
    if is_use(request):
        session = context.sessions.note_use(session)
    grants = parse_grants(session.roles)
    return Identity(
        session.name,
        grants.roles,
        "session",
        derive_csrf_token(context.form_key, secret, session.name),
        peer.display,
        grants.scopes,
        is_bound=not context.settings.is_secure,
        ends_at=context.sessions.find_end(session),
    )


def _check_source(request: Request, session: WebSession) -> WebSession | None:
    """Return a session with what it allows now; None: its login is valid no longer.

    Raises:
        ProviderAway: nobody could say so for too long.
    """
    context = get_context(request)
    if session.source == TOKEN_SOURCE:
        now = context.clock.now()
        tokens = SqlAccessTokens(context.records.database)
        token = _note_use(context, tokens.find_by_token(session.subject, now), now)
        return replace(session, roles=token.roles) if token is not None and token.name == session.name else None
    if session.source == LINK_SOURCE:
        return session
    if context.logins is None:
        return None
    try:
        return context.logins.check_session(context.sessions, session)
    except LoginRefused as error:
        record_refusal(request, error.message, act="login", who=session.name)
        return None


def is_use(request: Request) -> bool:
    """Return whether a person does something with this request: opens a page or sends a form.

    What an open page asks for by itself is no use of a session: its live parts, its streams, and how long it lasts.
    """
    if request.method not in {"GET", "HEAD"}:
        return True
    destination = request.headers.get("sec-fetch-dest")
    if destination is not None:
        return destination == "document"
    return "hx-request" not in request.headers and not request.url.path.startswith(("/live/", "/session"))


def _note_use(context: WebContext, token: AccessToken | None, now: datetime) -> AccessToken | None:
    if token is not None:
        context.token_uses.note(token.name, token.used_at, now)
    return token


def build_viewers_router() -> APIRouter:
    """Return an empty list of routes, for everybody who may look."""
    return APIRouter(dependencies=[Depends(require_role(Role.VIEW))])


CSRF_FIELD: Final = "csrf"
_NO_COOKIES: Final = frozenset({"token"})
"""Sources of identities that a browser never adds to a request of another site by itself."""


@dataclass(frozen=True, slots=True)
class ActPermission:
    """A dependency of what does something: it gives the identity, or refuses the request and records that.

    Each target of a form and each act of the API has one.

    A browser must send the CSRF token of its session. A program with a bearer token needs none.
    """

    role: Role

    async def __call__(self, request: Request) -> Identity:
        """Return who may do it.

        Raises:
            PermissionError: the role is missing. The text is the role.
            HTTPException: the form is not from these pages (403).
        """
        identity = get_identity(request)
        if not identity.name or not identity.has_role(self.role):  # who acts has a name in the audit log
            await run_in_threadpool(record_refusal, request, f"this needs the role {self.role}")
            raise PermissionError(self.role.value)
        await require_csrf_token(request)
        return identity


async def require_csrf_token(request: Request) -> None:
    """Raise HTTPException (403) if a form does not carry the CSRF token of its browser."""
    identity = get_identity(request)
    if identity.source in _NO_COOKIES:
        return
    form: FormData = await request.form()
    sent = form.get(CSRF_FIELD)
    csrf_token = identity.csrf_token
    if (
        not csrf_token
        or not isinstance(sent, str)
        or not hmac.compare_digest(sent.encode(errors="replace"), csrf_token.encode())
    ):
        await run_in_threadpool(record_refusal, request, "the form has no valid CSRF token")
        message = "This form is not from these pages, or your login has changed since: open it again."
        if identity.is_bound:
            message += " If it comes again: this browser has lost the secret of its login. Log in with a new link."
        raise HTTPException(403, message)
