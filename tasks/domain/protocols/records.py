"""The protocols of records: the journal and the history of runs, and the progress that the pages show."""

from collections.abc import Sequence, Set
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from inventory.data_class import dataclass
from tasks.domain.errors import LeaseLost
from tasks.domain.model import Assessment, JobOutput, Outcome, RunInfo, RunReport, UpdateKey
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.states import Step


class JournalMark(StrEnum):
    """Whether an entry is written before an act or after it."""

    BEFORE = "before"
    AFTER = "after"


ROLLOUT_PREFIX: Final = "rollout:"
"""Begins the name of a rollout in a request's ``updates.as_in_run``."""
PUBLISH_ACT: Final = "publish"
"""The act of the entry that the end of a run was published: its files, what Prefect shows, its messages."""
SHARD_ACT: Final = "shard"
"""The act of entries about the run of a shard, whose id is their key: it is about to be started, or it shall not begin.
"""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry of the journal. It is safely stored before its act begins."""

    run_id: str
    machine: str
    step: Step
    mark: JournalMark
    act: str  # the act that begins or has ended: "install", "stage", "repair", "remove", "reboot" …
    key: str  # distinguishes acts of the same kind in one step (the job id; the boot id before a reboot)
    at: datetime
    # Small JSON facts for people and for the process that resumes the run.
    detail: dict[str, object] = field(default_factory=dict)


def build_lease_lost_error() -> LeaseLost:
    """Return the error for a process that writes about a run whose lease it has lost."""
    return LeaseLost(
        "another process executes this run now, so this process writes nothing more about it",
        hint="Look at the run: the other process continues it.",
    )


class Records(Protocol):
    """The store of runs. Every method raises RecordsError when the store can't be reached."""

    def append_entry(self, entry: JournalEntry) -> None:
        """Store an entry. Return when it would survive a power cut. The same entry sent again is stored once."""

    def read_entries(self, run_id: str, machine: str | None = None) -> tuple[JournalEntry, ...]:
        """Return the journal of a run (or of one machine in it), oldest entry first."""

    def save(self, item: RunInfo | Assessment | Outcome | JobOutput | RunReport) -> None:
        """Store or replace a run, an assessment, an outcome, a job's output, or a complete report with its plans."""

    def read_measure(self, machine: str, measure: str) -> float | None:
        """Return the exponentially weighted mean of a measure over past runs of this machine.

        Measures: ``install_seconds_per_update``, ``transaction_seconds``, ``download_bytes_per_second``,
        ``reboot_seconds``. None when there is no value yet.
        """

    def read_last_assessment(self, machine: str) -> Assessment | None:
        """Return a machine's newest assessment that has an answer; None: it has none. Its updates may be missing."""

    def read_first_seen(self, updates: Set[UpdateKey]) -> dict[UpdateKey, datetime]:
        """Return when an assessment of any machine first saw each of these, as far as that is known."""

    def with_lease(self, run_id: str, holder: LeaseHolder) -> "Records":
        """Return these records, limited to writes while this holder has the lease of the run.

        The store checks the lease and writes in one step. So the next holder finds everything that this holder has
        written, and this holder can write nothing later, even if its process was paused during a write: then
        ``append_entry`` and ``save`` raise RecordsError. An expired lease is valid until another holder acquires it.
        """


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """What one machine of a run does now."""

    machine: str  # its name; "" for the run itself
    step: str  # the step, or "" before the first one
    state: str  # "NotStarted", "InProgress", or the state in which the step ended
    fraction: float | None  # of the step, from 0 to 1; None: not known
    message: str
    since: datetime  # when the step began, or ended
    at: datetime  # the time of the last news
    wave: int | None = None  # the number of its wave; None: no wave
    position: int | None = None  # its place in the order of the run, from 0; None: not known


class ProgressStore(Protocol):
    """Stores the progress of runs. Every method raises RecordsError if the records are not available."""

    def save(self, run_id: str, rows: Sequence[ProgressRow], holder: LeaseHolder | None = None) -> bool:
        """Store or replace rows. Return False, and store nothing, if another process has the run."""

    def delete(self, run_id: str, holder: LeaseHolder | None = None) -> bool:
        """Delete all rows of a run. Return False, and delete nothing, if another process has the run."""
