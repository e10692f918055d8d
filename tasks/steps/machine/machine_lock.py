"""The machine lock: only one run at a time changes a machine. The lock is stored on the machine itself.

A run that only downloads gives its lock to a run that installs: what it has downloaded stays, and a window does not
come back. The machine asks the download to stop, and passes the lock on when the download has ended.

A resumed run has several attempts, each one process. An earlier process may be suspended with an order on its way. So
attempts are numbered in the order of their journal entries, and every order has the number of its attempt. A machine
that knows a later attempt begins nothing for an earlier one.

The inventory may have one machine under two names, by mistake. The two would pass for two machines, and a run would
reboot the one during the job of the other. So the lock is of a run and a name: one name of the run has the machine.
"""

import logging
import math
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from inventory.data_class import dataclass
from tasks.domain.errors import DeadlineExceeded, FleetpatchError, InternalError, JobLost, RecordsError
from tasks.domain.model import Facts, Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.records import JournalMark
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import FindingLevel, Step, UpdateState
from tasks.rules.machine_checks.precheck import SAME_MACHINE_REMEDY, describe_same_machine
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.retry import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, retry_transient
from tasks.steps.start_checks import explain_no_start, find_machine_cut_off

_SEPARATOR = "/"
"""It is in no id of a run."""


def build_lock_holder(context: MachineContext) -> str:
    """Return the holder of a lock that this run has on the machine under this name, as the machine stores it."""
    return f"{context.run.id}{_SEPARATOR}{context.name}"


def split_lock_holder(holder: object) -> tuple[str, str]:
    """Return the run's id and the machine's name of a holder. The name is "" where a holder has none."""
    run_id, _, name = holder.partition(_SEPARATOR) if isinstance(holder, str) else ("", "", "")
    return run_id, name


logger = logging.getLogger(__name__)

ATTEMPT_ACT = "attempt"
"""The act of journal entries that number attempts: the n-th entry of a machine in a run is its n-th attempt."""

LOCK_LEFT_ACT = "lock left"
"""The act of a journal entry of an attempt that is over, and could not release its lock; the key is its number. The
next run takes the lock of the last attempt over if no job runs on the machine."""

SCRIPT_TIMEOUT_SECONDS = 60.0
_UNCERTAIN_ERRORS = (DeadlineExceeded, InternalError, JobLost)  # after these a download may still run
IDLE_LOCK_DURATION = timedelta(minutes=15)
"""How long a lock lasts for a run that has begun nothing. It is enough for the pre-check without custom checks.
The first order extends it."""
LOCK_RENEWAL_INTERVAL = IDLE_LOCK_DURATION / 3
LOCK_TIME_AFTER_WINDOW = timedelta(hours=1)
"""How long after the window's end a lock expires that was not released: enough for a last reboot and its validation. It
is longer for a machine whose reboot may take longer.

A run that only downloads has neither: its lock expires with its window, before the window of the next run."""

_DOWNLOADING_KIND = "stage"
"""The kind of a run that only downloads, in its lock: a run that installs may take that lock over."""


@dataclass(frozen=True, slots=True)
class LockResult:
    """The answer to a request for the machine lock.

    Attributes:
        finding: the answer as a finding; it blocks if the lock was not acquired.
        is_held_elsewhere: another run has the lock, or this run under another name of the machine, or its job runs
            there. Then nothing is wrong with the machine.
    """

    finding: Finding
    is_held_elsewhere: bool = False


def acquire_lock(context: MachineContext) -> LockResult:
    """Lock the machine for this run, unless another run has the lock. A second call keeps the lock.

    If the other run only downloads, take its lock over. Wait for the end of its download, until this run is asked to
    stop or no time is left in the window.

    Raises:
        RecordsError: the attempt's number could not be read.
        TransportError: the machine could not be asked.
    """
    answer, preempted, wait_end_reason = _preempt_download(context)
    kind = answer.get("kind")
    if kind == "locked":
        taken_over = f"taken over from run {preempted}, which only downloads" if preempted else ""
        return LockResult(
            Finding("machine lock", FindingLevel.GOOD, taken_over or "no other run has locked this machine")
        )
    if kind == "taken" and _find_other_name(context, answer):
        finding = Finding("machine lock", FindingLevel.BLOCK, _describe_holder(context, answer), SAME_MACHINE_REMEDY)
        return LockResult(finding, is_held_elsewhere=True)
    if kind == "taken":
        remedy = (
            "Wait for that run, or resume it. If its process is dead and you will not resume it, "
            f"remove its lock: fleetpatch unlock {context.name}"
        )
        return LockResult(
            Finding("machine lock", FindingLevel.BLOCK, _describe_holder(context, answer) + wait_end_reason, remedy),
            _is_held_elsewhere(context, answer),
        )
    reason = str(answer.get("why") or "the machine gave no answer")
    remedy = (
        "Try again: another order is being executed there now."
        if _is_uncertain(answer)
        else "Repair that on the machine."
    )
    return LockResult(Finding("machine lock", FindingLevel.BLOCK, f"the machine can't be locked: {reason}", remedy))


