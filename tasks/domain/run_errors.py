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


class RunBegun(PatchError):
    """Another process of the same flow run has begun this run already, and may have ended it."""


class FleetPatchFailed(PatchError):
    """A machine failed, nothing began, or a person cancelled the run. Raised at its end; has the complete report."""

    def __init__(self, message: str, *, report: "RunReport", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.report = report
