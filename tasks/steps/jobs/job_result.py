"""Turns the records that a package job wrote into its result. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime

from inventory.data_class import dataclass
from tasks.domain.model import TransactionResult
from tasks.domain.protocols.package_manager import FailureCause, Transaction
from tasks.domain.protocols.transport import JobPhase, ScriptRecord
from tasks.machines.managers.tool_errors import complete_error, describe_failure
from tasks.steps.machine.machine_lock import split_lock_holder

_MAX_NUMBER = 1e15  # a number in a job's record that is larger is not valid

_MAX_EPOCH_SECONDS = 1e11  # seconds since 1970; in the year 5138

_REJECTION_REASONS = {
    "needed": "it would have removed what somebody has chosen, or something needs, since the look just before",
    "removals": "it would have removed packages",
    "anew": "it would have installed anew what was removed after the assessment",
    "unexpected": "it would have changed packages that were not chosen",
    "excluded": "it would have installed or removed packages that are excluded",
    "unread": "what it would change could not be checked",
    "broken": "it would have changed packages that depend on a package whose script failed",
}
"""Why a transaction did not begin, if its effect was not allowed."""

_LOCK_TIMEOUT_REASON = "another process locked the package manager until no time was left to wait: {}"


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended: all its records, its raw output, and how it ended."""

    phase: JobPhase
    exit_code: int | None
    events: tuple[ScriptRecord, ...]
    log: str


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job.

    Attributes:
        transactions: the ones that began.
        not_attempted: update id -> why its transaction did not begin.
        kept_files: configuration files that were kept, because they were edited by hand -> path of their new version.
        log: raw output of the package manager (untrusted text).
        refusals: why transactions did not begin, also those without updates.
        rejected_update_ids: ids of updates whose transaction did not begin because of the effect of one of several
            updates in it.
        kept: what a download has kept of the packages that are replaced: its record "kept".
    """

    job_id: str
    transactions: tuple[TransactionResult, ...]
    not_attempted: Mapping[str, str]
    kept_files: Mapping[str, str]
    log: str
    error: str = ""
    is_lost: bool = False
    refusals: tuple[str, ...] = ()
    rejected_update_ids: tuple[str, ...] = ()
    kept: ScriptRecord | None = None


def _describe_script_error(ended_job: EndedJob) -> str:
    """Return the error that ended a job's script, with its function, if it is a record of PowerShell's."""
    record = next((event for event in reversed(ended_job.events) if event["kind"] == "error"), None)
    if record is None:
        return ""
    function = _shorten(record.get("place")).partition(",")[0].removeprefix("at ")
    return f": {_shorten(record.get('message'))} (in {function})"


def _shorten(text: object) -> str:
    return " ".join(str(text or "").split())[:300]


def build_job_result(
    job_id: str, ended_job: EndedJob, transactions: Sequence[Transaction], skew: float, now: datetime | None = None
) -> JobResult:
    """Build a job's result from its records. Pure.

    ``skew`` is the machine's clock minus ours before the job, in seconds. Nothing happened later than ``now``: the
    machine's clock may have been set ahead during the job.
    """
    builder = _JobResultBuilder({transaction.number: transaction for transaction in transactions}, skew, now)
    for event in ended_job.events:
        builder.add_record(event)
    error = ""
    if ended_job.phase is JobPhase.LOST:
        error = "the job's process is gone and left no result: a power cut, or it was killed"
    elif ended_job.exit_code:
        script_error = _describe_script_error(ended_job)
        error = describe_failure(
            f"the job ended with exit code {ended_job.exit_code}{script_error}", "" if script_error else ended_job.log
        )
    lost = ended_job.phase is JobPhase.LOST
    return JobResult(
        job_id,
        tuple(builder.started_transactions.values()),
        builder.not_attempted,
        builder.kept_files,
        ended_job.log,
        error,
        lost,
        tuple(builder.refusals),
        _find_rejected_updates(ended_job.events, builder.transactions_by_number),
        builder.kept,
    )


@dataclass(slots=True)
class _JobResultBuilder:
    """The result of a job so far, built record by record."""

    transactions_by_number: Mapping[int, Transaction]
    clock_skew_seconds: float
    now: datetime | None
    started_transactions: dict[int, TransactionResult] = field(default_factory=dict)
    download_starts: dict[int, datetime | None] = field(default_factory=dict)
    not_attempted: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    kept_files: dict[str, str] = field(default_factory=dict)
    kept: ScriptRecord | None = None

    def add_record(self, event: ScriptRecord) -> None:
        if event.get("kind") == "configuration_kept":
            self.kept_files[str(event.get("path", ""))] = str(event.get("kept_as") or "")
        transaction = self.transactions_by_number.get(int(parse_number(event.get("number"), -1)))
        if transaction is None:
            return
        match event.get("kind"):
            case "download_started":
                self.download_starts[transaction.number] = self._parse_time(event)
            case "transaction_started":
                number, at = transaction.number, self._parse_time(event)
                self.started_transactions[number] = TransactionResult(
                    number, _list_update_ids(transaction), at, None, None
                )
            case "transaction_ended":
                self._add_end(event, transaction)
            case "kept":
                self.kept = event
            case "not_attempted":
                self._add_not_attempted(transaction, describe_not_attempted(event, transaction))
            case _:
                pass

    def _add_end(self, event: ScriptRecord, transaction: Transaction) -> None:
        """Add the end of a transaction. If the transaction did not begin, it is the end of its failed download."""
        number = transaction.number
        if number not in self.started_transactions and number not in self.download_starts:
            return
        if bool(parse_number(event.get("exit_code"), -1)) and event.get("cause") == FailureCause.LOCK:
            self._add_not_attempted(transaction, _LOCK_TIMEOUT_REASON.format(event["error"]))
            return
        since = (
            self.started_transactions[number].started_at
            if number in self.started_transactions
            else self.download_starts[number]
        )
        self.started_transactions[number] = TransactionResult(
            number,
            _list_update_ids(transaction),
            since,
            self._parse_time(event),
            int(parse_number(event.get("exit_code"), -1)),
            complete_error(str(event.get("error") or ""), str(event.get("words") or "")),
            str(event.get("undo") or ""),
        )

    def _parse_time(self, event: ScriptRecord) -> datetime | None:
        at = parse_job_record_time(event, self.clock_skew_seconds)
        return at if at is None or self.now is None else min(at, self.now)

    def _add_not_attempted(self, transaction: Transaction, reason: str) -> None:
        self.started_transactions.pop(transaction.number, None)
        self.refusals.append(reason)
        self.not_attempted.update(dict.fromkeys(_list_update_ids(transaction), reason))


def _list_update_ids(transaction: Transaction) -> tuple[str, ...]:
    return tuple(update.id for update in transaction.updates)


def _find_rejected_updates(events: Sequence[ScriptRecord], by_number: Mapping[int, Transaction]) -> tuple[str, ...]:
    refused = [
        by_number.get(int(parse_number(event.get("number"), -1)))
        for event in events
        if event.get("kind") == "not_attempted" and event.get("why") in _REJECTION_REASONS
    ]
    return tuple(update.id for part in refused if part and len(part.updates) > 1 for update in part.updates)


def describe_not_attempted(event: ScriptRecord, transaction: Transaction) -> str:
    """Return why a transaction did not begin. If time was the reason, the text has the calculation."""
    detail = str(event.get("detail") or "")
    match event.get("why"):
        case "window":
            late = parse_number(event.get("at"), 0.0) - transaction.latest_start
            return f"no time left: {_describe_available_time(transaction)}; its turn came {late:.0f} s later"
        case "download":
            needed = _describe_available_time(transaction)
            return f"no time left: {needed}; its download and last check were not over by then"
        case "stop":
            return "the run was asked to stop before its turn came"
        case "preempted":
            return f"its download was ended, because run {split_lock_holder(detail)[0]} took the machine over"
        case other:
            return f"{_REJECTION_REASONS.get(str(other), other)}: {detail}"


def _describe_available_time(transaction: Transaction) -> str:
    """Return in words how long a transaction takes and when it had to begin."""
    latest = transaction.latest_start if transaction.stop_at is None else transaction.stop_at
    until = datetime.fromtimestamp(latest, UTC)
    verb = "could have begun until" if transaction.stop_at is None else "had time until"
    return f"it needs about {transaction.predicted_seconds:.0f} s and {verb} {until:%H:%M:%S} UTC"


def parse_number(value: object, default: float) -> float:
    """Return a number of a record, or the default if the value is no number or too large."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER
    return float(value) if usable else default  # type: ignore[arg-type]  # usable is what says so


def parse_job_record_time(event: ScriptRecord, skew: float) -> datetime | None:
    """Return the time of a record in UTC, or None. ``skew`` is the machine's clock minus ours, in seconds."""
    at = parse_number(event.get("at"), 0.0)
    return datetime.fromtimestamp(at - skew, UTC) if at > 0 and 0 < at - skew < _MAX_EPOCH_SECONDS else None