def _preempt_download(context: MachineContext) -> tuple[ScriptRecord, str, str]:
    """Request the lock, and again while the download of the run that has it is ending.

    Returns:
        The machine's last answer, the id of the run whose lock was taken over or "", and why the wait ended before the
        download did or "".
    """
    clock = context.clock
    preempts = "" if context.options.download_only else _DOWNLOADING_KIND
    answer, preempted, pause = _request_lock(context, preempts), "", FIRST_PAUSE_SECONDS
    while answer.get("ending") is True:
        if reason := explain_no_start(context):
            return answer, "", f"; it was asked to stop, and its end was not awaited: {reason}"
        preempted = split_lock_holder(answer.get("run"))[0]
        message = f"waiting: the download of run {preempted} is ending"
        context.report_progress(Step.PRECHECK, message)
        clock.sleep(pause)
        pause = min(LONGEST_PAUSE_SECONDS, pause * 1.3)
        until = Deadline(find_machine_cut_off(context)).limit_to(clock, context.options.max_unreachable_seconds)
        answer = retry_transient(context, lambda: _request_lock(context, preempts), until)
    return answer, split_lock_holder(answer.get("preempted"))[0] or preempted, ""


def renew_lock(context: MachineContext) -> str:
    """Renew the machine lock of a run that waits. Return who has it instead, or "".

    A lock under which nothing began expires soon. A run that waits longer must renew it.

    Raises:
        RecordsError: the attempt's number could not be read.
        TransportError: the machine could not be asked.
    """
    answer = _request_lock(context)
    return _describe_holder(context, answer) if answer.get("kind") == "taken" else ""


def _is_uncertain(answer: ScriptRecord) -> bool:
    """Return whether the machine could not decide, because an order is being executed there."""
    return answer.get("about") == "unsure"


def _is_held_elsewhere(context: MachineContext, answer: ScriptRecord) -> bool:
    """Return whether an answer names another run. An answer without a valid run or time does not count."""
    run_id, _ = split_lock_holder(answer.get("run"))
    return run_id not in {"", context.run.id} and bool(answer.get("job") or _parse_expiry(answer))


def _find_other_name(context: MachineContext, answer: ScriptRecord) -> str:
    """Return the other name of the machine under which this run has its lock, or ""."""
    run_id, name = split_lock_holder(answer.get("run"))
    return name if run_id == context.run.id and name != context.name else ""


def announce_attempt(context: MachineContext) -> None:
    """Announce this attempt to the machine, so that it refuses delayed orders of earlier attempts.

    Raises:
        RecordsError: the attempt's number could not be read.
        TransportError: the machine could not be asked, or an order of an earlier attempt is being executed there.
    """
    answer = _request_lock(context)
    if _is_uncertain(answer):
        raise DeadlineExceeded(f"the machine did not record this attempt: {answer.get('why')}", machine=context.name)


def with_lock_token(context: MachineContext, script: Script) -> Script:
    """Return a job's or reboot's script with the run and the attempt, which the machine compares with its lock.

    The script also has the machine's clock at the time when it was compared with ours. If that clock is set back before
    or during the order, nothing begins late.
    """
    token_params = {
        "lock_run": build_lock_holder(context),
        "lock_attempt": str(_find_attempt_number(context)),
        "lock_until": _to_machine_clock(context, _find_lock_end(context)),
        **_build_clock_params(context.facts),
    }
    return replace(script, params={**script.params, **token_params})


def _build_clock_params(facts: Facts) -> dict[str, str]:
    """Return the boot id and the clock at boot, which relate the machine's clock to its uptime."""
    if not facts.boot_id or facts.boot_epoch is None or facts.boot_epoch < 0:
        return {}
    return {"clock": f"{facts.boot_id} {math.floor(facts.boot_epoch)}"}


def release_lock(context: MachineContext) -> None:
    """Release the lock, unless a job of this run may still run, or another process has taken the run over.

    A lock that is not released expires, or the next run takes it over: the journal says that this attempt is over. The
    machine does not release while a job runs, nor for an earlier attempt.
    """
    if not context.state.may_hold_lock or context.stop_token.is_lease_lost:
        return
    if _may_have_running_job(context):
        _record_left_lock(context)
        return
    try:
        answer = _run_lock_script(context, {"release": "yes"})
    except FleetpatchError as error:
        logger.info("%s: its lock could not be released: %s", context.name, error.message)
        _record_left_lock(context)
    else:
        if answer.get("kind") != "released":
            logger.info("%s: its lock was not released: %s", context.name, dict(answer))
        if answer.get("kind") == "refused":
            reason = f"its lock could not be released: {answer.get('why')}"
            remedy = "Look whether its disk is full, or mounted read-only."
            context.add_finding(Finding("machine lock", FindingLevel.WARN, reason, remedy))


def _record_left_lock(context: MachineContext) -> None:
    if context.stop_token.is_suspended:  # the run goes on later
        return
    try:
        if _may_have_disk_order(context):
            return
        journal.record_end(context, Step.VALIDATE, LOCK_LEFT_ACT, str(_find_attempt_number(context)))
        del context.run_context.attempts[context.name]  # whoever goes on is another attempt
    except RecordsError as error:
        context.record_failed_records(error)


