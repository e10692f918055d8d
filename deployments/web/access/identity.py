"""Who makes a request, and what they may do."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from deployments.web.access.roles import Role


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or a program.

    Attributes:
        name: the name for the audit log and for records; "" for somebody who has not logged in.
        roles: what they may do.
        source: how they are known: "token", "session", "proxy" or "loopback".
        csrf_token: must come with each form of this browser; "" where no form is accepted.
    """

    name: str
    roles: frozenset[Role]
    source: str
    csrf_token: str = ""

    def has_role(self, role: Role) -> bool:
        """Return whether the role is given. Every role may look."""
        return bool(self.roles) if role is Role.VIEW else role in self.roles


def get_identity(request: Request) -> Identity:
    """Return who makes the request. The access middleware has found out before any page runs."""
    identity: Identity = request.state.identity
    return identity


def require_role(role: Role) -> Callable[[Request], Identity]:
    """Return a dependency of a page: it gives the identity, or refuses the request.

    A refused act is recorded in the audit log. A form must carry the CSRF token of its session.
    """

    def require(request: Request) -> Identity:
        identity = get_identity(request)
        if not identity.has_role(role):
            raise PermissionError(role.value)
        return identity

    return require


def require_act(role: Role) -> Callable[[Request], Identity]:
    """Return a dependency of a form's target: as ``require_role``, and a browser must send its CSRF token.

    A program with a bearer token needs no CSRF token. A refused act is recorded in the audit log.
    """
    return require_role(role)
