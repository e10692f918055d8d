"""A machine is worked on by one run at a time, and it is the machine that says by which.

A run that was taken up has had more than one attempt, each a process of its own, and an earlier one may be frozen with
an order on its way. So attempts are numbered, by the order in which they stand in the journal, and every order says of
which attempt it is: a machine that has heard of a later one begins nothing more for an earlier one.
"""

import logging
import math
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

from tasks.errors import DeadlineExceeded, FleetpatchError, InternalError, JobLost, RecordsError
from tasks.model import Facts, Finding
from tasks.seams.clock import Deadline
from tasks.seams.records import JournalMark
from tasks.seams.transport import Script, ScriptRecord
from tasks.states import FindingLevel, Step, UpdateState
from tasks.steps import journal
from tasks.steps.context import Control, Work

logger = logging.getLogger(__name__)

ACT = "attempt"
"""The act of journal entries that number attempts: the n-th one of a machine in a run is of its n-th attempt."""

ASK_SECONDS = 60.0
_IN_DOUBT = (DeadlineExceeded, InternalError, JobLost)  # with these a download may be running still
SOON = timedelta(minutes=15)
"""How long a claim holds for a run that has begun nothing: the pre-check fits into it, but for its owner's own checks.
The first order prolongs it."""
BEYOND_WINDOW = timedelta(hours=1)
"""How long after the window's end a claim holds that nobody gave back: a last reboot and its validation fit into it.

A run that only downloads has none of these: its claim ends with its window, before the window of the run to come."""

_numbers: MutableMapping[Control, dict[tuple[str, str], int]] = WeakKeyDictionary()
"""The numbers of this process' attempts, by their control, run and machine: a number is asked for once."""


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What came of asking for the machine.

    Attributes:
        finding: the same for people; it blocks when the machine was not given.
        is_elsewhere: whether another run has the machine, or its job runs there: nothing is wrong with it then.
    """

    finding: Finding
    is_elsewhere: bool = False


def claim(work: Work) -> ClaimResult:
    """Claim the machine for this run, unless another run has it. Asked twice, it is still ours."""
    answer = _claim(work)
    kind = answer.get("kind")
    if kind == "claimed":
        return ClaimResult(Finding("claim", FindingLevel.GOOD, "no other run has this machine"))
    if kind == "taken":
        remedy = (
            "Wait for that run, or resume it and let it end. If it is dead and nothing of it is to be resumed, "
            f"lift its lock: fleetpatch unlock {work.name}"
        )
        return ClaimResult(Finding("claim", FindingLevel.BLOCK, _whose(work, answer), remedy), _elsewhere(work, answer))
    why = str(answer.get("why") or "the machine gave no answer")
    remedy = "Try again: something else is begun there now." if _is_unsure(answer) else "Mend that on the machine."
    return ClaimResult(Finding("claim", FindingLevel.BLOCK, f"the machine can't be claimed: {why}", remedy))


def hold(work: Work) -> str:
    """Claim the machine once more, for a run that waits there; return whose it is instead, or "".

    A claim under which nothing was begun ends soon: one that waits for longer than that asks again meanwhile.

    Raises:
        RecordsError: the attempt's number could not be had.
        TransportError: the machine could not be asked.
    """
    answer = _claim(work)
    return _whose(work, answer) if answer.get("kind") == "taken" else ""


def _is_unsure(answer: ScriptRecord) -> bool:
    """Whether the machine could not answer since an order of somebody is under way there."""
    return answer.get("about") == "unsure"


def _elsewhere(work: Work, answer: ScriptRecord) -> bool:
    """Whether an answer names another run. One that makes no sense (no run, no moment) says nothing of the kind."""
    run = answer.get("run")
    return isinstance(run, str) and run not in {"", work.context.run.id} and bool(answer.get("job") or _until(answer))


def outrank(work: Work) -> None:
    """Let the machine hear of this attempt, so that it refuses what earlier ones still have on its way to it.

    Raises:
        RecordsError: the attempt's number could not be had.
        TransportError: the machine could not be asked, or what an earlier attempt has ordered is still under way there.
    """
    answer = _claim(work)
    if _is_unsure(answer):
        raise DeadlineExceeded(f"the machine did not hear of this attempt: {answer.get('why')}", machine=work.name)


def in_the_name_of(work: Work, script: Script) -> Script:
    """Return a job's or a reboot's script that says of which run and attempt the order is. The machine compares it.

    It also says what the machine's clock was when it was compared with ours, so that one that is set back before or
    while the order is carried out lets nothing begin late.
    """
    mine = {
        "claim_run": work.context.run.id,
        "claim_attempt": str(_attempt(work)),
        "claim_until": _in_its_clock(work, _end(work)),
        **_clock_of(work.facts),
    }
    return replace(script, params={**script.params, **mine})


def _clock_of(facts: Facts) -> dict[str, str]:
    """Return what ties a machine's clock to the time since its boot: which boot, and what the clock said then."""
    if not facts.boot_id or facts.boot_epoch is None or facts.boot_epoch < 0:
        return {}
    return {"clock": f"{facts.boot_id} {math.floor(facts.boot_epoch)}"}