def _may_have_disk_order(context: MachineContext) -> bool:
    """Return whether a provider may still put another disk under the machine, which can't refuse that like a job."""
    snapshot = context.state.snapshot
    if snapshot is not None and snapshot.revert_reason and snapshot.reverted_at is None:
        return True
    entries = context.records.read_entries(context.run.id, context.name)
    orders = [entry for entry in entries if entry.act in {journal.REPLACE_ACT, journal.RESTORE_ACT}]
    begun, ended = (
        {(e.act, e.key) for e in orders if e.mark is mark} for mark in (JournalMark.BEFORE, JournalMark.AFTER)
    )
    return bool(begun - ended)


def _may_have_running_job(context: MachineContext) -> bool:
    """Return whether work may still run whose end was not seen. After an installation, such updates are Pending."""
    install, error, snapshot = context.state.install, context.state.error, context.state.snapshot
    if snapshot is not None and snapshot.reverted_at is not None:
        return False  # it is in a new boot, with the disk of before
    if install is not None:
        return any(result.state is UpdateState.PENDING for result in install.results)
    return (
        error is not None and (error.transient or error.is_a(*_UNCERTAIN_ERRORS)) and not _has_ordered_nothing(context)
    )


def _has_ordered_nothing(context: MachineContext) -> bool:
    """Return whether the journal shows that this run has ordered nothing on the machine."""
    if context.state.was_changed_before_resume:
        return False
    try:
        entries = context.records.read_entries(context.run.id, context.name)
    except RecordsError:
        return False
    return not any(entry.mark is JournalMark.BEFORE and entry.act in journal.MACHINE_CHANGING_ACTS for entry in entries)


def _find_attempt_number(context: MachineContext) -> int:
    """Return the number of this process's attempt at the run on this machine: its position in the journal.

    Raises:
        RecordsError: the journal can't be written or read, or another process has the run.
    """
    numbers = context.run_context.attempts
    if context.name not in numbers:
        key = secrets.token_hex(8)
        journal.record_end(context, Step.PRECHECK, ATTEMPT_ACT, key)
        entries = context.records.read_entries(context.run.id, context.name)
        numbers[context.name] = [entry.key for entry in entries if entry.act == ATTEMPT_ACT].index(key) + 1
    return numbers[context.name]


def _request_lock(context: MachineContext, preempts: str = "") -> ScriptRecord:
    until = _find_lock_end(context)
    # without hooks, the lock may be short: hooks may take long before anything is ordered
    if not (context.state.was_changed_before_resume or context.has_hooks):
        checks = (*context.state.machine.pre_checks, *context.state.machine.probes)
        check_time = timedelta(seconds=sum(check.timeout_seconds for check in checks))
        until = min(until, context.clock.now() + IDLE_LOCK_DURATION + check_time)
    parameters = {
        "by": context.run.started_by or "unknown",
        "until": _to_machine_clock(context, until),
        "kind": _DOWNLOADING_KIND if context.options.download_only else "",
        "preempts": preempts,
    }
    return _run_lock_script(context, parameters)


def _find_lock_end(context: MachineContext) -> datetime:
    """Return when a lock expires under which something was ordered."""
    window = context.window
    if context.options.download_only:
        return window.end
    return window.end + max(LOCK_TIME_AFTER_WINDOW, timedelta(seconds=context.longest_reboot_seconds))


def _to_machine_clock(context: MachineContext, moment: datetime) -> str:
    return f"{moment.timestamp() + context.facts.clock_skew_seconds:.0f}"


def _run_lock_script(context: MachineContext, parameters: dict[str, str]) -> ScriptRecord:
    attempt_params = {"run": build_lock_holder(context), "attempt": str(_find_attempt_number(context))}
    records = context.transport.run_script(
        Script("machine_lock", attempt_params | parameters),
        deadline=Deadline.after(context.clock, SCRIPT_TIMEOUT_SECONDS),
    ).records
    return records[-1] if records else {}


def _describe_holder(context: MachineContext, answer: ScriptRecord) -> str:
    run_id, _ = split_lock_holder(answer.get("run"))
    if name := _find_other_name(context, answer):
        return describe_same_machine(name)
    if run_id == context.run.id:
        return "locked by a later attempt of this run"
    whose = f"run {run_id or 'unknown'}" + (f" ({answer['by']})" if answer.get("by") else "")
    if answer.get("job"):
        return f"a job of {whose} is still running on this machine: {answer['job']}"
    until = _parse_expiry(answer)
    expiry = f"{until:%Y-%m-%d %H:%M} UTC by the machine's clock" if until else "an unknown moment"
    return f"locked by {whose} until {expiry}"


def _parse_expiry(answer: ScriptRecord) -> datetime | None:
    until = answer.get("until")
    usable = isinstance(until, int | float) and not isinstance(until, bool) and 0 < until < 1e11
    return datetime.fromtimestamp(until, UTC) if usable else None  # type: ignore[arg-type]  # usable is what says so
