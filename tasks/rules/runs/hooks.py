"""The effect of a hook's result on its run, wave or machine, and the actions of machine sets as hooks. Pure."""

import re
from collections.abc import Collection, Iterable, Sequence

from inventory.addresses import find_action_target_fault
from inventory.machine import MachineSet, SetAction, SetActionKind
from tasks.domain.model import Finding, Hook, HookResult
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import FindingLevel, HookKind, HookMode, HookPoint, OperationState

BEFORE_PLACES = frozenset({HookPoint.BEFORE_RUN, HookPoint.BEFORE_WAVE, HookPoint.BEFORE_MACHINE})
"""The points before a run, a wave or a machine."""
MACHINE_PLACES = frozenset({HookPoint.BEFORE_MACHINE, HookPoint.AFTER_MACHINE})
"""The points that occur once for each machine."""

_FINDING_LEVELS = {
    HookMode.MUST_SUCCEED: FindingLevel.BLOCK,
    HookMode.WARN: FindingLevel.WARN,
    HookMode.IGNORE: FindingLevel.GOOD,
}


def to_finding(result: HookResult) -> Finding:
    """Return the finding for a hook's result: good, warn or block."""
    hook = result.hook
    check = f"hook {hook.name}"
    if result.succeeded:
        return Finding.good(check, result.message or "done")
    ignored = "failed, which is ignored: " if hook.mode is HookMode.IGNORE else ""
    remedy = f"This is the owner's own hook, {_render_place(hook.place)}: look at what it does."
    return Finding(check, _FINDING_LEVELS[hook.mode], f"{ignored}{result.message}", remedy)


def is_blocking_failure(result: HookResult) -> bool:
    """Return whether the run, wave or machine may not begin: a hook that must succeed has failed."""
    return not result.succeeded and result.hook.mode is HookMode.MUST_SUCCEED


def describe_blocking_failure(result: HookResult) -> str:
    """Return why a failed hook blocks, for reports."""
    return f"hook {result.hook.name} {_render_place(result.hook.place)} failed: {result.message}"


def determine_state_with_hooks(
    state: OperationState, results: Iterable[HookResult], *, stopped: bool = False
) -> OperationState:
    """Return a run's state, with its hooks considered.

    The outcomes of machines already include the hooks of machines. After a request to stop, failed hooks of
    ``BEFORE_PLACES`` do not count.
    """
    if state is OperationState.IN_PROGRESS:
        return state
    failed = [
        result.hook
        for result in results
        if not result.succeeded
        and result.hook.place not in MACHINE_PLACES
        and not (stopped and result.hook.place in BEFORE_PLACES)
    ]
    if any(hook.mode is HookMode.MUST_SUCCEED for hook in failed):
        return OperationState.FAILED
    if state is OperationState.SUCCEEDED and any(hook.mode is HookMode.WARN for hook in failed):
        return OperationState.COMPLETED_WITH_WARNINGS
    return state


def check_hook_target(kind: HookKind, target: str, place: HookPoint) -> str:
    """Return what is wrong with a hook's target, or "". The text never contains the URL: it may have a password."""
    fault = find_action_target_fault(SetActionKind(kind.value), target)
    if not fault and kind is HookKind.MACHINE_COMMAND and place not in MACHINE_PLACES:
        return f"a machine-command has no machine {_render_place(place)}: use before_machine or after_machine"
    return fault


def _render_place(point: HookPoint) -> str:
    """Return a hook point in words: "before the run"."""
    time, _, subject = point.value.partition("_")
    return f"{time} the {subject}"


_DRAIN_KEY = re.compile(rf"{HookPoint.BEFORE_MACHINE}/set ([^/]+): drain/(.+)")


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

    The inventory may have changed between the death of a process and the resumption of its run. ``known`` are the keys
    of the hooks that the machine has now.
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
            hooks.append(Finding.warn(f"set {drained[1]}: drain", message, remedy))
    return tuple(hooks)
