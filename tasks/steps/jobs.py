"""One job of the package manager, from its journal entry to the story of its transactions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.errors import ConnectionLost, FleetpatchError
from tasks.model import JobOutput, TransactionResult, Update
from tasks.rules.selection import excluded_names
from tasks.seams.clock import Deadline
from tasks.seams.manager import Cause, Transaction
from tasks.seams.manager import Work as Kind
from tasks.seams.transport import Job, JobPhase, ScriptRecord
from tasks.states import Step
from tasks.steps import journal
from tasks.steps.claim import in_the_name_of
from tasks.steps.context import Work
from tasks.steps.follow import Followed, follow, hand_over

_MOST = 1e15  # of any number in a job's record; beyond, it is nonsense
_LATEST = 1e11  # seconds since 1970, in the year 5138
_REFUSALS = {
    "removals": "it would have removed packages",
    "anew": "it would have installed anew what was removed after the assessment",
    "unexpected": "it would have changed packages that were not chosen",
    "excluded": "it would have installed or removed packages that are excluded",
}
"""Why a transaction was not begun for what it would have done."""
_NO_LOCK = "somebody else held the package manager's lock for as long as could be waited for it: {}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that may have been started: what it does, and the transactions that it was handed."""

    kind: Kind
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class JobStory:
    """What a job did.

    Attributes:
        transactions: the ones that were begun.
        not_attempted: update id -> why its transaction was not begun.
        conffiles: configuration files that were kept, since they were edited by hand -> where their new version lies.
        log: raw output of the package manager (untrusted text).
        error: how the job as a whole went wrong, or "".
        lost: whether its process is gone without a result.
        refusals: why transactions were not begun, also those that name no updates.
        turned_down: ids of updates whose transaction was not begun for what one of several in it would have entailed.
    """

    job_id: str
    transactions: tuple[TransactionResult, ...]
    not_attempted: Mapping[str, str]
    conffiles: Mapping[str, str]
    log: str
    error: str = ""
    lost: bool = False
    refusals: tuple[str, ...] = ()
    turned_down: tuple[str, ...] = ()


def carry_out(
    work: Work,
    kind: Kind,
    number: int,
    transactions: Sequence[Transaction],
    deadline: Deadline,
    *,
    underway: dict[str, Asked],
    allowed: Sequence[Update] = (),
) -> JobStory:
    """Start a job (or attach to it, when this run started it before) and follow it to its end.

    Args:
        work: the machine's turn.
        kind: what the job does.
        number: tells jobs of one kind in one run apart.
        transactions: what it is to do.
        deadline: when to stop watching. The job minds its own latest starts.
        underway: gets the job by its id before anything can have happened on the machine: no error hides it.
        allowed: other updates that may change along with them.
    """
    job_id = journal.job_id(work.context.run.id, work.name, kind.value, number)
    plan: dict[str, object] = {
        str(t.number): {
            "updates": [u.id for u in t.updates],
            "latest_start": t.latest_start,
            "predicted": t.predicted_seconds,
            **({} if t.stop_at is None else {"stop_at": t.stop_at}),
        }
        for t in transactions
    }
    journal.about_to(work, Step.INSTALL, kind.value, job_id, {"transactions": plan})
    options = work.context.options
    script = work.manager.job(
        kind,
        transactions,
        allowed=allowed,
        allow_removals=options.allow_removals,
        excluded=excluded_names(options.selection),
    )
    script = in_the_name_of(work, script)
    underway[job_id] = Asked(kind, tuple(transactions))
    try:
        hand_over(work, Job(job_id, script))
    except ConnectionLost:
        raise
    except FleetpatchError as error:  # the machine answered, and would not
        del underway[job_id]
        journal.done(work, Step.INSTALL, kind.value, job_id, {"phase": "refused", "error": error.message})
        raise
    teller = _Teller(work, kind, transactions)
    followed = follow(work, job_id, teller.hear, deadline)
    work.context.records.save(JobOutput(work.context.run.id, work.name, job_id, followed.log))
    story = tell(job_id, followed, transactions, work.facts.clock_skew_seconds)
    journal.done(work, Step.INSTALL, kind.value, job_id, {"phase": followed.phase.value, "error": story.error})
    return story


def tell(job_id: str, followed: Followed, transactions: Sequence[Transaction], skew: float) -> JobStory:
    """Make a job's records into its story. Pure.

    Args:
        job_id: of the job.
        followed: what was read of it.
        transactions: what it was asked to do.
        skew: machine's clock minus ours, in seconds.
    """
    told = _Told({transaction.number: transaction for transaction in transactions}, skew)
    for event in followed.events:
        told.hear(event)
    error = ""
    if followed.phase is JobPhase.LOST:
        error = "the job's process is gone and left no result: a power cut, or it was killed"
    elif followed.exit_code:
        error = f"the job ended with exit code {followed.exit_code}"
    lost = followed.phase is JobPhase.LOST
    return JobStory(
        job_id,
        tuple(told.begun.values()),
        told.not_attempted,
        told.conffiles,
        followed.log,
        error,
        lost,
        tuple(told.refusals),
        _turned_down(followed.events, told.by_number),
    )


