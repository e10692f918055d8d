"""Who gives machines the licence for hotpatches, where the machine itself can't: the protocol, and its answers."""

from dataclasses import dataclass
from typing import Protocol

from inventory.machine import Machine
from tasks.domain.errors import PatchError
from tasks.domain.protocols.clock import Deadline
from tasks.rules.hotpatch import HotpatchAction


class LicenceError(PatchError):
    """A licence provider refused a request, or gave no usable answer."""


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a machine for hotpatches, as its provider tells.

    Attributes:
        is_enrolled: whether the machine has it.
        is_enabled: whether the machine is set to receive hotpatches; None when the provider does not tell.
        is_changing: whether a change is in progress at the provider.
        is_canceled: whether the machine had it, and somebody cancelled it.
        state: the provider's own words.
    """

    is_enrolled: bool
    is_enabled: bool | None = None
    is_changing: bool = False
    is_canceled: bool = False
    state: str = ""


class LicenceProvider(Protocol):
    """Gives and takes licences. Every method may be called from several threads."""

    name: str

    def read_licence(self, machine: Machine, *, deadline: Deadline) -> Licence:
        """Return the licence of a machine. Changes nothing.

        Raises:
            LicenceError: it could not be read.
            CredentialError: the token can't be read.
        """

    def change_licence(self, machine: Machine, action: HotpatchAction, *, deadline: Deadline) -> Licence:
        """Change the licence of a machine, and return it. The provider may complete the change later.

        A change is never repeated by itself.

        Raises:
            LicenceError: it was refused, or its result is not known.
            CredentialError: the token can't be read.
        """