def release(work: Work) -> None:
    """Give the claim back, unless a job of ours may still be at work, or the run is somebody else's by now.

    What isn't given back ends by itself. The machine gives nothing back while a job runs, nor to an earlier attempt.
    """
    if not work.run.claimed or work.context.control.taken_over or _may_be_at_work(work):
        return
    try:
        answer = _ask(work, {"release": "yes"})
    except FleetpatchError as error:
        logger.info("%s: its claim could not be given back: %s", work.name, error.message)
    else:
        if answer.get("kind") != "released":
            logger.info("%s: its claim was not given back: %s", work.name, dict(answer))
        if answer.get("kind") == "refused":
            work.run = replace(work.run, findings=(*work.run.findings, _not_taken_back(answer)))


def _not_taken_back(answer: ScriptRecord) -> Finding:
    """A machine that could be worked on and can't write any more, as when it has booted with a read-only root."""
    why = f"its claim could not be given back: {answer.get('why')}"
    return Finding("claim", FindingLevel.WARN, why, "Look whether its disk is full, or mounted read-only.")


def _may_be_at_work(work: Work) -> bool:
    """Whether something was begun whose end was not seen. Of an installation only such updates are still Pending."""
    install, error = work.run.install, work.run.error
    if install is not None:
        return any(result.state is UpdateState.PENDING for result in install.results)
    return error is not None and (error.transient or error.is_a(*_IN_DOUBT)) and not _nothing_begun(work)


def _nothing_begun(work: Work) -> bool:
    """Whether the journal shows that this run has ordered nothing on the machine."""
    if work.run.begun:
        return False
    try:
        entries = work.context.records.entries(work.context.run.id, work.name)
    except RecordsError:
        return False
    return not any(entry.mark is JournalMark.BEFORE and entry.act in journal.BEGINNING_ACTS for entry in entries)


def _attempt(work: Work) -> int:
    """Return the number of this process' attempt at the run, on this machine: its place in the journal.

    Raises:
        RecordsError: the journal can't be written or read, or the run is somebody else's by now.
    """
    run_id, records = work.context.run.id, work.context.records
    known = _numbers.setdefault(work.context.control, {})
    if (run_id, work.name) not in known:
        key = secrets.token_hex(8)
        journal.done(work, Step.PRECHECK, ACT, key)
        attempts = [entry.key for entry in records.entries(run_id, work.name) if entry.act == ACT]
        known[run_id, work.name] = attempts.index(key) + 1
    return known[run_id, work.name]


def _claim(work: Work) -> ScriptRecord:
    context = work.context
    until = _end(work)
    if not (work.run.begun or context.options.hooks):  # hooks may take their time before anything is ordered
        checks = (*work.run.machine.pre_checks, *work.run.machine.probes)
        until = min(until, context.clock.now() + SOON + timedelta(seconds=sum(each.timeout_seconds for each in checks)))
    return _ask(work, {"by": context.run.started_by or "unknown", "until": _in_its_clock(work, until)})


def _end(work: Work) -> datetime:
    """Return when a claim ends by itself under which something was ordered."""
    window = work.context.window
    return window.end if work.context.options.download_only else window.end + BEYOND_WINDOW


def _in_its_clock(work: Work, moment: datetime) -> str:
    return f"{moment.timestamp() + work.facts.clock_skew_seconds:.0f}"


def _ask(work: Work, parameters: dict[str, str]) -> ScriptRecord:
    mine = {"run": work.context.run.id, "attempt": str(_attempt(work))}
    records = work.transport.run(
        Script("claim", mine | parameters), deadline=Deadline.after(work.context.clock, ASK_SECONDS)
    ).records
    return records[-1] if records else {}


def _whose(work: Work, answer: ScriptRecord) -> str:
    if answer.get("run") == work.context.run.id:
        return "this run was taken over: a later attempt at it has this machine"
    if answer.get("job"):
        whose = f"run {answer.get('run') or 'unknown'}" + (f" of {answer['by']}" if answer.get("by") else "")
        return f"a job of {whose} is still running on this machine: {answer['job']}"
    return f"run {answer.get('run')} of {answer.get('by')} has this machine until {_moment(answer)}"


def _moment(answer: ScriptRecord) -> str:
    until = _until(answer)
    return f"{until:%Y-%m-%d %H:%M} UTC by its own clock" if until else "an unknown moment"


def _until(answer: ScriptRecord) -> datetime | None:
    until = answer.get("until")
    usable = isinstance(until, int | float) and not isinstance(until, bool) and 0 < until < 1e11
    return datetime.fromtimestamp(until, UTC) if usable else None  # type: ignore[arg-type]  # usable is what says so
