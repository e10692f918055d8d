"""Puts the guests of a hypervisor host away before it reboots, and brings exactly those back that ran.

The journal has them before the first one is asked to leave. So whoever resumes the run brings them back, whatever
became of the process, or of the host. A guest is switched off hard only where its owner said so.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
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
from tasks.steps.context.machine_context import FORCE_SECONDS, MachineContext
from tasks.steps.machine.machine_lock import LOCK_RENEWAL_INTERVAL, renew_lock
from tasks.steps.machine.retry import is_transient
from tasks.steps.start_checks import check_window_fit, explain_stop_request

SCRIPT_TIMEOUT_SECONDS: Final = 120.0
POLL_SECONDS: Final = 5.0
ORDER_AGAIN_SECONDS: Final = 30.0
"""After how long a guest that does not run is started again: its hypervisor may only just have begun."""
LATER_SECONDS: Final = 60.0
"""How long guests are waited for when the first wait for them is over."""
SLOW_CHECK: Final = "guests slow"
"""The check of the finding about guests that were asked to leave, and that may still do so."""
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
        if listed.running:
            reason = reason or _explain_no_departure_now(context, context.reboot_seconds)
            reason = reason or _put_away(context, settings, listed.running)
    except RecordsError:
        raise
    except FleetpatchError as error:
        _return_early(context, settings)
        return f"its guests could not be put away: {error.message}"
    context.are_guests_away = not reason
    return reason


def bring_guests_back(context: MachineContext, seconds: float = 0.0) -> None:
    """Bring the guests back that this run has put away. Raises nothing: what is missing is a finding.

    They are waited for so many seconds; 0: as their settings say, or shortly if they were waited for before.

    If the machine does not answer, the journal still has them: a resumed run brings them back.
    """
    machine, state = context.state.machine, context.state
    context.are_guests_away = False
    if machine.guests is None and not state.was_changed_before_resume:
        return
    settings = machine.guests or _DEFAULT
    is_slow, was_late = (
        any(finding.check == check for finding in state.findings) for check in (SLOW_CHECK, BACK_CHECK)
    )
    away = AwayGuests()
    try:
        away = find_away(context.records.read_entries(context.run.id, context.name))
        if not away.guests:
            return
        context.state = replace(state, findings=tuple(known for known in state.findings if known.check != BACK_CHECK))
        seconds = seconds or (LATER_SECONDS if was_late or is_slow else settings.minutes * 60)
        missing = _bring_back(context, away, seconds, keeps_watching=is_slow)
        if missing:
            _add_missing(context, missing, "they do not run again")
        elif not is_slow:
            journal.record_end(context, Step.REBOOT, GUESTS_ACT, GUESTS_ACT, {"back": len(away.guests)})
            message = f"guests are back: {describe_guests(away.guests)}"
            context.add_finding(Finding(BACK_CHECK, FindingLevel.GOOD, message))
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
    here = _wait_until_away(context, settings.minutes * 60)
    if not here.guests and not here.unread:
        return ""
    stubborn = [guest for guest in here.running if guest.id in {known.id for known in running}]
    why_not = _explain_no_departure_now(context, context.reboot_seconds - settings.minutes * 60)
    if settings.stubborn is StubbornGuests.FORCE and stubborn and not here.unread and not why_not:
        _order(context, "force", away, stubborn)
        names = describe_guests(stubborn)
        waited = format_duration(settings.minutes * 60)
        message = f"switched off hard, as they did not {settings.action} in {waited}: {names}"
        context.add_finding(Finding(GUESTS_ACT, FindingLevel.WARN, message, "Look at what these guests lost."))
        here = _wait_until_away(context, FORCE_SECONDS)
        if not here.guests and not here.unread:
            return ""
    _return_early(context, settings)
    what = why_not or here.unread or f"{describe_guests(here.guests)} did not {settings.action}"
    return f"its guests are not away after {format_duration(settings.minutes * 60)}: {what}"


def _explain_no_departure_now(context: MachineContext, seconds: float) -> str:
    """Return why guests may not be asked to leave, or be switched off, now; "": they may.

    Much may have happened since the reboot was decided: the wait for guests is long, and a process can be suspended.
    """
    if reason := explain_stop_request(context):
        return reason
    if not context.stop_token.still_holds_lease():
        return "another process executes this run now"
    events, told = context.run_context.events, context.announced
    if events is not None and told is not None:
        known = {event.id: event for event in events.find(context.run.id, context.name)}
        if not known.get(told.id, told).is_open:
            return "its scheduled event was withdrawn"
    check = check_window_fit(context, seconds, "the reboot")
    return "" if check.fits else check.explanation


def _return_early(context: MachineContext, settings: GuestSettings) -> None:
    """Bring guests back without a reboot. One that still runs may leave later, as it was asked to: that is said."""
    away = AwayGuests()
    missing: tuple[Guest, ...] = ()
    with suppress(FleetpatchError):  # then it is not known which of them run
        away = find_away(context.records.read_entries(context.run.id, context.name))
        missing = find_missing(away.guests, _list_guests(context))
    slow = [guest for guest in away.guests if guest not in missing]
    if slow:
        message = f"asked to {settings.action}, and may still do so after this run: {describe_guests(slow)}"
        context.add_finding(Finding(SLOW_CHECK, FindingLevel.WARN, message, "Look whether they run, and start them."))
    bring_guests_back(context, settings.minutes * 60)


def _bring_back(
    context: MachineContext, away: AwayGuests, seconds: float, *, keeps_watching: bool
) -> tuple[Guest, ...]:
    """Bring guests back, and order it again while they do not run. Return those that do not run in time.

    With ``keeps_watching`` it looks to the end of the time, because a guest that runs may still leave.

    Raises:
        FleetpatchError: the host does not answer at the end of the time, it refuses, or another run has its lock.
    """
    clock = context.clock
    deadline, renewed_at, ordered_at = Deadline.after(clock, seconds), clock.now(), None
    while True:
        try:
            renewed_at = _keep_lock_in_time(context, renewed_at)
            missing = find_missing(away.guests, _list_guests(context))
            if not missing and not keeps_watching:
                return ()
            if missing and (ordered_at is None or (clock.now() - ordered_at).total_seconds() >= ORDER_AGAIN_SECONDS):
                context.report_progress(Step.REBOOT, f"guests: {len(missing)} come back")
                _order(context, "back", away, missing)
                ordered_at = clock.now()
            if deadline.has_passed(clock):
                return missing
        except FleetpatchError as error:
            if isinstance(error, RecordsError) or not is_transient(error) or deadline.has_passed(clock):
                raise
        clock.sleep(POLL_SECONDS)


def _wait_until_away(context: MachineContext, seconds: float) -> GuestList:
    """Ask for the guests until none is there, or the time is over, and keep the lock. Return the last answer.

    It ends at once if the run is asked to stop.

    Raises:
        FleetpatchError: the host does not answer, or another run has its lock.
    """
    deadline, renewed_at = Deadline.after(context.clock, seconds), context.clock.now()
    while True:
        renewed_at = _keep_lock_in_time(context, renewed_at)
        listed = _list_guests(context)
        is_away = not listed.unread and not listed.guests
        if is_away or deadline.has_passed(context.clock) or explain_stop_request(context):
            return listed
        context.clock.sleep(POLL_SECONDS)


def _keep_lock_in_time(context: MachineContext, renewed_at: datetime) -> datetime:
    """Renew the lock if it is time. Return when it was renewed. Raises as ``_keep_lock``."""
    if context.clock.now() - renewed_at < LOCK_RENEWAL_INTERVAL:
        return renewed_at
    _keep_lock(context)
    return context.clock.now()


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
        Guest(
            str(record.get("id")),
            str(record.get("name") or ""),
            record.get("state") == "paused",
            str(record.get("disks", "alike")),  # only libvirt has two definitions of a guest
        )
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
