"""What an owner's hook means for what it stands before or after. Pure."""

import re
import shlex
from collections.abc import Iterable

from inventory.schema.network_targets import parse_url
from tasks.model import Finding, HookResult
from tasks.states import FindingLevel, HookKind, HookMode, HookPoint, OperationState

BEFORE_PLACES = frozenset({HookPoint.BEFORE_RUN, HookPoint.BEFORE_WAVE, HookPoint.BEFORE_MACHINE})
"""The places at which a hook stands before something."""
MACHINE_PLACES = frozenset({HookPoint.BEFORE_MACHINE, HookPoint.AFTER_MACHINE})
"""The places that come once for each machine."""

_FUNCTION_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_FINDING_LEVELS = {
    HookMode.MUST_SUCCEED: FindingLevel.BLOCK,
    HookMode.WARN: FindingLevel.WARN,
    HookMode.IGNORE: FindingLevel.GOOD,
}


def to_finding(result: HookResult) -> Finding:
    """Return what a hook's result says of its machine: good, a warning, or something that blocks."""
    hook = result.hook
    check = f"hook {hook.name}"
    if result.succeeded:
        return Finding(check, FindingLevel.GOOD, result.message or "done")
    ignored = "failed, which is ignored: " if hook.mode is HookMode.IGNORE else ""
    remedy = f"This is the owner's own hook, {_render_place(hook.place)}: look at what it does."
    return Finding(check, _FINDING_LEVELS[hook.mode], f"{ignored}{result.message}", remedy)


def is_blocking_failure(result: HookResult) -> bool:
    """Whether what comes next may not begin: a hook failed that must succeed."""
    return not result.succeeded and result.hook.mode is HookMode.MUST_SUCCEED


def describe_blocking_failure(result: HookResult) -> str:
    """Return for reports why a failed hook lets nothing more begin."""
    return f"hook {result.hook.name} {_render_place(result.hook.place)} failed: {result.message}"


def determine_state_with_hooks(
    state: OperationState, results: Iterable[HookResult], *, stopped: bool = False
) -> OperationState:
    """Return a run's state when its hooks count too.

    Those of machines are in the machines' outcomes already. A hook before something that was given up because the run
    was asked to stop spoils nothing.

    Args:
        state: by the outcomes of its machines.
        results: of all hooks.
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
    """Return what is wrong with a hook as it was written, or "". It repeats nothing of a URL: passwords stand there."""
    if "\x00" in target:
        return "its target holds NUL"
    if not target.strip():
        return "its target is empty"
    fault = ""
    match kind:
        case HookKind.MACHINE_COMMAND if place not in MACHINE_PLACES:
            fault = f"a machine-command has no machine {_render_place(place)}: use before_machine or after_machine"
        case HookKind.CONTROLLER_COMMAND:
            fault = _check_command(target)
        case HookKind.HTTP:
            fault = _check_url(target)
        case HookKind.PYTHON if not _FUNCTION_PATTERN.fullmatch(target):
            fault = f"its target is not package.module:function: {target!r}"
        case HookKind.DEPLOYMENT if len([part for part in target.split("/") if part.strip()]) != 2:
            fault = f"its target is not flow/deployment: {target!r}"
    return fault


def _check_url(target: str) -> str:
    try:
        parse_url(target)
    except ValueError as error:
        return f"its target is no http or https URL that can be asked: {error}"
    return ""


def _check_command(target: str) -> str:
    try:
        return "" if shlex.split(target) else "its target is empty"
    except ValueError as error:  # an open quote
        return f"its target can't be split into words: {error}"


def _render_place(place: HookPoint) -> str:
    """Return a place in words: "before the run"."""
    when, _, what = place.value.partition("_")
    return f"{when} the {what}"
