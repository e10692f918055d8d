"""The effect of a hook's result on its run, wave or machine. Pure."""

import re
import shlex
from collections.abc import Iterable

from inventory.network_targets import parse_url
from tasks.model import Finding, HookResult
from tasks.states import FindingLevel, HookKind, HookMode, HookPoint, OperationState

BEFORE_PLACES = frozenset({HookPoint.BEFORE_RUN, HookPoint.BEFORE_WAVE, HookPoint.BEFORE_MACHINE})
"""The points before a run, a wave or a machine."""
MACHINE_PLACES = frozenset({HookPoint.BEFORE_MACHINE, HookPoint.AFTER_MACHINE})
"""The points that occur once for each machine."""

_FUNCTION_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
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
    if "\x00" in target:
        return "its target contains NUL"
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
        return f"its target is not a usable http or https URL: {error}"
    return ""


def _check_command(target: str) -> str:
    try:
        return "" if shlex.split(target) else "its target is empty"
    except ValueError as error:  # an open quote
        return f"its target can't be split into words: {error}"


def _render_place(place: HookPoint) -> str:
    """Return a hook point in words: "before the run"."""
    when, _, what = place.value.partition("_")
    return f"{when} the {what}"
