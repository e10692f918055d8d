"""Who makes a request, and what they may do."""

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime

from fastapi import Request

from fleetpatch.access.roles import Role
from inventory.data_class import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or a program."""

    name: str  # the name for the audit log and for records; "" for somebody who has not logged in
    roles: frozenset[Role]  # what they may do
    source: str  # how they are known: "token", "session", "proxy" or "loopback"; "" for a stranger
    csrf_token: str = ""  # must come with each form of this browser; "" where no form is accepted
    address: str = ""  # the network address of the browser or the program, for the audit log
    # Scope expressions by role: which machines a role is limited to. A role without one is not limited.
    scopes: Mapping[Role, str] = field(default_factory=dict)
    # Whether only the browser that has logged in knows the CSRF token, and pages must not show it.
    is_bound: bool = False
    ends_at: datetime | None = None  # when the session ends if it is not used again; None: it is no session

    @property
    def form_token(self) -> str:
        """What pages write into their forms: the CSRF token; "" if the browser adds it itself."""
        return "" if self.is_bound else self.csrf_token

    def has_role(self, role: Role) -> bool:
        """Return whether the role is given. Every role may look."""
        return bool(self.roles) if role is Role.VIEW else role in self.roles


STRANGER = Identity("", frozenset(), "")
"""Somebody who may not even look."""


def get_identity(request: Request) -> Identity:
    """Return who makes the request. The access middleware has found out before any page runs."""
    identity: Identity = request.state.identity
    return identity


def require_role(role: Role) -> Callable[[Request], Identity]:
    """Return a dependency of a page: it gives the identity, or refuses the request.

    Raises:
        PermissionError: by the dependency: the role is missing. The text is the role.
    """

    def require(request: Request) -> Identity:
        identity = get_identity(request)
        if not identity.has_role(role):
            raise PermissionError(role.value)
        return identity

    return require
