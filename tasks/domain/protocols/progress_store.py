"""The interface of the store for the progress of runs, which the pages show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tasks.domain.protocols.leases import LeaseHolder


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """What one machine of a run does now.

    Attributes:
        machine: its name; "" for the run itself.
        step: the step, or "" before the first one.
        state: "NotStarted", "InProgress", or the state in which the step ended.
        fraction: of the step, from 0 to 1; None: not known.
        since: when the step began, or ended.
        at: the time of the last news.
        wave: the number of its wave; None: no wave.
        position: its place in the order of the run, from 0; None: not known.
    """

    machine: str
    step: str
    state: str
    fraction: float | None
    message: str
    since: datetime
    at: datetime
    wave: int | None = None
    position: int | None = None


class ProgressStore(Protocol):
    """Stores the progress of runs. Every method raises RecordsError if the records are not available."""

    def save(self, run_id: str, rows: Sequence[ProgressRow], holder: LeaseHolder | None = None) -> bool:
        """Store or replace rows. Return False, and store nothing, if another process has the run."""
        ...

    def delete(self, run_id: str, holder: LeaseHolder | None = None) -> bool:
        """Delete all rows of a run. Return False, and delete nothing, if another process has the run."""
        ...
