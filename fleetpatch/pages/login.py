"""Log in with a one-time link, a token or a provider, see when the login ends, and log out here or at the provider."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from fleetpatch.access.cookies import PENDING, PENDING_LENGTH, SESSION
from fleetpatch.access.identity import get_identity, require_role
from fleetpatch.access.limiter import MAX_FAILURES, PERIOD_SECONDS, TRY_SECONDS, FailureLimiter
from fleetpatch.access.providers.logins import LDAP, OIDC, Logins
from fleetpatch.access.providers.oidc import OidcProvider, begin_login, read_pending_login
from fleetpatch.access.providers.person import LoginRefused, ProviderAway
from fleetpatch.access.roles import Role
from fleetpatch.access.sessions import LINK_SOURCE
from fleetpatch.access.token_secrets import derive_csrf_token, digest_secret
from fleetpatch.web.audit import record_login, record_refusal
from fleetpatch.web.authentication import ActPermission, find_token, require_csrf_token
from fleetpatch.web.context import get_context
from fleetpatch.web.rendering import render_page
from tasks.records.access_tokens import TOKEN_SOURCE
from tasks.records.web_sessions import WebSession

router = APIRouter()
LOGIN_MARK: Final = ("via", "login")
"""The parameter of an address that a login has led to: whoever made the link to the login has filled in the others."""


@router.get("/login")
def show_login(request: Request, next: str = "/") -> Response:
    """Show the ways to log in."""
    return render_login(request, clean_target(next))


def render_login(request: Request, target: str, message: str = "", hint: str = "", status: int = 200) -> Response:
    """Return the page with the ways to log in, and with what went wrong before."""
    logins = get_context(request).logins
    return render_page(
        request,
        "login.html.j2",
        status=status,
        next=target,
        message=message,
        hint=hint,
        oidc=logins.file.oidc if logins is not None else None,
        ldap=logins.file.ldap if logins is not None else None,
    )


@router.post("/login")
def log_in(
    request: Request, token: Annotated[str, Form(max_length=200)], next: Annotated[str, Form(max_length=4000)] = "/"
) -> Response:
    """Log in with an access token. Without TLS that is refused: the cookie would be one for every port of the host."""
    context, target = get_context(request), clean_target(next)
    if not context.settings.is_secure:
        raise HTTPException(403, "Without TLS, a login is a one-time link: fleetpatch web login")
    try:
        with limit_tries(request):
            access_token = find_token(context, token.strip())
            if access_token is None:
                raise LoginRefused("the token is not valid")
    except LoginRefused:
        message = "This token is not valid, has expired or was removed."
        return render_login(request, target, message, status=403)
    digest = digest_secret(token.strip())
    return complete_login(request, target, access_token.name, access_token.roles, TOKEN_SOURCE, digest)


@router.post("/login/ldap")
def log_in_by_ldap(
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:
    """Log in with a name and a password of the LDAP server. Tries of an address, and for a name, are limited."""
    context, target = get_context(request), clean_target(next)
    logins = context.logins
    if logins is None or logins.ldap is None:
        raise HTTPException(404, "There is no LDAP server here.")
    try:
        with limit_tries(request, who=name), _limit_name(request, name), logins.ask_for_login(LDAP):
            person = logins.ldap.log_in(name.strip(), password)
            roles = logins.list_roles(person)
    except LoginRefused as error:
        return render_login(request, target, f"The login has failed: {error.message}.", status=403)
    except ProviderAway as error:
        return render_login(request, target, error.message, error.hint, status=503)
    return complete_login(request, target, person.name, roles, LDAP, person.subject)


@contextmanager
def _limit_name(request: Request, name: str) -> Iterator[None]:
    """Let somebody try a password of a directory, which may lock the account.

    Raises:
        HTTPException: too many tries for the name have failed (429).
        LoginRefused: the password is wrong. The try stays counted.
    """
    tries, address = get_context(request).password_tries, get_identity(request).address
    key = tries.begin(name, address)
    if key is None:
        message = f"Too many logins of {name} have failed. Try again in {TRY_SECONDS / 60:g} minutes."
        record_refusal(request, message, act="login", who=name)
        raise HTTPException(429, message, {"Retry-After": f"{TRY_SECONDS:g}"})
    try:
        yield
    except LoginRefused:
        raise
    except BaseException:
        tries.take_back(key)
        raise
    tries.succeed(key, name, address)


@router.post("/login/link")
def log_in_by_link(
    request: Request, code: Annotated[str, Form(max_length=200)], next: Annotated[str, Form(max_length=4000)] = "/"
) -> Response:
    """Log in with the code of a link, and return what only this browser may know: the secret of its forms."""
    context = get_context(request)
    try:
        with limit_tries(request):
            link = context.sessions.take_link(code)
            if link is None:
                raise LoginRefused("the one-time link is not valid")
    except LoginRefused:
        message = "This link was used, is too old, or was not made for these pages. Make another: fleetpatch web login"
        return JSONResponse({"message": message}, 403)
    secret = open_session(request, link.name, link.roles, LINK_SOURCE)
    form_token = derive_csrf_token(context.form_key, secret, link.name)
    response = JSONResponse({"form_token": form_token, "next": mark_target(clean_target(next))})
    SESSION.set(request, response, secret)
    return response


@router.get("/session", dependencies=[Depends(require_role(Role.VIEW))])
def show_session(request: Request) -> Response:
    """Return how long the login lasts if it is not used again. This question is no use."""
    ends_at = get_identity(request).ends_at
    if ends_at is None:
        raise HTTPException(401, "You are not logged in, or no longer.")
    return JSONResponse({"seconds": (ends_at - get_context(request).clock.now()).total_seconds()})


@router.post("/session", dependencies=[Depends(ActPermission(Role.VIEW))])
def keep_session(request: Request) -> Response:
    """Use the login, so that it lasts."""
    return show_session(request)


@router.post("/logout", dependencies=[Depends(require_csrf_token)])
def log_out(request: Request) -> Response:
    """End the session, in the records too: a copy of the cookie opens nothing any more."""
    record_login(request, get_identity(request).name, "logout", "session")
    response = _answer_logout(request)
    SESSION.delete(request, response)
    return response


def _answer_logout(request: Request) -> Response:
    """End the session, and return where the browser goes then: if its provider wants to know of it, by its page."""
    context = get_context(request)
    session = _close_session(request)
    if session is None or session.source != OIDC or context.logins is None or context.logins.oidc is None:
        return RedirectResponse("/login", 303)
    try:
        back = f"{find_own_address(request)}/login"
        url = context.logins.oidc.build_logout_url(context.sessions.read_ticket(session), back)
    except ProviderAway:
        url = ""
    # No redirect: browsers follow none from a form to another site (form-action of the content security policy).
    return render_page(request, "logged_out.html.j2", url=url)


def find_own_address(request: Request) -> str:
    """Return the address of these pages for browsers, without a slash at its end. The Host header was checked."""
    return get_context(request).settings.public_url or f"https://{request.headers['host']}"


def open_session(
    request: Request, name: str, roles: tuple[str, ...], source: str, subject: str = "", ticket: str = ""
) -> str:
    """Log a browser in, and return the secret for its cookie.

    The browser always gets a new cookie: one that somebody else has put there gets no login.
    """
    record_login(request, name, "login", source)
    secret = get_context(request).sessions.open(name, roles, source, subject, ticket)
    _close_session(request)
    return secret


def complete_login(
    request: Request, target: str, name: str, roles: tuple[str, ...], source: str, subject: str = "", ticket: str = ""
) -> Response:
    """Log a browser in, and send it to a clean target."""
    response = RedirectResponse(mark_target(target), 303)
    SESSION.set(request, response, open_session(request, name, roles, source, subject, ticket))
    return response


def _close_session(request: Request) -> WebSession | None:
    sessions, secret = get_context(request).sessions, SESSION.read_secret(request)
    session = sessions.find(secret) if secret else None
    if session is not None:
        sessions.close(session)
    return session


@contextmanager
def limit_tries(request: Request, failures: FailureLimiter | None = None, who: str = "") -> Iterator[None]:
    """Let an address try to log in, if few of its tries have failed. A try counts as failed until it succeeds.

    ``failures``: what counts them; None: those with tokens, passwords and links.
    ``who``: the name, if the address gave one.

    Raises:
        HTTPException: too many have failed (429).
        LoginRefused: the try has failed. It is recorded, and stays counted.
    """
    failures = failures or get_context(request).failed_logins
    address, has_failed = get_identity(request).address, False
    if not failures.count(address):
        raise HTTPException(
            429,
            f"{MAX_FAILURES} logins from {address} have failed. Try again in {PERIOD_SECONDS:g} seconds.",
            {"Retry-After": f"{PERIOD_SECONDS:g}"},
        )
    try:
        yield
    except LoginRefused as error:
        has_failed = True
        record_refusal(request, error.message, act="login", who=who)
        raise
    finally:
        if not has_failed:
            failures.take_back(address)


def clean_target(target: str) -> str:
    """Return the address to go to after the login, if it is one of these pages; else "/"."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\", "/login", "/logout"))
    return target if is_local and target.isprintable() and "\\" not in target else "/"


