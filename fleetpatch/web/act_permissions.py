"""Who may do something: each target of a form and each act of the API has one of these dependencies."""

import hmac
from dataclasses import dataclass
from typing import Final

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from fleetpatch.access.identity import Identity, get_identity
from fleetpatch.access.roles import Role
from fleetpatch.web.audit import record_refusal

CSRF_FIELD: Final = "csrf"
_NO_COOKIES: Final = frozenset({"token"})
"""Sources of identities that a browser never adds to a request of another site by itself."""


@dataclass(frozen=True, slots=True)
class ActPermission:
    """A dependency of what does something: it gives the identity, or refuses the request and records that.

    A browser must send the CSRF token of its session. A program with a bearer token needs none.

    Attributes:
        role: what the act needs.
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


def require_act(role: Role) -> ActPermission:
    """Return the dependency of what needs a role."""
    return ActPermission(role)


def _is_equal(sent: str, wanted: str) -> bool:
    """Compare in a time that says nothing."""
    return hmac.compare_digest(sent.encode(errors="replace"), wanted.encode())


async def require_csrf_token(request: Request) -> None:
    """Refuse a form that does not carry the CSRF token of its browser.

    Raises:
        HTTPException: it does not (403).
    """
    identity = get_identity(request)
    if identity.source in _NO_COOKIES:
        return
    form: FormData = await request.form()
    sent = form.get(CSRF_FIELD)
    csrf_token = identity.csrf_token
    if not csrf_token or not isinstance(sent, str) or not _is_equal(sent, csrf_token):
        await run_in_threadpool(record_refusal, request, "the form has no valid CSRF token")
        message = "This form is not from these pages, or your login has changed since: open it again."
        if identity.is_bound:
            message += " If it comes again: this browser has lost the secret of its login. Log in with a new link."
        raise HTTPException(403, message)
