"""What an identity provider says, and how it refuses."""

from typing import Protocol

from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError


class ProviderAway(FleetpatchError):
    """The provider does not answer, or its answer breaks the protocol."""


class LoginRefused(FleetpatchError):
    """The provider refuses the login, or its answer fails a check."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is, as a provider says."""

    name: str  # the name for records and for the audit log
    groups: tuple[str, ...]  # the groups that the person is in
    subject: str  # the provider's own name for the person, which never changes
    ticket: str = ""  # what the provider wants at the next check. It is secret.
    # Whether groups that differ only in the case of A to Z are one group, as in directories.
    is_case_ignored: bool = False


class IdentityProvider(Protocol):
    """Says who somebody is."""

    def check(self, subject: str, ticket: str) -> Person:
        """Return what a person is now, without asking that person.

        Raises:
            LoginRefused: the person's login is valid no longer.
            ProviderAway: the provider does not answer.
        """
