"""Puts the guests of a hypervisor host away before it reboots, and brings exactly those back that ran.

The journal has them before the first one is asked to leave. So whoever resumes the run brings them back, whatever
became of the process, or of the host. A guest is switched off hard only where its owner said so.
"""

from collections.abc import Callable, Sequence
from typing import Final

from inventory.guests import GuestSettings, StubbornGuests
from tasks.domain.errors import FleetpatchError, LockLost, RecordsError, ScriptFailed
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import FindingLevel, Step
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.runs.guests import (
    GUESTS_ACT,
    AwayGuests,
    Guest,
    GuestList,
    build_away_detail,
    describe_guests,
    explain_no_departure,
    find_away,
    find_missing,
)
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.machine_lock import LOCK_RENEWAL_INTERVAL, renew_lock

SCRIPT_TIMEOUT_SECONDS: Final = 120.0
POLL_SECONDS: Final = 5.0
FORCE_SECONDS: Final = 60.0
"""How long a guest may take that is switched off hard."""
BACK_CHECK: Final = "guests back"
"""The check of the finding about guests that are back, or that are not."""
_DEFAULT = GuestSettings()


def put_guests_away(context: MachineContext) -> str:
    """Put the guests of a host away before it reboots. Return why the host must not be rebooted; "": it may.

    If one does not leave, those that have left are brought back.

    Raises:
        RecordsError: the journal can't be written. No guest was asked to leave.
    """
    settings = context.state.machine.guests
    if settings is None:
        return ""
    try:
        listed = _list_guests(context)
        reason = explain_no_departure(listed, settings.action)
        reason = reason or (_put_away(context, settings, listed.running) if listed.running else "")
    except RecordsError:
        raise
    except FleetpatchError as error:
        bring_guests_back(context)
        return f"its guests could not be put away: {error.message}"
    context.are_guests_away = not reason
    return reason


def bring_guests_back(context: MachineContext) -> None:
    """Bring the guests back that this run has put away. Raises nothing: what is missing is a finding.

    If the machine does not answer, the journal still has them: a resumed run brings them back.
    """
    machine, state = context.state.machine, context.state
    context.are_guests_away = False
    is_told = any(finding.check == BACK_CHECK and finding.level is FindingLevel.WARN for finding in state.findings)
    if is_told or (machine.guests is None and not state.was_changed_before_resume):
        return
    try:
        away = find_away(context.records.read_entries(context.run.id, context.name))
        if not away.guests:
            return
        missing = _bring_back(context, away, machine.guests or _DEFAULT)
        if not missing:
            journal.record_end(context, Step.REBOOT, GUESTS_ACT, GUESTS_ACT, {"back": len(away.guests)})
            message = f"guests are back: {describe_guests(away.guests)}"
            context.add_finding(Finding(BACK_CHECK, FindingLevel.GOOD, message))
            return
        _add_missing(context, missing, "they do not run again")
    except RecordsError as error:
        context.record_failed_records(error)
    except FleetpatchError as error:
        _add_missing(context, away.guests, error.message)


def _put_away(context: MachineContext, settings: GuestSettings, running: Sequence[Guest]) -> str:
    _keep_lock(context)
    away = AwayGuests(tuple(running), settings.action, settings.to)
    journal.record_start(context, Step.REBOOT, GUESTS_ACT, GUESTS_ACT, build_away_detail(away))
    context.report_progress(Step.REBOOT, f"guests: {settings.action} {len(running)}")
    _order(context, "away", away, running)
    here = _wait(context, settings.minutes * 60, lambda listed: not listed.running)
    if not here.running and not here.unread:
        return ""
    if settings.stubborn is StubbornGuests.FORCE and here.running:
        _order(context, "force", away, here.running)
        names = describe_guests(here.running)
        waited = format_duration(settings.minutes * 60)
        message = f"switched off hard, as they did not {settings.action} in {waited}: {names}"
        context.add_finding(Finding(GUESTS_ACT, FindingLevel.WARN, message, "Look at what these guests lost."))
        here = _wait(context, FORCE_SECONDS, lambda listed: not listed.running)
        if not here.running and not here.unread:
            return ""
    bring_guests_back(context)
    what = here.unread or f"{describe_guests(here.running)} did not {settings.action}"
    return f"its guests are not away after {format_duration(settings.minutes * 60)}: {what}"