def mark_target(target: str) -> str:
    """Return a clean target with a mark in its query, if it has one. Its maker can't take the mark out again."""
    parts = urlsplit(target)
    if not parts.query:
        return target
    query = [*parse_qsl(parts.query, keep_blank_values=True), LOGIN_MARK]
    return parts._replace(query=urlencode(query)).geturl()


CALLBACK_PATH: Final = "/login/oidc/callback"


def _find_provider(request: Request) -> tuple[Logins, OidcProvider]:
    logins = get_context(request).logins
    if logins is None or logins.oidc is None:
        raise HTTPException(404, "There is no OpenID Connect provider here.")
    return logins, logins.oidc


@router.get("/login/oidc")
def begin(request: Request, next: str = "/") -> Response:
    """Send the browser to the provider, with a cookie that only it has."""
    logins, provider = _find_provider(request)
    pending = begin_login(clean_target(next))
    try:
        with logins.ask_for_login(OIDC):
            url = provider.build_login_url(pending, find_own_address(request) + CALLBACK_PATH)
    except ProviderAway as error:
        return render_login(request, pending.target, error.message, error.hint, status=503)
    response = RedirectResponse(url, 303)
    PENDING.set(request, response, get_context(request).sessions.seal_text(pending.write()))
    return response


@router.get(CALLBACK_PATH)
def finish(request: Request) -> Response:
    """Log the browser in that comes back from the provider."""
    logins, provider = _find_provider(request)
    sessions, failures = get_context(request).sessions, get_context(request).failed_oidc
    text = sessions.open_text(PENDING.read(request), int(PENDING_LENGTH.total_seconds()))
    pending = read_pending_login(text) if text is not None else None
    if pending is None:  # this counts for no address: a page of another site can have any browser come here
        message = "this browser has begun no login here, or took too long"
        record_refusal(request, message, act="login")
        response = render_login(request, "/", f"The login has failed: {message}.", status=403)
        PENDING.delete(request, response)
        return response
    back, answer = find_own_address(request) + CALLBACK_PATH, dict(request.query_params)
    try:
        with limit_tries(request, failures), logins.ask_for_login(OIDC):
            person = provider.finish_login(pending, answer, back)
            roles = logins.list_roles(person)
    except LoginRefused as error:
        response = render_login(request, pending.target, f"The login has failed: {error.message}.", status=403)
    except ProviderAway as error:
        response = render_login(request, pending.target, error.message, error.hint, status=503)
    else:
        response = complete_login(request, pending.target, person.name, roles, OIDC, person.subject, person.ticket)
    PENDING.delete(request, response)
    return response


@router.post("/logout/oidc")
def hear_logout(request: Request, logout_token: Annotated[str, Form(max_length=20_000)]) -> Response:
    """End the sessions of somebody who has logged out at the provider (back-channel logout). The provider calls it."""
    logins, provider = _find_provider(request)
    try:
        with limit_tries(request, get_context(request).failed_oidc), logins.ask_for_login(OIDC):
            subject = provider.read_logout_token(logout_token)
    except LoginRefused as error:
        raise HTTPException(400, error.message) from error
    get_context(request).sessions.close_of_subject(OIDC, subject)
    record_login(request, subject, "logout", OIDC)
    return Response(headers={"Cache-Control": "no-store"})
