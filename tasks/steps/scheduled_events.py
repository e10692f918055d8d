"""Scheduled events of one machine: announce an interruption, wait for its time or approval, and say when it is over.

The store of events is the journal of them: an event is Scheduled there before its wait begins, and Started before the
interruption is ordered. A process that resumes the run finds it there, and goes on with the same event.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.domain.model import Finding
from tasks.domain.protocols.scheduled_events import ScheduledEvents
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import FindingLevel, RebootPolicy, RebootState, Step, YesNoUnknown
from tasks.rules.calendar.local_time import format_duration, format_time_with_zone
from tasks.rules.runs.figures import predict_reboot
from tasks.rules.runs.reboot_decision import REBOOT_MEASURE
from tasks.rules.scheduled_events import (
    compute_not_before,
    compute_notice_left,
    describe_approvals,
    list_missing_approvals,
    may_begin,
)
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.machine.event_file import has_event_file, read_approvals, write_event_file
from tasks.steps.machine.machine_lock import LOCK_RENEWAL_INTERVAL, renew_lock
from tasks.steps.machine.retry import close_before_pause, retry_transient, sleep_unless_stopped
from tasks.steps.start_checks import check_window_fit, explain_stop_request

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 5.0
"""How often a run that waits looks for approvals."""
UNKNOWN_SECONDS: Final = -1


@dataclass(frozen=True, slots=True)
class Interruption:
    """What an event announces.

    Attributes:
        act: the act in the run. Its event has the same id for every process of the run.
        work: the interruption, as a noun: "the reboot".
    """

    act: str
    event_type: EventType
    work: str
    seconds: float
    description: str


def build_reboot_interruption(context: MachineContext, *, early: bool) -> Interruption:
    """Return the reboot of this round."""
    act = "early-reboot/0" if early else f"reboot/{context.state.follow_up_count}"
    reason = "a reboot that updates of before need" if early else "a reboot that updates need"
    description = f"fleetpatch run {context.run.id}: {reason}."
    return Interruption(act, EventType.REBOOT, "the reboot", context.reboot_seconds, description)


def build_restart_interruption(context: MachineContext, units: int, seconds: float) -> Interruption:
    """Return the restart of services of this round."""
    description = f"fleetpatch run {context.run.id}: services that run replaced files are restarted ({units})."
    act = f"restart/{context.state.follow_up_count}"
    return Interruption(act, EventType.FREEZE, "restarting a service", seconds, description)


def announce_expected_reboot(context: MachineContext, earliest: datetime | None = None) -> None:
    """Announce the reboot that a machine's plan expects, so that its notice runs while updates are installed.

    Args:
        context: of the machine.
        earliest: the reboot does not begin before; None: it may begin after its notice.

    Raises:
        RecordsError: it can't be stored.
    """
    if is_reboot_announced(context) and context.facts.can_reboot:
        announce(context, build_reboot_interruption(context, early=False), earliest)


def is_reboot_announced(context: MachineContext) -> bool:
    """Return whether the plan of a machine expects a reboot that this run announces."""
    plan, options = context.state.follow_up or context.state.plan, context.options
    is_possible = options.announce is not None and options.reboot is not RebootPolicy.NEVER and plan is not None
    return is_possible and plan is not None and predict_reboot(plan) is YesNoUnknown.YES and not plan.refusals


def announce(
    context: MachineContext, interruption: Interruption, earliest: datetime | None = None
) -> ScheduledEvent | None:
    """Announce an interruption, and return its event; None: this run announces nothing.

    Raises:
        RecordsError: it can't be stored.
    """
    events, options = context.run_context.events, context.options.announce
    if events is None or options is None:
        return None
    now, seconds = context.clock.now(), UNKNOWN_SECONDS
    if interruption.event_type is EventType.REBOOT:
        learned = context.records.read_measure(context.name, REBOOT_MEASURE)
        seconds = UNKNOWN_SECONDS if learned is None else round(learned)
    event = ScheduledEvent(
        id="",
        run_id=context.run.id,
        act=interruption.act,
        event_type=interruption.event_type,
        resources=(context.name,),
        audience=context.run_context.list_audience(context.name),
        not_before=compute_not_before(now, options.notice_seconds, earliest),
        expires_at=context.window.end + timedelta(seconds=context.longest_reboot_seconds),
        announced_at=now,
        description=interruption.description,
        source=context.run_context.event_source,
        rule=options.rule,
        duration_seconds=seconds,
    )
    context.announced = events.announce(event)
    if has_event_file(context):  # a machine that can't be told is not interrupted
        retry_transient(context, lambda: write_event_file(context, events), context.build_read_deadline())
    if context.announced.announced_at == now:
        context.listener.on_message(f"{context.name}: {_describe_wait(context, interruption, context.announced)}")
    return context.announced


def compute_notice_seconds(context: MachineContext, interruption: Interruption) -> float:
    """Return the seconds that an interruption has still to wait at most; 0 if this run announces nothing.

    Raises:
        RecordsError: the events can't be read.
    """
    options, events, event = context.options.announce, context.run_context.events, context.announced
    if options is None or events is None:
        return 0.0
    if event is None:  # an earlier process of this run may have announced it
        open_events = (known for known in events.find(context.run.id, context.name) if known.is_open)
        event = context.announced = next((known for known in open_events if known.act == interruption.act), None)
    is_same = event is not None and event.act == interruption.act and event.is_open
    return compute_notice_left(event if is_same else None, context.clock.now(), options.notice_seconds)


def explain_no_time_for_notice(context: MachineContext) -> str:
    """Return why the reboot that a machine's plan expects can't begin in the window after its notice, or ""."""
    if not is_reboot_announced(context) or context.run_context.events is None:
        return ""
    interruption = build_reboot_interruption(context, early=False)
    notice = compute_notice_seconds(context, interruption)
    check = check_window_fit(context, notice + interruption.seconds, f"a reboot, {format_duration(notice)} announced,")
    return "" if check.fits else check.explanation


def await_event(context: MachineContext, interruption: Interruption, step: Step) -> tuple[str, str]:
    """Announce an interruption, and wait until it may begin.

    Returns:
        Why it may not begin, or ""; and who has approved it, in words, or "" if this run announces nothing.

    Raises:
        RecordsError: the event can't be stored or read. The interruption must not begin.
    """
    event, events = announce(context, interruption), context.run_context.events
    if event is None or events is None:
        return "", ""
    renewed_at = context.clock.now()
    while not may_begin(event, context.clock.now()):
        if not event.is_open:
            return _describe_withdrawal(event), ""
        if reason := explain_stop_request(context):
            return reason, ""
        context.report_progress(step, _describe_wait(context, interruption, event))
        seconds = min(POLL_SECONDS, max(0.0, (event.not_before - context.clock.now()).total_seconds()))
        close_before_pause(context, (event.not_before - context.clock.now()).total_seconds())
        sleep_unless_stopped(context, seconds)
        if context.clock.now() - renewed_at >= LOCK_RENEWAL_INTERVAL:
            renewed_at = context.clock.now()
            if taken := retry_transient(context, lambda: renew_lock(context), context.build_read_deadline()):
                return taken, ""
        if has_event_file(context):
            read_approvals(context, events, event.id)
        own_events = events.find(event.run_id, event.resources[0])
        # one that is gone was deleted by hand: it is withdrawn then
        event = context.announced = next((own for own in own_events if own.id == event.id), event)
    return "", describe_approvals(event)


def begin_event(context: MachineContext, interruption: Interruption) -> str:
    """Record that an interruption begins now. Call it just before it is ordered. Return why it may not begin, or "".

    A person may have withdrawn it since its wait was over.

    Raises:
        RecordsError: it can't be stored. The interruption must not begin.
    """
    event, events = announce(context, interruption), context.run_context.events
    if event is None or events is None:
        return ""
    event = context.announced = events.change(event.id, EventStatus.STARTED)
    if event.status is not EventStatus.STARTED:
        return _describe_withdrawal(event)
    if has_event_file(context):
        _update_file(context, events)
    return ""


def close_events(context: MachineContext, reason: str, act: str = "") -> None:
    """End the open events of a machine in this run: those that have begun are over, and the others are withdrawn.

    One whose machine has not come back stays: its end is not known before the end of the run. Another process that has
    taken the run over ends them itself. Raises nothing.

    Args:
        context: of the machine.
        reason: why they are withdrawn.
        act: only the event of this act; "": all.
    """
    events = context.run_context.events
    if events is None or context.options.announce is None or context.stop_token.is_lease_lost:
        return
    has_not_come_back = any(result.state is RebootState.FAILED and result.count for result in context.state.reboots)
    try:
        is_over = [
            event for event in events.find(context.run.id, context.name) if event.is_open and act in {"", event.act}
        ]
        for event in is_over:
            if event.status is EventStatus.SCHEDULED:
                events.change(event.id, EventStatus.CANCELED, reason)
            elif not has_not_come_back:
                was_done = event.event_type is EventType.FREEZE or any(r.count for r in context.state.reboots[-1:])
                events.change(event.id, EventStatus.COMPLETED, "" if was_done else reason)
        if is_over and has_event_file(context):
            _update_file(context, events, [event.id for event in is_over])
    except RecordsError as error:
        context.record_failed_records(error)


def _update_file(context: MachineContext, events: ScheduledEvents, over: Sequence[str] = ()) -> None:
    """Write what became of an event into the machine's file. That it can't be written is a warning: it was announced.

    Raises:
        RecordsError: the document can't be read.
    """
    try:
        retry_transient(context, lambda: write_event_file(context, events, over), context.build_read_deadline())
    except RecordsError:
        raise
    except FleetpatchError as error:
        context.transport.close()
        remedy = "It is written anew by the next run that announces something."
        fault = f"its file of scheduled events is not up to date: {error.message}"
        context.add_finding(Finding("scheduled events", FindingLevel.WARN, fault, remedy))


def describe_end(context: MachineContext) -> str:
    """Return why what a machine was told does not happen."""
    machine_state = context.state
    if machine_state.error is not None:
        return machine_state.error.message
    reboots = [result.reason for result in machine_state.reboots]
    return machine_state.halted or explain_stop_request(context) or (reboots[-1] if reboots else "it was not needed")


def _describe_withdrawal(event: ScheduledEvent) -> str:
    return f"its scheduled event was withdrawn{f': {event.reason}' if event.reason else ''}"


def _describe_wait(context: MachineContext, interruption: Interruption, event: ScheduledEvent) -> str:
    moment = format_time_with_zone(event.not_before, context.window.zone)
    missing = ", ".join(list_missing_approvals(event))
    return f"{interruption.work} is announced for {moment}, or when {missing or 'nobody'} approves"
