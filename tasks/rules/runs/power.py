"""Rules for machines that a run powers on for its window, and powers off again after their turn. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from inventory.data_class import dataclass
from tasks.domain.model import Finding, HookResult, Outcome
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import FAILED_UPDATE_STATES, OperationState, RebootState, UpdateState
from tasks.rules.calendar.local_time import format_duration

POWER_ON_ACT = "power_on"
"""The act of journal entries about powering a machine on. Its end says whether this run really did it."""
POWER_OFF_ACT = "power_off"
"""The act of journal entries about powering a machine off again."""
POWER_CHECK = "power"
"""The check of findings about both."""

_FINISHED_STATES = frozenset(
    {OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS, OperationState.NOT_STARTED}
)
_SETTLED_REBOOTS = frozenset({RebootState.NOT_NEEDED, RebootState.COMPLETED})


@dataclass(frozen=True, slots=True)
class PowerCycle:
    """A machine that did not answer in its window, and was powered on.

    Attributes:
        seconds: from then until a login worked; None: none worked so far.
        was_off: whether it booted after the order. False: it was on, or that is not known. It stays on then.
        off_began: an order to power it off may have been given.
        note: what became of it in the end, for the report; "": its turn is not over.
    """

    ordered_at: datetime
    seconds: float | None = None
    was_off: bool = False
    off_began: bool = False
    note: str = ""
    needs_attention: bool = False


def has_booted_since(cycle: PowerCycle, up_seconds: float | None, now: datetime) -> bool:
    """Return whether a machine that answers now booted after it was ordered to power on.

    A machine that was on all the time, and did not answer for another reason, must not be powered off later.
    """
    return up_seconds is not None and up_seconds <= (now - cycle.ordered_at).total_seconds()


def find_reason_to_stay_on(outcome: Outcome, hooks: Iterable[HookResult]) -> str:
    """Return why a machine that this run powered on is not powered off, or "".

    People may have to look at a machine on which anything failed. A reboot that is due, or whose end was not seen,
    would otherwise be done without anybody watching, when the machine is next powered on.
    """
    if outcome.error is not None or outcome.state not in _FINISHED_STATES:
        return f"its turn ended as {outcome.state}"
    failed = [result.update.name for result in outcome.updates if result.state in FAILED_UPDATE_STATES]
    if failed:
        return f"these updates failed: {', '.join(failed[:5])}"
    if any(result.state is UpdateState.PENDING for result in outcome.updates) and outcome.install is not None:
        return "its installation may not be over"
    failed_hooks = [result.hook.name for result in hooks if not result.succeeded]
    if failed_hooks:
        return f"these hooks failed: {', '.join(failed_hooks[:5])}"
    if outcome.reboot not in _SETTLED_REBOOTS:
        return f"its reboot is {outcome.reboot}"
    return ""


def describe_power_cycle(cycle: PowerCycle | None) -> tuple[Finding, ...]:
    """Return the finding for the report."""
    if cycle is None or cycle.seconds is None:
        return ()
    login = f"a login worked after {format_duration(cycle.seconds)}"
    began = f"powered on by this run: {login}" if cycle.was_off else f"asked to power on: {login}"
    message = f"{began}; {cycle.note}" if cycle.note else began
    if cycle.needs_attention:
        return (Finding.warn(POWER_CHECK, message, "Look whether it is on, and power it off if it should be."),)
    return (Finding.good(POWER_CHECK, message),)


def restore_power_cycle(entries: Iterable[JournalEntry]) -> PowerCycle | None:
    """Return what the journal of a machine says about its power, or None if it was not powered on.

    ``entries`` are of this machine in this run, oldest first.
    """
    cycle: PowerCycle | None = None
    for entry in entries:
        began = entry.mark is JournalMark.BEFORE
        if entry.act == POWER_ON_ACT and began:
            cycle = PowerCycle(entry.at)
        elif cycle is not None and entry.act == POWER_ON_ACT:
            seconds = entry.detail.get("seconds")
            cycle = replace(
                cycle,
                seconds=float(seconds) if isinstance(seconds, int | float) else None,
                was_off=entry.detail.get("was_off") is True,
                note=str(entry.detail.get("note", "")),
            )
        elif cycle is not None and entry.act == POWER_OFF_ACT and began:
            cycle = replace(cycle, off_began=True)
        elif cycle is not None and entry.act == POWER_OFF_ACT:
            attention = entry.detail.get("needs_attention") is True
            cycle = replace(cycle, note=str(entry.detail.get("note", "")), needs_attention=attention)
    return cycle
