"""The tree of errors. Each carries its machine, a hint for the person, and whether it is transient.

FleetpatchError                     inventory/errors.py
├── InventoryError                  bad inventory or scope: file, line, key
│   ├── InvalidInventory            everything that is wrong with one, found in one pass
│   ├── InvalidConfigurations       the same for configurations (deployments/configuration/errors.py)
│   ├── EmptyScopeError             the scope matches no machine
│   └── HostKeyConflict             a key that must not be learned
├── CredentialError                 a reference that leads nowhere
├── CannotRun                       the environment of fleetpatch itself lacks something
└── PatchError
    ├── RequestError                a request that can't be carried out as written
    ├── TransportError
    │   ├── Unreachable             (transient) no answer, or no SSH at that address
    │   ├── ConnectionLost          (transient) the line was cut; what ran on the machine goes on
    │   ├── AuthenticationFailed    never retried: accounts get locked
    │   ├── HostKeyMismatch         never retried: the machine is quarantined
    │   ├── HostKeyUnknown          never retried: nobody vouched for this key yet
    │   ├── PrivilegeError          the login can't become root
    │   └── DeadlineExceeded        the time that was handed down is over
    ├── ProtocolViolation           the machine did not speak our JSON
    ├── ScriptFailed                a script ended with an exit code that it should not have
    ├── ManagerError
    │   ├── ManagerBusy             (transient) another process holds the package manager's lock
    │   ├── RepositoryError         (transient) repositories can't be read
    │   │   └── ListsUnread         the machine has never read its package lists
    │   ├── BrokenPackages          interrupted or inconsistent package state
    │   └── UnsupportedSystem       no package manager that we know
    ├── JobLost                     a job's process is gone and it left no result
    ├── WindowClosed                no time left
    ├── RebootFailed                the machine did not go down, or did not come back
    ├── RecordsError                history can't be read or written
    │   └── RecordsUnavailable      (transient) the database is away, busy or full for now
    ├── LeaseHeld                   another process carries this run out
    ├── ReportError                 a report can't be written; no half file is left
    ├── InternalError               a fault in fleetpatch itself
    └── FleetPatchFailed            raised once, at the end of a run; carries the whole report
"""

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from inventory.errors import (
    CredentialError,
    EmptyScopeError,
    FleetpatchError,
    HostKeyConflict,
    InvalidInventory,
    InventoryError,
)

if TYPE_CHECKING:
    from tasks.model import RunReport
    from tasks.protocols.leases import LeaseHolder

__all__ = [
    "AuthenticationFailed",
    "BrokenPackages",
    "CannotRun",
    "ConnectionLost",
    "CredentialError",
    "DeadlineExceeded",
    "EmptyScopeError",
    "FleetPatchFailed",
    "FleetpatchError",
    "HostKeyConflict",
    "HostKeyMismatch",
    "HostKeyUnknown",
    "InternalError",
    "InvalidInventory",
    "InventoryError",
    "JobLost",
    "LeaseHeld",
    "ListsUnread",
    "ManagerBusy",
    "ManagerError",
    "PatchError",
    "PrivilegeError",
    "ProtocolViolation",
    "RebootFailed",
    "RecordsError",
    "RecordsUnavailable",
    "ReportError",
    "RepositoryError",
    "RequestError",
    "ScriptFailed",
    "TransportError",
    "Unreachable",
    "UnsupportedSystem",
    "WindowClosed",
]


class CannotRun(FleetpatchError):
    """fleetpatch itself can't run here: its environment lacks something."""


class PatchError(FleetpatchError):
    """Something went wrong while looking at or patching a machine."""


class RequestError(PatchError):
    """A request that can't be carried out as written."""


class TransportError(PatchError):
    """The way to the machine failed. Library errors become these, once, at the transport's edge."""


class Unreachable(TransportError):
    """Nobody answers at the machine's address, or not with the protocol we speak."""

    transient: ClassVar[bool] = True


class ConnectionLost(TransportError):
    """The line was cut. A job on the machine goes on without us."""

    transient: ClassVar[bool] = True


class AuthenticationFailed(TransportError):
    """The machine refused the login. Never retried: accounts get locked."""


class HostKeyMismatch(TransportError):
    """The machine shows another key than the pinned one. Never retried: the machine is quarantined."""


class HostKeyUnknown(TransportError):
    """The machine's key is not pinned, and learning was not switched on."""


class PrivilegeError(TransportError):
    """The login can't become root."""


class DeadlineExceeded(TransportError):
    """The time that was handed down is over."""


class ProtocolViolation(PatchError):
    """The machine did not speak our JSON."""


class ScriptFailed(PatchError):
    """A script ended with an exit code that it should not have.

    Attributes:
        exit_code: as the machine gave it.
        output_tail: the last of what it printed, for the person.
    """

    def __init__(
        self, message: str, *, exit_code: int, output_tail: str = "", machine: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, machine=machine, hint=hint)
        self.exit_code = exit_code
        self.output_tail = output_tail


class ManagerError(PatchError):
    """The package manager can't do what was asked."""


class ManagerBusy(ManagerError):
    """Another process holds the package manager's lock."""

    transient: ClassVar[bool] = True


class RepositoryError(ManagerError):
    """Repositories can't be read, in whole or in part."""

    transient: ClassVar[bool] = True


class ListsUnread(RepositoryError):
    """The machine has repositories, and has never read their package lists: what is pending is not known."""

    transient: ClassVar[bool] = False


class BrokenPackages(ManagerError):
    """Interrupted or inconsistent package state."""


class UnsupportedSystem(ManagerError):
    """The machine has no package manager that we know."""


class JobLost(PatchError):
    """A job's process is gone and it left no result; what it did is asked of the package database."""


class WindowClosed(PatchError):
    """No time left in the window."""


class RebootFailed(PatchError):
    """The machine did not go down, or did not come back, in the time it was given."""


class RecordsError(PatchError):
    """History can't be read or written."""


class RecordsUnavailable(RecordsError):
    """The database is away, busy or full for now. What was asked may or may not have been stored; ask again."""

    transient: ClassVar[bool] = True


class LeaseHeld(PatchError):
    """Another process carries this run out.

    Attributes:
        run_id: the run.
        holder: who has its lease.
        until: when the lease is over unless it is renewed, by the clock of the records.
    """

    def __init__(self, run_id: str, *, holder: "LeaseHolder", until: datetime) -> None:
        super().__init__(
            f"run {run_id} is executed by {holder}, whose lease lasts until {until:%Y-%m-%d %H:%M:%S %Z}",
            hint="Ask that run to stop, or wait: when its process died, its lease runs out by itself.",
        )
        self.run_id = run_id
        self.holder = holder
        self.until = until


class ReportError(PatchError):
    """A report can't be written; no half file is left."""


class InternalError(PatchError):
    """A fault in fleetpatch itself: an exception that nothing expected."""


class FleetPatchFailed(PatchError):
    """Some machine failed. Raised once, at the end of a run; carries the whole report."""

    def __init__(self, message: str, *, report: "RunReport", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.report = report
