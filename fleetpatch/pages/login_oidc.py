"""Log in at an OpenID Connect provider, and hear from it that somebody has logged out there."""

from typing import Annotated, Final

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from fleetpatch.access.cookies import PENDING, PENDING_LENGTH
from fleetpatch.access.providers.logins import OIDC, Logins
from fleetpatch.access.providers.oidc import OidcProvider, begin_login, read_pending_login
from fleetpatch.access.providers.person import LoginRefused, ProviderAway
from fleetpatch.pages.login import (
    clean_target,
    complete_login,
    find_own_address,
    limit_tries,
    render_login,
)
from fleetpatch.web.audit import record_login, record_refusal
from fleetpatch.web.context import get_context

router = APIRouter()
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
