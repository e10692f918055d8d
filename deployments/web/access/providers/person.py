"""What an identity provider says, and the one place where groups become roles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks.errors import FleetpatchError


class ProviderAway(FleetpatchError):
    """The provider does not answer, or not as its protocol says."""


class LoginRefused(FleetpatchError):
    """The provider, or a check of what it has sent, says no."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is, as a provider says.

    Attributes:
        name: the name for records and for the audit log.
        groups: the groups that the person is in.
        subject: the provider's own name for the person, which never changes.
        ticket: what the provider wants at the next check. It is secret.
    """

    name: str
    groups: tuple[str, ...]
    subject: str
    ticket: str = ""


class IdentityProvider(Protocol):
    """Says who somebody is."""

    def check(self, subject: str, ticket: str) -> Person:
        """Return what a person is now, without asking that person.

        Raises:
            LoginRefused: the person's login is valid no longer.
            ProviderAway: the provider does not answer.
        """


@dataclass(frozen=True, slots=True)
class GroupRoles:
    """The roles of the people in a group.

    Attributes:
        group: its name, as the provider gives it.
        roles: words of ``deployments.web.access.roles``.
    """

    group: str
    roles: tuple[str, ...]


def list_group_roles(groups: Iterable[str], mapping: Sequence[GroupRoles]) -> tuple[str, ...]:
    """Return the roles that groups give, each once. Names of groups are compared without regard to case, as AD does."""
    known = {group.casefold() for group in groups}
    roles = (role for entry in mapping if entry.group.casefold() in known for role in entry.roles)
    return tuple(dict.fromkeys(roles))
