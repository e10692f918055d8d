"""The actions of machine sets as hooks before and after a machine. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from inventory.machine_sets import MachineSet, SetAction
from tasks.domain.model import Finding, Hook
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import FindingLevel, HookKind, HookMode, HookPoint

_DRAIN_KEY = re.compile(rf"{HookPoint.BEFORE_MACHINE}/set ([^/]+): drain/(.+)")


def index_sets(sets: Sequence[MachineSet]) -> Mapping[str, tuple[MachineSet, ...]]:
    """Return the sets of each machine that is in one, in the order of the inventory."""
    sets_by_machine: dict[str, tuple[MachineSet, ...]] = {}
    for machine_set in sets:
        for name in machine_set.members:
            sets_by_machine[name] = (*sets_by_machine.get(name, ()), machine_set)
    return sets_by_machine


def build_set_hooks(sets: Sequence[MachineSet]) -> tuple[Hook, ...]:
    """Return the hooks that take a machine out of its sets, and those that bring it back in the opposite order.

    Their names have a colon, so they differ from the names of all hooks of requests.
    """
    drains = [
        _build_hook(machine_set, "drain", HookPoint.BEFORE_MACHINE, machine_set.drain)
        for machine_set in sets
        if machine_set.drain
    ]
    undrains = [
        _build_hook(machine_set, "undrain", HookPoint.AFTER_MACHINE, machine_set.undrain)
        for machine_set in reversed(sets)
        if machine_set.undrain
    ]
    return (*drains, *undrains)


def build_hook_name(set_name: str, verb: str) -> str:
    """Return the name of a set's drain or undrain."""
    return f"set {set_name}: {verb}"


def _build_hook(machine_set: MachineSet, verb: str, place: HookPoint, action: SetAction) -> Hook:
    return Hook(
        name=build_hook_name(machine_set.name, verb),
        place=place,
        kind=HookKind(action.kind.value),
        target=action.target,
        timeout_seconds=action.timeout_seconds,
        mode=HookMode.MUST_SUCCEED,
        repeatable=action.repeatable,
    )


def find_forgotten_drains(known: Collection[str], entries: Iterable[JournalEntry]) -> tuple[Finding, ...]:
    """Return a warning for each drain in a machine's journal that no set of the present inventory would undo.

    The inventory may have changed between the death of a process and the resumption of its run.

    Args:
        known: the keys of the hooks that the machine has now.
        entries: the machine's journal.
    """
    hooks = []
    keys = dict.fromkeys((entry.key, entry.mark) for entry in entries)
    for key, mark in keys:
        drained = _DRAIN_KEY.fullmatch(key)
        undrain = f"{HookPoint.AFTER_MACHINE}/set {drained[1]}: undrain/{drained[2]}" if drained else ""
        if drained and mark is JournalMark.BEFORE and key not in known and (undrain, JournalMark.AFTER) not in keys:
            message = f"it was drained, and its inventory has no such set any more: set {drained[1]}"
            remedy = (
                "Look whether the machine is in service, and bring it back by hand if it is not. "
                "Then say `fleetpatch sets release` with its name."
            )
            hooks.append(Finding(f"set {drained[1]}: drain", FindingLevel.WARN, message, remedy))
    return tuple(hooks)