@dataclass(slots=True)
class _Told:
    """What was heard of a job so far, record by record."""

    by_number: Mapping[int, Transaction]
    skew: float
    begun: dict[int, TransactionResult] = field(default_factory=dict)
    downloads: dict[int, datetime | None] = field(default_factory=dict)
    not_attempted: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    conffiles: dict[str, str] = field(default_factory=dict)

    def hear(self, event: ScriptRecord) -> None:
        if event.get("kind") == "conffile":
            self.conffiles[str(event.get("path", ""))] = str(event.get("kept_as") or "")
        transaction = self.by_number.get(int(_number(event.get("number"), -1)))
        if transaction is None:
            return
        match event.get("kind"):
            case "download_started":
                self.downloads[transaction.number] = _moment(event, self.skew)
            case "transaction_started":
                number, at = transaction.number, _moment(event, self.skew)
                self.begun[number] = TransactionResult(number, _ids(transaction), at, None, None)
            case "transaction_ended":
                self._ended(event, transaction)
            case "not_attempted":
                self._not_begun(transaction, why_not(event, transaction))
            case _:
                pass

    def _ended(self, event: ScriptRecord, transaction: Transaction) -> None:
        """Take in an end; of one that was not begun it is that of its download, which failed."""
        number = transaction.number
        if number not in self.begun and number not in self.downloads:
            return
        if _locked_out(event):
            self._not_begun(transaction, _NO_LOCK.format(event["error"]))
            return
        since = self.begun[number].started_at if number in self.begun else self.downloads[number]
        self.begun[number] = TransactionResult(
            number,
            _ids(transaction),
            since,
            _moment(event, self.skew),
            int(_number(event.get("exit_code"), -1)),
            str(event.get("error") or ""),
        )

    def _not_begun(self, transaction: Transaction, reason: str) -> None:
        self.begun.pop(transaction.number, None)
        self.refusals.append(reason)
        self.not_attempted.update(dict.fromkeys(_ids(transaction), reason))


def _ids(transaction: Transaction) -> tuple[str, ...]:
    return tuple(update.id for update in transaction.updates)


def _locked_out(event: ScriptRecord) -> bool:
    """Whether a transaction ended without having begun: the package manager's lock was somebody else's all the time."""
    return bool(_number(event.get("exit_code"), -1)) and _cause(event) == Cause.LOCK


def _cause(event: ScriptRecord) -> str:
    """Return why a transaction failed, as the job says; of a job that an older version began, from before its words."""
    return str(event.get("cause") or str(event.get("error") or "").partition(":")[0])


def _turned_down(events: Sequence[ScriptRecord], by_number: Mapping[int, Transaction]) -> tuple[str, ...]:
    refused = [
        by_number.get(int(_number(event.get("number"), -1)))
        for event in events
        if event.get("kind") == "not_attempted" and event.get("why") in _REFUSALS
    ]
    return tuple(update.id for part in refused if part and len(part.updates) > 1 for update in part.updates)


def why_not(event: ScriptRecord, transaction: Transaction) -> str:
    """Return why a transaction was not begun, with the arithmetic where time was the reason."""
    detail = str(event.get("detail") or "")
    match event.get("why"):
        case "window":
            late = _number(event.get("at"), 0.0) - transaction.latest_start
            return f"no time left: {_room(transaction)}; its turn came {late:.0f} s later"
        case "download":
            return f"no time left: {_room(transaction)}; its download was not over by then"
        case "stop":
            return "the run was asked to stop before its turn came"
        case other:
            return f"{_REFUSALS.get(str(other), other)}: {detail}"


def _room(transaction: Transaction) -> str:
    """Return how long a transaction takes and when it could have begun, in words."""
    latest = transaction.latest_start if transaction.stop_at is None else transaction.stop_at
    until = datetime.fromtimestamp(latest, UTC)
    what = "could have begun until" if transaction.stop_at is None else "had time until"
    return f"it needs about {transaction.predicted_seconds:.0f} s and {what} {until:%H:%M:%S} UTC"


class _Teller:
    """Turns a job's records into progress."""

    def __init__(self, work: Work, kind: Kind, transactions: Sequence[Transaction]) -> None:
        self._work = work
        self._verb = {Kind.STAGE: "downloading", Kind.INSTALL: "installing", Kind.REPAIR: "repairing"}[kind]
        self._downloading = False
        self._total = max(1, sum(len(t.updates) for t in transactions))
        self._sizes = {t.number: len(t.updates) for t in transactions}
        self._ended = 0

    def hear(self, event: ScriptRecord) -> None:
        number = int(_number(event.get("number"), -1))
        if event.get("kind") != "progress":
            self._downloading = event.get("kind") == "download_started"
        if event.get("kind") in {"transaction_ended", "not_attempted"}:
            self._ended += self._sizes.get(number, 0)
            self._say(self._ended / self._total, f"{self._verb}: {self._ended} of {self._total}")
        elif event.get("kind") == "progress":
            share = self._sizes.get(number, 0) * _number(event.get("percent"), 0.0) / 100
            what = str(event.get("update") or event.get("action") or "")[:60]
            verb = "downloading" if self._downloading else self._verb
            self._say((self._ended + share) / self._total, f"{verb} {what}")

    def _say(self, fraction: float, message: str) -> None:
        self._work.context.watch.progress(self._work.name, Step.INSTALL, min(1.0, fraction), message)


def _number(value: object, default: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    return float(value) if usable else default  # type: ignore[arg-type]  # usable is what says so


def _moment(event: ScriptRecord, skew: float) -> datetime | None:
    at = _number(event.get("at"), 0.0)
    return datetime.fromtimestamp(at - skew, UTC) if at > 0 and 0 < at - skew < _LATEST else None
