"""What an identity provider says, and the one place where groups become roles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks.domain.errors import FleetpatchError
from tasks.rules.policy.login_names import fold_ascii


class ProviderAway(FleetpatchError):
    """The provider does not answer, or its answer breaks the protocol."""


class LoginRefused(FleetpatchError):
    """The provider refuses the login, or its answer fails a check."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is, as a provider says.

    Attributes:
        name: the name for records and for the audit log.
        groups: the groups that the person is in.
        subject: the provider's own name for the person, which never changes.
        ticket: what the provider wants at the next check. It is secret.
        is_case_ignored: whether groups that differ only in the case of A to Z are one group, as in directories.
    """

    name: str
    groups: tuple[str, ...]
    subject: str
    ticket: str = ""
    is_case_ignored: bool = False


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
        roles: words of ``fleetpatch.access.roles``.
    """

    group: str
    roles: tuple[str, ...]


def list_group_roles(
    groups: Iterable[str], mapping: Sequence[GroupRoles], *, is_case_ignored: bool = False
) -> tuple[str, ...]:
    """Return the roles that groups give, each once."""
    fold = fold_ascii if is_case_ignored else str
    folded_groups = {fold(group) for group in groups}
    roles = (role for entry in mapping if fold(entry.group) in folded_groups for role in entry.roles)
    return tuple(dict.fromkeys(roles))
