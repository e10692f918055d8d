"""Log in with an access token, and out again."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from deployments.web.access.acts import require_csrf_token
from deployments.web.access.audit import record_login, record_refusal
from deployments.web.access.authentication import find_token
from deployments.web.access.cookies import SESSION_LENGTH, delete_session, read_session, set_session
from deployments.web.access.identity import get_identity
from deployments.web.access.limiter import MAX_FAILURES, PERIOD_SECONDS
from deployments.web.access.token_secrets import create_secret, digest_secret
from deployments.web.context import get_context
from deployments.web.rendering import render_page
from tasks.records.access_tokens import SqlAccessTokens

router = APIRouter()


@router.get("/login")
def show_login(request: Request, next: str = "/") -> Response:
    """Show the form of the login."""
    return render_page(request, "login.html.j2", next=clean_target(next), message="")


@router.post("/login")
def log_in(
    request: Request,
    token: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:
    """Open a session. The browser always gets a new cookie: one that somebody else has put there gets no login."""
    context, address, target = get_context(request), get_identity(request).address, clean_target(next)
    if context.failed_logins.is_exceeded(address):
        raise HTTPException(
            429,
            f"{MAX_FAILURES} logins from {address} have failed. Try again in {PERIOD_SECONDS:g} seconds.",
            {"Retry-After": f"{PERIOD_SECONDS:g}"},
        )
    found = find_token(context, token.strip())
    if found is None:
        context.failed_logins.count(address)
        record_refusal(request, "the token is not valid", act="login")
        message = "This token is not valid, has expired or was removed."
        return render_page(request, "login.html.j2", status=403, next=target, message=message)
    record_login(request, found.name, "login")
    secret, now = create_secret(), context.clock.now()
    sessions = SqlAccessTokens(context.records.database)
    sessions.open_session(digest_secret(secret), found.name, now, now + SESSION_LENGTH)
    if earlier := read_session(request):
        sessions.close_session(digest_secret(earlier))
    response = RedirectResponse(target, 303)
    set_session(request, response, secret)
    return response


@router.post("/logout", dependencies=[Depends(require_csrf_token)])
def log_out(request: Request) -> Response:
    """End the session, in the records too: a copy of the cookie opens nothing any more."""
    context = get_context(request)
    record_login(request, get_identity(request).name, "logout")
    if session := read_session(request):
        SqlAccessTokens(context.records.database).close_session(digest_secret(session))
    response = RedirectResponse("/login", 303)
    delete_session(request, response)
    return response


def clean_target(target: str) -> str:
    """Return the address to go to after the login, if it is one of these pages; else "/"."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\", "/login", "/logout"))
    return target if is_local and target.isprintable() and "\\" not in target else "/"
