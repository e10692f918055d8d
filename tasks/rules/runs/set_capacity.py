"""Whether another member of a machine set may go out of service now. Pure.

A member is out of service while a run has a slot for it, and while it is known not to be healthy. The rule counts both
together, so a set in which a member is down anyway gives that many fewer turns.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from inventory.data_class import dataclass
from inventory.machine import Machine, MachineSet
from tasks.domain.protocols.leases import SetSlot, SlotRule

_MAX_NAMED = 3


class WaitsFor(StrEnum):
    """What may change so that a refused member may begin."""

    TURN = "turn"  # the turn of another member, or another run, ends
    HEALTH = "health"  # a member gets healthy again
    LATER_WAVE = "later wave"  # members of an earlier role are in a later wave of this run
    NOTHING = "nothing"  # it never may in this run


@dataclass(frozen=True, slots=True)
class MemberRefusal:
    """Why a member may not begin now."""

    reason: str  # names the set, and who is out of service
    waits_for: WaitsFor


@dataclass(frozen=True, slots=True)
class SetSituation:
    """Who of a machine set is out of service."""

    machine_set: MachineSet
    slots: Sequence[SetSlot]  # the slots of its members that count; see ``select_slots``
    # Members that are known not to be healthy, with the reason. Members with a slot may be among them.
    down: Mapping[str, str]
    domains: Mapping[str, str]  # the update domains of all members; empty if the set has none
    returning: Collection[str] = ()  # members that an earlier run left drained and that this run brings back
    later: Collection[str] = ()  # members that have their turn in a later wave of this run
    abandoned: Collection[str] = ()  # unfinished runs that no process executes


def select_slots(machine_set: MachineSet, slots: Sequence[SetSlot], domains: Mapping[str, str]) -> tuple[SetSlot, ...]:
    """Return one slot for each member that is out of service, of whatever set.

    Another inventory may know the same machines by another name of their set, or use the name for other machines. So
    the machine decides, and its update domain is that of this inventory.
    """
    slots_by_machine: dict[str, SetSlot] = {}
    for slot in slots:
        if slot.machine in machine_set.members and (
            slot.machine not in slots_by_machine or (slot.set_name == machine_set.name and not slot.is_left)
        ):
            slots_by_machine[slot.machine] = replace(slot, domain=domains.get(slot.machine, ""))
    return tuple(slots_by_machine.values())


def index_sets(sets: Sequence[MachineSet]) -> Mapping[str, tuple[MachineSet, ...]]:
    """Return the sets of each machine that is in one, in the order of the inventory."""
    sets_by_machine: dict[str, tuple[MachineSet, ...]] = {}
    for machine_set in sets:
        for name in machine_set.members:
            sets_by_machine[name] = (*sets_by_machine.get(name, ()), machine_set)
    return sets_by_machine


def find_domain(machine_set: MachineSet, machine: Machine) -> str:
    """Return the update domain of a member. Members without the tag are one domain together."""
    return machine.tags.get(machine_set.update_domain, "") if machine_set.update_domain else ""


def check_capacity(situation: SetSituation, machine: str, run_id: str) -> MemberRefusal | None:
    """Return why a member may not go out of service now; None if it may."""
    if not _find_obstacle(situation, machine, run_id, situation.slots, situation.down):
        return None
    reason = _describe(situation, machine, run_id)
    lasting = [slot for slot in situation.slots if slot.run_id == run_id and slot.reason]
    if _find_obstacle(situation, machine, run_id, lasting, {}):
        return MemberRefusal(reason, WaitsFor.NOTHING)
    lasting += [slot for slot in situation.slots if slot.is_left and slot.machine not in situation.returning]
    if _find_obstacle(situation, machine, run_id, lasting, situation.down):
        return MemberRefusal(reason, WaitsFor.HEALTH)
    lasting += [
        slot for slot in situation.slots if slot.machine in situation.later and (slot.is_left or slot.run_id == run_id)
    ]
    if _find_obstacle(situation, machine, run_id, lasting, situation.down):
        return MemberRefusal(reason, WaitsFor.LATER_WAVE)
    return MemberRefusal(reason, WaitsFor.TURN)


def _find_obstacle(
    situation: SetSituation, machine: str, run_id: str, slots: Sequence[SetSlot], down: Mapping[str, str]
) -> str:
    """Return the limit that does not allow a member to go out of service beside these slots and members, or ""."""
    machine_set = situation.machine_set
    if any(slot.machine == machine and slot.run_id != run_id and not slot.is_left for slot in slots):
        return "the machine itself"
    unavailable = {slot.machine for slot in slots} | set(down)
    unavailable.discard(machine)
    if machine_set.update_domain:
        domain_of_member = situation.domains.get(machine, "")
        of_slots = {slot.domain for slot in slots if slot.machine != machine}
        of_down = {situation.domains.get(name, "") for name in unavailable & set(down)}
        if any(domain != domain_of_member for domain in of_slots | of_down):
            return "one update domain at a time"
    allowed = machine_set.allowed_unavailable
    if len(unavailable) + 1 > allowed:
        return f"{allowed} of {len(machine_set.members)} may be out of service"
    if machine_set.quorum is not None and len(machine_set.members) - len(unavailable) - 1 < machine_set.quorum:
        return f"{machine_set.quorum} of {len(machine_set.members)} must be healthy"
    return ""


def _describe(situation: SetSituation, machine: str, run_id: str) -> str:
    limit = _find_obstacle(situation, machine, run_id, situation.slots, situation.down)
    slots = [slot for slot in situation.slots if slot.machine != machine or slot.run_id != run_id]
    machines = {slot.machine for slot in slots}
    parts = [_describe_slot(slot, run_id, situation) for slot in slots]
    parts += [
        f"{name} is not healthy: {reason}"
        for name, reason in situation.down.items()
        if name not in {*machines, machine}
    ]
    more = [f"{len(parts) - _MAX_NAMED} more are out of service"] if len(parts) > _MAX_NAMED else []
    named = "; ".join([*parts[:_MAX_NAMED], *more])
    return f"set {situation.machine_set.name}: {f'{named} ({limit})' if named else limit}"


def _describe_slot(slot: SetSlot, run_id: str, situation: SetSituation) -> str:
    reason = f": {slot.reason}" if slot.reason else ""
    if slot.is_left:
        return describe_left_drained(slot)
    if slot.run_id == run_id:
        return f"{slot.machine} is still out of service{reason}" if reason else f"{slot.machine} has its turn"
    if slot.run_id in situation.abandoned:
        remedy = f"`fleetpatch resume {slot.run_id}`, or `fleetpatch resume {slot.run_id} --finalize`"
        return f"run {slot.run_id} has {slot.machine}{reason}, and no process executes it: {remedy}"
    return f"run {slot.run_id} has {slot.machine}{reason}"


def describe_left_drained(slot: SetSlot) -> str:
    """Return which run left a member drained, and what people do about it."""
    name = slot.machine
    remedy = f"patch {name} again, or bring it back and say `fleetpatch sets release {name}`"
    return f"run {slot.run_id} left {name} drained: {remedy}"


def find_rank(machine_set: MachineSet, role: str) -> int:
    """Return the place of a role in the order of a set. Roles that are not listed come first."""
    return machine_set.order.index(role) + 1 if role in machine_set.order else 0


def check_role_order(
    machine_set: MachineSet, role: str, left: Mapping[str, str], in_later_waves: Collection[str]
) -> MemberRefusal | None:
    """Return why the turn of a member's role has not come yet; None if it has.

    ``left`` has the roles of the other members that this run has still to change, ``in_later_waves`` those of them that
    begin only in a later wave.
    """
    earlier = [name for name, other in left.items() if find_rank(machine_set, other) < find_rank(machine_set, role)]
    if not earlier:
        return None
    named = ", ".join(f"{name} ({left[name] or 'no listed role'})" for name in earlier[:_MAX_NAMED])
    more = f" and {len(earlier) - _MAX_NAMED} more" if len(earlier) > _MAX_NAMED else ""
    waits_for = WaitsFor.LATER_WAVE if all(name in in_later_waves for name in earlier) else WaitsFor.TURN
    return MemberRefusal(f"set {machine_set.name}: it is {role}, and first come {named}{more}", waits_for)


def check_slot(wanted: SetSlot, present: Sequence[SetSlot], may_take: Callable[[str], SlotRule]) -> str:
    """Return why a slot can't be taken beside all present slots, or "" also if the run has it already.

    A slot of the machine that a run which is over has left is no reason: it is taken over.
    """
    same = [slot for slot in present if slot.machine == wanted.machine]
    if any((slot.set_name, slot.run_id) == (wanted.set_name, wanted.run_id) for slot in same):
        return ""
    holder = next((slot for slot in same if slot.run_id != wanted.run_id and not slot.is_left), None)
    if holder is not None:
        return f"set {holder.set_name}: run {holder.run_id} has {holder.machine}"
    return may_take(wanted.set_name)(present)


def find_taken_over(machine: str, present: Sequence[SetSlot]) -> tuple[SetSlot, ...]:
    """Return the slots that the next run of a machine takes over: of its runs that are over, in all sets."""
    return tuple(slot for slot in present if slot.machine == machine and slot.is_left)


def build_stored_slot(wanted: SetSlot, present: Sequence[SetSlot]) -> SetSlot:
    """Return a slot as it is stored, with what the present ones say of the machine.

    The reason of a member that is drained stays until it is brought back: it tells also the next process of this run
    that the member was out of service before.
    """
    for stored in present:
        if (stored.set_name, stored.machine, stored.run_id) == (wanted.set_name, wanted.machine, wanted.run_id):
            reason = stored.reason if stored.drained else ""
            return replace(wanted, since=stored.since, drained=stored.drained or wanted.drained, reason=reason)
    left_slots = find_taken_over(wanted.machine, present)
    if not left_slots:
        return wanted
    oldest = min(left_slots, key=lambda slot: slot.since)
    return replace(wanted, since=oldest.since, drained=True, reason=describe_left(oldest))


def describe_left(slot: SetSlot) -> str:
    """Return how a member was left drained: "run R left it drained: why"."""
    if slot.reason.startswith("run "):  # taken over, and left again before its turn began
        return slot.reason
    return f"run {slot.run_id} left it drained{f': {slot.reason}' if slot.reason else ''}"
