"""What an owner's hook means for what it stands before or after. Pure."""

import re
import shlex
from collections.abc import Iterable

from inventory.targets import read_url
from tasks.model import Finding, HookResult
from tasks.states import FindingLevel, HookKind, HookMode, HookPlace, OperationState

BEFORE = frozenset({HookPlace.BEFORE_RUN, HookPlace.BEFORE_WAVE, HookPlace.BEFORE_MACHINE})
"""The places at which a hook stands before something."""
OF_A_MACHINE = frozenset({HookPlace.BEFORE_MACHINE, HookPlace.AFTER_MACHINE})
"""The places that come once for each machine."""

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LEVELS = {
    HookMode.MUST_SUCCEED: FindingLevel.BLOCK,
    HookMode.WARN: FindingLevel.WARN,
    HookMode.IGNORE: FindingLevel.GOOD,
}


def finding_of(result: HookResult) -> Finding:
    """Return what a hook's result says of its machine: good, a warning, or something that blocks."""
    hook = result.hook
    check = f"hook {hook.name}"
    if result.succeeded:
        return Finding(check, FindingLevel.GOOD, result.message or "done")
    ignored = "failed, which is ignored: " if hook.mode is HookMode.IGNORE else ""
    remedy = f"This is the owner's own hook, {_spoken(hook.place)}: look at what it does."
    return Finding(check, _LEVELS[hook.mode], f"{ignored}{result.message}", remedy)


def stops(result: HookResult) -> bool:
    """Whether what comes next may not begin: a hook failed that must succeed."""
    return not result.succeeded and result.hook.mode is HookMode.MUST_SUCCEED


def why_stopped(result: HookResult) -> str:
    """Return for reports why a failed hook lets nothing more begin."""
    return f"hook {result.hook.name} {_spoken(result.hook.place)} failed: {result.message}"


def state_with(state: OperationState, results: Iterable[HookResult], *, stopped: bool = False) -> OperationState:
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
        and result.hook.place not in OF_A_MACHINE
        and not (stopped and result.hook.place in BEFORE)
    ]
    if any(hook.mode is HookMode.MUST_SUCCEED for hook in failed):
        return OperationState.FAILED
    if state is OperationState.SUCCEEDED and any(hook.mode is HookMode.WARN for hook in failed):
        return OperationState.COMPLETED_WITH_WARNINGS
    return state


def wrong_with(kind: HookKind, target: str, place: HookPlace) -> str:
    """Return what is wrong with a hook as it was written, or "". It repeats nothing of a URL: passwords stand there."""
    if "\x00" in target:
        return "its target holds NUL"
    if not target.strip():
        return "its target is empty"
    wrong = ""
    match kind:
        case HookKind.MACHINE_COMMAND if place not in OF_A_MACHINE:
            wrong = f"a machine-command has no machine {_spoken(place)}: use before_machine or after_machine"
        case HookKind.CONTROLLER_COMMAND:
            wrong = _wrong_with_words(target)
        case HookKind.HTTP:
            wrong = _wrong_with_url(target)
        case HookKind.PYTHON if not _FUNCTION.fullmatch(target):
            wrong = f"its target is not package.module:function: {target!r}"
        case HookKind.DEPLOYMENT if len([part for part in target.split("/") if part.strip()]) != 2:
            wrong = f"its target is not flow/deployment: {target!r}"
    return wrong


def _wrong_with_url(target: str) -> str:
    try:
        read_url(target)
    except ValueError as error:
        return f"its target is no http or https URL that can be asked: {error}"
    return ""


def _wrong_with_words(target: str) -> str:
    try:
        return "" if shlex.split(target) else "its target is empty"
    except ValueError as error:  # an open quote
        return f"its target can't be split into words: {error}"


def _spoken(place: HookPlace) -> str:
    """Return a place in words: "before the run"."""
    when, _, what = place.value.partition("_")
    return f"{when} the {what}"
