"""The effect of a hook's result on its run, wave or machine. Pure."""

from collections.abc import Iterable

from inventory.action_targets import find_action_target_fault
from inventory.machine_sets import SetActionKind
from tasks.domain.model import Finding, HookResult
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
        return Finding(check, FindingLevel.GOOD, result.message or "done")
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

    Args:
        state: the state from the outcomes of the machines.
        results: results of all hooks.
        stopped: whether the run was asked to stop.
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


def _render_place(place: HookPoint) -> str:
    """Return a hook point in words: "before the run"."""
    when, _, subject = place.value.partition("_")
    return f"{when} the {subject}"
