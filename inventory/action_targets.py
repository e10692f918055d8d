"""Checks what a hook or an action of a set runs, at load time, so that errors appear before the window."""

import re
import shlex

from inventory.machine_sets import SetActionKind
from inventory.network_targets import parse_url

_FUNCTION_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def find_action_target_fault(kind: SetActionKind, target: str) -> str:
    """Return what is wrong with a target, or "". The text never contains the URL: it may have a password."""
    if "\x00" in target:
        return "its target contains NUL"
    if not target.strip():
        return "its target is empty"
    fault = ""
    match kind:
        case SetActionKind.CONTROLLER_COMMAND if reason := find_command_fault(target):
            fault = f"its target {reason}"
        case SetActionKind.HTTP:
            fault = _find_url_fault(target)
        case SetActionKind.PYTHON if not _FUNCTION_PATTERN.fullmatch(target):
            fault = f"its target is not package.module:function{_show(target)}"
        case SetActionKind.DEPLOYMENT if len([part for part in target.split("/") if part.strip()]) != 2:
            fault = f"its target is not flow/deployment{_show(target)}"
    return fault


def _show(target: str) -> str:
    return "" if "://" in target else f": {target!r}"


def find_command_fault(target: str) -> str:
    """Return why a command line of the controller can't be run, or "". The text continues "this command ..."."""
    if "\x00" in target:
        return "contains NUL"
    try:
        return "" if shlex.split(target) else "is empty"
    except ValueError as error:  # an open quote
        return f"can't be split into words: {error}"


def _find_url_fault(target: str) -> str:
    try:
        parse_url(target)
    except ValueError as error:
        return f"its target is not a usable http or https URL: {error}"
    return ""
