"""The errors of a whole run. They carry parts of it, and belong to the tree in tasks/domain/errors.py."""

from datetime import datetime
from typing import TYPE_CHECKING

from tasks.domain.errors import PatchError

if TYPE_CHECKING:  # who only describes an error needs no report
    from tasks.domain.model import RunReport
    from tasks.domain.protocols.leases import LeaseHolder


class LeaseHeld(PatchError):
    """Another process executes this run.

    Attributes:
        until: when the lease expires if it is not renewed, by the clock of the records.
    """

    def __init__(self, run_id: str, *, holder: "LeaseHolder", until: datetime) -> None:
        super().__init__(
            f"run {run_id} is executed by {holder}, whose lease lasts until {until:%Y-%m-%d %H:%M:%S %Z}",
            hint="Stop that run, or wait: if its process died, its lease expires by itself.",
        )
        self.run_id = run_id
        self.holder = holder
        self.until = until


class EndUnknown(PatchError):
    """The records have not answered for as long as the lease of the run is valid, so another process may have the run.

    Attributes:
        report: what this process knows. The run in it is Unknown.
    """

    def __init__(self, report: "RunReport") -> None:
        hint = f"When the records answer again: fleetpatch reconcile, then fleetpatch show {report.run.id}."
        super().__init__(report.run.message, hint=hint)
        self.report = report


class RunBegun(PatchError):
    """Another process of the same flow run has begun this run already, and may have ended it."""


class FleetPatchFailed(PatchError):
    """A machine failed, nothing began, or a person cancelled the run. Raised at its end; has the complete report."""

    def __init__(self, message: str, *, report: "RunReport", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.report = report
