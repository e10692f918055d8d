"""Collects the results of all jobs of one machine's installation."""

from dataclasses import dataclass, field

from tasks.domain.model import (
    TransactionResult,
    UnfinishedPackage,
)
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.steps.jobs.job_result import JobResult
from tasks.steps.jobs.package_job import SubmittedJob


@dataclass(slots=True)
class InstallLog:
    """The results of an installation so far, over all jobs.

    Attributes:
        first_number: the number of the first transaction: an earlier round of the run has the numbers before it.
        jobs: by id, all that may have been started.
        ended_job_ids: ids of jobs whose end was seen.
        is_job_lost: a job's process ended without a result. Nothing more begins on such a machine.
        staged_seconds: how long the download ahead took, if it succeeded.
        repaired_packages: packages that were half installed, and that a repair has finished.
        staging_failure: why the download ahead failed, or "" if there was none.
    """

    first_number: int = 0
    jobs: dict[str, SubmittedJob] = field(default_factory=dict)
    ended_job_ids: set[str] = field(default_factory=set)
    transactions: list[TransactionResult] = field(default_factory=list)
    not_attempted: dict[str, str] = field(default_factory=dict)
    kept_files: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    rejected_update_ids: set[str] = field(default_factory=set)
    is_job_lost: bool = False
    staged_seconds: float | None = None
    staging_failure: str = ""
    repaired_packages: tuple[UnfinishedPackage, ...] = ()

    def add_job_result(self, job_result: JobResult) -> None:
        """Add the result of a job that has ended."""
        self.ended_job_ids.add(job_result.job_id)
        self.transactions += job_result.transactions
        self.not_attempted.update(job_result.not_attempted)
        self.kept_files.update(job_result.kept_files)
        self.rejected_update_ids |= set(job_result.rejected_update_ids)
        self.is_job_lost = self.is_job_lost or job_result.is_lost
        if job_result.error:
            self.errors.append(job_result.error)

    def find_predicted_seconds(self, number: int) -> float:
        """Return the predicted seconds of an installing transaction."""
        parts = [part for asked in self.jobs.values() if asked.kind is Kind.INSTALL for part in asked.transactions]
        return next((part.predicted_seconds for part in parts if part.number == number), 0.0)

    @property
    def next_transaction_number(self) -> int:
        """The number of the next transaction that changes the machine. Numbers are unique in a run."""
        changing = [asked for asked in self.jobs.values() if asked.kind is not Kind.STAGE]
        return max((part.number + 1 for asked in changing for part in asked.transactions), default=self.first_number)

    @property
    def may_have_installed(self) -> bool:
        """Whether a job that installs may have been started."""
        return any(asked.kind is Kind.INSTALL for asked in self.jobs.values())

    @property
    def unfinished_update_ids(self) -> set[str]:
        """The ids of updates in installing jobs whose end was not seen."""
        open_ones = [asked for job_id, asked in self.jobs.items() if job_id not in self.ended_job_ids]
        parts = [part for asked in open_ones if asked.kind is Kind.INSTALL for part in asked.transactions]
        return {update.id for part in parts for update in part.updates}
