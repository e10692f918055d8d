"""What the providers with an API share: their acts, how they wait, and the secret of their login."""

from collections.abc import Callable
from typing import Final, TypeVar

from inventory.credentials import CredentialKind, Secret
from inventory.machine_providers import ProviderSettings
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.provided_machines import ProviderAct
from tasks.machines.providers.registry import ProviderPorts

POLL_SECONDS: Final = 5.0
SNAPSHOT_ACTS: Final = frozenset({ProviderAct.TAKE_SNAPSHOT, ProviderAct.DELETE_SNAPSHOT})
"""None of them replaces or reverts a disk, and none stops a machine: that was never proven on the real thing."""

T = TypeVar("T")


def poll(clock: Clock, deadline: Deadline, read: Callable[[], T | None], *, message: str) -> T:
    """Return what ``read`` returns, as soon as it is not None. It only reads, so it is called until it succeeds.

    Raises:
        ProviderUnavailable: the deadline has passed. Its text is ``message``.
        ProviderError: ``read`` raised it.
    """
    while True:
        try:
            value = read()
        except ProviderUnavailable as error:
            if deadline.has_passed(clock):
                raise ProviderUnavailable(message) from error
            value = None
        if value is not None:
            return value
        if deadline.has_passed(clock):
            raise ProviderUnavailable(message)
        clock.sleep(min(POLL_SECONDS, max(0.1, deadline.remaining_seconds(clock))))


def read_secret(settings: ProviderSettings, ports: ProviderPorts) -> Secret:
    """Return the secret of a provider's login.

    Raises:
        CredentialError: it can't be read.
        ProviderError: the reference is not for a secret text.
    """
    credential = ports.resolve_credential(settings.credential)
    if credential.kind is not CredentialKind.PASSWORD or credential.secret is None:
        hint = "Give the reference of a secret text, such as env:NAME."
        raise ProviderError(f"{settings.name}: its `credential` is a {credential.kind}, not a password", hint=hint)
    return credential.secret
