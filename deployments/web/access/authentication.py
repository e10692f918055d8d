"""Finds out who makes a request: by a token, a session, or what a trusted proxy says."""

import base64
from datetime import datetime
from typing import Final

from fastapi import HTTPException, Request

from deployments.web.access.audit import record_refusal
from deployments.web.access.cookies import read_browser, read_session
from deployments.web.access.identity import STRANGER, Identity
from deployments.web.access.network import Peer
from deployments.web.access.roles import Grants, Role, parse_grants
from deployments.web.access.token_secrets import create_secret, derive_csrf_token, digest_secret, is_token
from deployments.web.context import WebContext, get_context
from tasks.records.access_tokens import AccessToken, SqlAccessTokens

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
        return _identify_token(request, context, peer, sent.strip())
    if proxied:
        return _identify_proxied(request, context, peer, proxied)
    if scheme.lower() == "basic" and request.url.path == FEED_PATH:
        return _identify_basic(request, context, peer, sent)
    session = read_session(request)
    token = _find_session(context, session) if session else None
    if token is None:
        return identify_stranger(context, peer)
    grants = _list_grants(token)
    csrf_token = derive_csrf_token(session, token.name)
    return Identity(token.name, grants.roles, "session", csrf_token, peer.display, grants.scopes)


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
    found = request.headers.getlist(settings.user_header) if settings.user_header else []
    roles = request.headers.getlist(settings.roles_header) if settings.roles_header else []
    if (found or roles) and not peer.is_trusted_proxy:
        record_refusal(request, "a header with a user from an address that is no trusted proxy", who=",".join(found))
        raise HTTPException(403, "Only a trusted proxy may say who you are: see fleetpatch web --trusted-proxy.")
    if len(found) > 1 or len(roles) > 1:
        record_refusal(request, "more than one header with a user or with roles", who=",".join(found))
        raise HTTPException(403, "The proxy sends more than one header with a user, or with roles.")
    name = _decode(found[0]) if found else ""
    if len(name) > MAX_NAME_LENGTH or not all(character.isprintable() for character in name):
        raise HTTPException(403, "The user's name from the proxy is too long, or has characters that names don't have.")
    return name


def _decode(header: str) -> str:
    """Return the text of a header. Names that are not ASCII come as UTF-8 from all current proxies."""
    try:
        return header.encode("latin-1").decode().strip()
    except UnicodeError:
        return header.strip()


def _identify_proxied(request: Request, context: WebContext, peer: Peer, name: str) -> Identity:
    settings = context.settings
    sent = request.headers.get(settings.roles_header) if settings.roles_header else None
    grants = parse_grants(sent.split(",") if sent is not None else settings.proxy_roles)
    secret = read_browser(request)
    if not secret:
        secret = request.state.new_browser_secret = create_secret()
    return Identity(name, grants.roles, "proxy", derive_csrf_token(secret, name), peer.display, grants.scopes)


def _identify_token(request: Request, context: WebContext, peer: Peer, sent: str) -> Identity:
    token = find_token(context, sent)
    if token is None:
        record_refusal(request, "the bearer token is not valid", act="login")
        raise LoginRequired("Bearer")
    grants = _list_grants(token)
    return Identity(token.name, grants.roles, "token", address=peer.display, scopes=grants.scopes)


def _identify_basic(request: Request, context: WebContext, peer: Peer, sent: str) -> Identity:
    try:
        name, _, password = base64.b64decode(sent.strip(), validate=True).decode().partition(":")
    except ValueError:  # no base64, or no text
        name, password = "", ""
    token = find_token(context, password)
    if token is None or token.name != name:
        record_refusal(request, "the name and the token are not valid", act="login", who=name)
        raise LoginRequired("Basic")
    return Identity(token.name, frozenset({Role.VIEW}), "token", address=peer.display)


def find_token(context: WebContext, text: str) -> AccessToken | None:
    """Return the access token of a text, if it is valid now."""
    if not is_token(text):
        return None
    now = context.clock.now()
    return _note_use(context, SqlAccessTokens(context.records.database).find_by_token(digest_secret(text), now), now)


def _find_session(context: WebContext, session: str) -> AccessToken | None:
    now = context.clock.now()
    found = SqlAccessTokens(context.records.database).find_by_session(digest_secret(session), now)
    return _note_use(context, found, now)


def _note_use(context: WebContext, token: AccessToken | None, now: datetime) -> AccessToken | None:
    if token is not None:
        context.token_uses.note(token, now)
    return token


def _list_grants(token: AccessToken) -> Grants:
    return parse_grants(token.roles)
