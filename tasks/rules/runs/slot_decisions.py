"""What happens to the slots of one machine when a run takes them. Pure; every store of slots decides by it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tasks.domain.protocols.set_slots import SetSlot, SlotRule


def check_slot(wanted: SetSlot, present: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
    """Return why a slot can't be taken beside all present slots, or "" also if the run has it already.

    A slot of the machine that a run which is over has left is no reason: it is taken over.
    """
    same = [slot for slot in present if slot.machine == wanted.machine]
    if any((slot.set_name, slot.run_id) == (wanted.set_name, wanted.run_id) for slot in same):
        return ""
    other = next((slot for slot in same if slot.run_id != wanted.run_id and not slot.is_left), None)
    if other is not None:
        return f"set {other.set_name}: run {other.run_id} has {other.machine}"
    return may_take(wanted.set_name)(present)


def find_taken_over(machine: str, present: Sequence[SetSlot]) -> tuple[SetSlot, ...]:
    """Return the slots that the next run of a machine takes over: of its runs that are over, in all sets."""
    return tuple(slot for slot in present if slot.machine == machine and slot.is_left)


def build_stored_slot(wanted: SetSlot, present: Sequence[SetSlot]) -> SetSlot:
    """Return a slot as it is stored, with what the present ones say of the machine.

    The reason of a member that is drained stays until it is brought back: it tells also the next process of this run
    that the member was out of service before.
    """
    for each in present:
        if (each.set_name, each.machine, each.run_id) == (wanted.set_name, wanted.machine, wanted.run_id):
            reason = each.reason if each.drained else ""
            return replace(wanted, since=each.since, drained=each.drained or wanted.drained, reason=reason)
    left = find_taken_over(wanted.machine, present)
    if not left:
        return wanted
    oldest = min(left, key=lambda slot: slot.since)
    return replace(wanted, since=oldest.since, drained=True, reason=describe_left(oldest))


def describe_left(slot: SetSlot) -> str:
    """Return how a member was left drained: "run R left it drained: why"."""
    if slot.reason.startswith("run "):  # taken over, and left again before its turn began
        return slot.reason
    return f"run {slot.run_id} left it drained{f': {slot.reason}' if slot.reason else ''}"
