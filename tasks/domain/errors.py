"""The tree of errors. Each error has a machine, a hint for the user, and a flag: transient or not.

FleetpatchError is at its top (inventory/errors.py), with InventoryError, CredentialError, CannotRun and PatchError
below it. The errors of a whole run are in run_errors.py.
"""

from pathlib import Path
from typing import ClassVar, Final

from inventory.errors import (  # noqa: F401 - part of this tree: others import them from here
    CredentialError,
    EmptyScopeError,
    FleetpatchError,
    HostKeyConflict,
    InvalidInventory,
    InventoryError,
    SecretStoreUnavailable,
)


class CannotRun(FleetpatchError):
    """fleetpatch can't run here: its environment lacks something."""


class PatchError(FleetpatchError):
    """An error during the assessment or the patching of a machine."""


class RequestError(PatchError):
    """A request that can't be executed as written."""


class PolicyRefused(RequestError):
    """A rule of the policy, or the scope of a role, forbids the request. The message names the rule."""


class Frozen(PolicyRefused):
    """A freeze of the fleet's configurations touches the window, or it is not known whether one does."""


class TransportError(PatchError):
    """The connection to the machine failed. The transport converts library errors into these errors."""


class Unreachable(TransportError):
    """The machine's address does not answer, or does not answer with SSH."""

    transient: ClassVar[bool] = True
    is_silent: bool = False  # nothing at all answers at its address


class WayUnreachable(Unreachable):
    """The way to the machine is broken: its name, or a jump host. Nothing is known of the machine itself."""


class OtherSite(TransportError):
    """The machine is reached from another site only. It was not contacted."""


class ConnectionLost(TransportError):
    """The connection was lost. A job on the machine continues."""

    transient: ClassVar[bool] = True


class AuthenticationFailed(TransportError):
    """The machine refused the login. Never retried: the account could be locked."""


class HostKeyMismatch(TransportError):
    """The machine's host key is not the pinned key. Never retried: the machine is quarantined."""

    def describe_in_run(self) -> str:
        """Return the message of a run that has logged in to the machine before: what it did may be the reason."""
        return f"it has changed since this run began on it: {self.message}"


class HostKeyUnknown(TransportError):
    """The machine's host key is not pinned, and learning is off."""


class PrivilegeError(TransportError):
    """The login user can't get administrator rights."""


class LoginBroken(PatchError):
    """The login worked before the update, and the machine refuses it since. No further machine begins."""


class DeadlineExceeded(TransportError):
    """The deadline has passed."""


class ProtocolViolation(PatchError):
    """The machine's answer is not the expected JSON."""


class NoShell(ProtocolViolation):
    """The login was accepted, and no shell ran behind it, or none that works."""


LOGIN_REFUSALS = (AuthenticationFailed, NoShell, PrivilegeError)
"""The errors of a machine that refuses the login, or in which a run can do nothing after it."""


class ReportTooLarge(ProtocolViolation):
    """The machine reports more than any real machine: nothing of its report is taken."""


class ScriptFailed(PatchError):
    """A script ended with an unexpected exit code.

    Attributes:
        output_tail: the end of the script's output, for display.
    """

    def __init__(
        self, message: str, *, exit_code: int, output_tail: str = "", machine: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, machine=machine, hint=hint)
        self.exit_code = exit_code
        self.output_tail = output_tail


class LockLost(ScriptFailed):
    """The machine refused an order: the run, or this attempt at it, no longer has its machine lock. Nothing began."""

    holder: str = ""  # the id of the other run that has the lock; "" when no other run has it


class ManagerError(PatchError):
    """The package manager can't execute the request."""


class ManagerBusy(ManagerError):
    """Another process holds the package manager's lock."""

    transient: ClassVar[bool] = True


class RepositoryError(ManagerError):
    """All or some repositories can't be read."""

    transient: ClassVar[bool] = True


READ_LISTS_REMEDY: Final = (
    "Read the package lists: `fleetpatch assess MACHINE`, or `fleetpatch doctor MACHINE --refresh`."
)


class ListsUnread(RepositoryError):
    """The machine has never read the package lists of its repositories. Its pending updates are unknown."""

    transient: ClassVar[bool] = False


class BrokenPackages(ManagerError):
    """The package state is interrupted or inconsistent."""


class UnsupportedSystem(ManagerError):
    """The machine has no supported package manager."""


class ProviderError(PatchError):
    """The provider of a machine's disks can't do what was asked, or says that it failed."""


class ProviderUnavailable(ProviderError):
    """The provider does not answer. Whether it has carried an order out is not known."""

    transient: ClassVar[bool] = True


class DisksTakenBack(ProviderError):
    """Somebody has taken back what fleetpatch has done to the disks of a machine, or the provider's notes of it."""


class JobLost(PatchError):
    """A job's process ended without a result. The package database shows what the job did."""


class WindowClosed(PatchError):
    """No time is left in the window."""


class RebootFailed(PatchError):
    """The machine did not go down, or did not come back, within the allowed time."""


class RecordsError(PatchError):
    """The records can't be read or written."""


class LeaseLost(RecordsError):
    """Another process executes this run now, so this one writes, shows and sends nothing more about it."""


class RecordsUnavailable(RecordsError):
    """The database is unreachable, busy or full. The write may or may not be stored; repeat it."""

    transient: ClassVar[bool] = True


class SealBroken(RecordsError):
    """A record has no seal, or it doesn't fit: something else than fleetpatch wrote it. Nothing of it is done."""


class SealKeyMissing(RecordsError):
    """A record was sealed with a key that this process doesn't have: another controller wrote it."""


class RunNotFound(RecordsError):
    """No run of the records has this id, or several have it as the beginning of theirs."""


class ReportError(PatchError):
    """A report can't be written. No partial file remains."""


class FeedError(PatchError):
    """A file of risk feeds that can't be used.

    Attributes:
        fault: what is wrong with it, as the rest of a sentence that begins with the file.
    """

    def __init__(self, fault: str, *, file: Path, hint: str = "") -> None:
        super().__init__(f"{file} {fault}", hint=hint)
        self.file = file
        self.fault = fault


class InternalError(PatchError):
    """A fault in fleetpatch itself: an unexpected exception."""