def _bring_back(context: MachineContext, away: AwayGuests, settings: GuestSettings) -> tuple[Guest, ...]:
    """Bring guests back. Return those that do not run in time."""
    missing = find_missing(away.guests, _list_guests(context))
    if not missing:
        return ()
    context.report_progress(Step.REBOOT, f"guests: {len(missing)} come back")
    _order(context, "back", away, missing)
    listed = _wait(context, settings.minutes * 60, lambda seen: not find_missing(away.guests, seen))
    return find_missing(away.guests, listed)


def _wait(context: MachineContext, seconds: float, is_done: Callable[[GuestList], bool]) -> GuestList:
    """Ask for the guests until something is so, or the time is over, and keep the lock. Return the last answer.

    Raises:
        FleetpatchError: the host does not answer, or another run has its lock.
    """
    deadline, renewed_at = Deadline.after(context.clock, seconds), context.clock.now()
    while True:
        if context.clock.now() - renewed_at >= LOCK_RENEWAL_INTERVAL:
            renewed_at = context.clock.now()
            _keep_lock(context)
        listed = _list_guests(context)
        if (not listed.unread and is_done(listed)) or deadline.has_passed(context.clock):
            return listed
        context.clock.sleep(POLL_SECONDS)


def _keep_lock(context: MachineContext) -> None:
    """Renew the lock, under which no update may have been installed yet.

    Raises:
        FleetpatchError: the host does not answer, or another run has its lock.
    """
    if taken := renew_lock(context):
        raise LockLost(taken, exit_code=1, machine=context.name)


def _list_guests(context: MachineContext) -> GuestList:
    """Return the guests that run on a host, or that are paused.

    Raises:
        FleetpatchError: the host does not answer, or its answer is not whole.
    """
    script = context.build_shared_script("guests", {"work": "list"})
    result = context.transport.run_script(script, deadline=Deadline.after(context.clock, SCRIPT_TIMEOUT_SECONDS))
    if not result.find_records("listed"):
        raise ScriptFailed("the list of its guests is not whole", exit_code=0, machine=context.name)
    unread = [str(record.get("why")) for record in result.find_records("unread")]
    guests = tuple(
        Guest(str(record.get("id")), str(record.get("name") or ""), record.get("state") == "paused")
        for record in result.find_records("guest")
    )
    return GuestList(guests, "; ".join(unread))


def _order(context: MachineContext, work: str, away: AwayGuests, guests: Sequence[Guest]) -> None:
    """Give an order for guests. It may come twice: a guest that is away stays away.

    Raises:
        FleetpatchError: the host does not answer, or refuses an order.
    """
    params = {
        "work": work,
        "action": away.action.value,
        "target": away.target,
        "guests": "\n".join(guest.id for guest in guests),
    }
    script = context.build_shared_script("guests", params, read_only=False)
    result = context.transport.run_script(script, deadline=Deadline.after(context.clock, SCRIPT_TIMEOUT_SECONDS))
    failed = [f"{record.get('id')}: {record.get('why')}" for record in result.find_records("failed")]
    if failed:
        raise ScriptFailed("; ".join(failed), exit_code=1, machine=context.name)


def _add_missing(context: MachineContext, guests: Sequence[Guest], reason: str) -> None:
    message = f"guests that ran before are not back: {describe_guests(guests)}: {reason}"
    context.add_finding(Finding(BACK_CHECK, FindingLevel.WARN, message, "Start them on their host."))
