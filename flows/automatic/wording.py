"""What a tick decided, in a few lines for people, and the one message of a tick that tells them of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from flows.notify.messages import Message, sanitize_text
from flows.notify.notifier import AppriseNotifier
from flows.request.request_parts import NotifyRequest
from inventory.credentials import Credential
from inventory.name_lists import join_first_names
from tasks.domain.assessment import strip_update_id
from tasks.domain.model import Window
from tasks.domain.states import NotificationOccasion
from tasks.reports.formatting import format_count
from tasks.rules.automatic.model import (
    Action,
    AssessMachines,
    AutomaticDecision,
    ChangeRollout,
    CreateRollout,
    HoldUpdate,
    Phase,
    Rollout,
    RunPlan,
    StartRun,
    Tell,
    Waiting,
)
from tasks.rules.timing.maintenance_window import describe_window

MAX_NAMES = 8
_MAX_REASONS = 12


def describe_decision(decision: AutomaticDecision) -> tuple[str, ...]:
    """Return what a decision says: its actions, and who waits for what."""
    lines = [describe_action(action) for action in decision.actions]
    if not lines:
        lines.append("nothing to do now")
    if decision.later_assessments:
        lines.append(f"{format_count(decision.later_assessments, 'machine')} will be assessed after these")
    return (*lines, *_describe_waiting(decision.waiting))


def describe_action(action: Action) -> str:
    """Return an action in one line."""
    match action:
        case CreateRollout():
            return f"new {describe_rollout(action.rollout)}"
        case ChangeRollout():
            return describe_rollout(action.rollout)
        case StartRun():
            return f"start: {describe_run_plan(action.plan)}"
        case AssessMachines():
            return f"assess {format_count(len(action.machines), 'machine')}: {_join(action.machines)}"
        case HoldUpdate():
            return f"hold {action.update.name}={strip_update_id(action.update.version)}: {action.update.reason}"
        case Tell():
            return f"tell people: {action.message}"


def describe_run_plan(plan: RunPlan) -> str:
    """Return which machines a run patches, where, with what, and when."""
    window = Window(plan.window_start, plan.window_start + timedelta(minutes=plan.window_minutes), plan.zone)
    location_text = plan.location or "no location"
    location_text += f", availability zone {plan.availability_zone}" if plan.availability_zone else ""
    return (
        f"{format_count(len(plan.machines), 'machine')} ({location_text}; phase {plan.phase} of {plan.rollout_id}), "
        f"{describe_window(window)}: {_join(plan.machines)}"
    )


def describe_rollout(rollout: Rollout) -> str:
    """Return a rollout's state, its size and its phases in one line."""
    phases = "; ".join(
        f"phase {phase.number} ({', '.join(name or 'no location' for name in phase.locations)}) "
        f"{_describe_times(phase)}"
        for phase in rollout.phases
    )
    message = f": {rollout.message}" if rollout.message else ""
    return f"{rollout.id} ({format_count(len(rollout.updates), 'update')}) {rollout.state}{message}; {phases}"


def _describe_times(phase: Phase) -> str:
    if phase.ended_at is not None:
        return f"ended {phase.ended_at:%Y-%m-%d %H:%M} UTC"
    return f"began {phase.started_at:%Y-%m-%d %H:%M} UTC" if phase.started_at is not None else "has not begun"


def _describe_waiting(waiting: Sequence[Waiting]) -> Iterator[str]:
    by_reason: dict[tuple[str, datetime | None], list[str]] = {}
    for waiting_machine in waiting:
        by_reason.setdefault((waiting_machine.reason, waiting_machine.until), []).append(waiting_machine.machine)
    yield from _describe_reasons(dict(sorted(by_reason.items(), key=lambda item: -len(item[1]))))


def _describe_reasons(by_reason: Mapping[tuple[str, datetime | None], Sequence[str]]) -> Iterator[str]:
    for number, ((reason, until), names) in enumerate(by_reason.items()):
        if number == _MAX_REASONS:
            other_count = sum(len(machine_names) for machine_names in list(by_reason.values())[number:])
            yield f"{format_count(other_count, 'machine')} wait for other reasons: fleetpatch automatic"
            return
        until_text = f", until {until:%Y-%m-%d %H:%M} UTC" if until is not None else ""
        yield f"{format_count(len(names), 'machine')} wait: {reason}{until_text}: {_join(names)}"


def _join(names: Sequence[str]) -> str:
    return join_first_names(list(names), MAX_NAMES)


MAX_LINES = 30
_MAX_LINE_LENGTH = 400


class Announcer:
    """Sends messages to those who want to hear of failures.

    ``print_message`` gets the messages that could not be sent, without secrets. ``build`` makes the message.
    """

    def __init__(
        self,
        targets: Sequence[NotifyRequest],
        read_credential: Callable[[str], Credential],
        print_message: Callable[[str], None],
        build: Callable[[Sequence[Tell]], Message] | None = None,
    ) -> None:
        self._targets, self._read_credential, self._print_message = tuple(targets), read_credential, print_message
        self._build = build or build_announcement

    def tell(self, tells: Sequence[Tell], occasion: NotificationOccasion = NotificationOccasion.FAILED) -> bool:
        """Send one message. Return whether anybody got it, or nobody wants to be told."""
        notifier = AppriseNotifier(self._targets, self._read_credential, self._print_message)
        target_count = sum(occasion.value in target.on for target in self._targets)
        message = self._build(tells)
        notifier.send(occasion, message, f"that says: {message.title}")
        notifier.close()
        return not target_count or len(notifier.undelivered) < target_count


def build_announcement(tells: Sequence[Tell]) -> Message:
    """Return the message. Pure."""
    lines = [sanitize_text(tell.message, _MAX_LINE_LENGTH) for tell in tells[:MAX_LINES]]
    if len(tells) > MAX_LINES:
        lines.append(f"and {len(tells) - MAX_LINES} more")
    lines.append("More: fleetpatch automatic")
    title = f"fleetpatch: automatic patching: {format_count(len(tells), 'thing')} to look at"
    return Message(title, "\n".join(lines), is_failure=True)
