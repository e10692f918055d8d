"""The Records protocol: the journal and the history that a run keeps."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tasks.errors import RecordsError
from tasks.model import Assessment, JobOutput, Outcome, RunInfo, RunReport
from tasks.protocols.leases import LeaseHolder
from tasks.states import Step


class JournalMark(StrEnum):
    """Whether an entry stands before an act or after it."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the journal: written, and safely stored, before its act begins.

    Attributes:
        act: what is about to be done, or was done: "install", "stage", "repair", "reboot" …
        key: tells acts of the same kind in one step apart (the job id; the boot id before a reboot).
        detail: small JSON facts for people and for whoever takes the run up again.
    """

    run_id: str
    machine: str
    step: Step
    mark: JournalMark
    act: str
    key: str
    at: datetime
    detail: dict[str, object] = field(default_factory=dict)


def build_lease_lost_error() -> RecordsError:
    """Return the error of who writes about a run that is no longer its own."""
    return RecordsError(
        "somebody else has taken this run over, so nothing more is written about it from here",
        hint="See the run: its new holder goes on with it.",
    )


class Records(Protocol):
    """Where runs are remembered. Every method raises RecordsError when the store can't be reached."""

    def append_entry(self, entry: JournalEntry) -> None:
        """Store an entry; returns once it would survive a power cut. The same entry sent again is stored once."""
        ...

    def read_entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """Return a run's journal (or one machine's part of it), oldest first."""
        ...

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        """Store or replace a run, an assessment, an outcome, a job's output, or a whole report with its plans."""
        ...

    def read_measure(self, machine: str, measure: str) -> float | None:
        """Return the exponentially weighted mean of a measure of this machine's past runs.

        Measures: ``install_seconds_per_update``, ``transaction_seconds``, ``download_bytes_per_second``,
        ``reboot_seconds``. None when nothing was learned yet.
        """
        ...

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "Records":
        """Return the same records, which write only as long as a run's lease is this holder's.

        The store checks the lease and writes in one step. So the next holder finds all that this one has written, and
        this one writes nothing after that, even if its process was stopped in the middle of a write:
        ``append_entry`` and ``save`` raise RecordsError. A lease whose time is over still counts until another holder
        takes it.
        """
        ...
