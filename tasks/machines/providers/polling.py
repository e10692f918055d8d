"""Waits for a provider, and reads the secret of its login."""

from collections.abc import Callable
from typing import Final, TypeVar

from inventory.credentials import CredentialKind, Secret
from inventory.machine_providers import ProviderSettings
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.providers.registry import ProviderPorts

POLL_SECONDS: Final = 5.0

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


def wait_until(clock: Clock, deadline: Deadline, is_so: Callable[[], bool], *, message: str) -> None:
    """Wait until ``is_so`` returns True. See ``poll``."""
    poll(clock, deadline, lambda: is_so() or None, message=message)


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
