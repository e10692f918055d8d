"""Hooks that are Python functions. They are called in a thread with ``event=``."""

import importlib
from collections.abc import Callable

from flows.hooks.event import HookEvent
from flows.hooks.hook_deadline import HookDeadline, run_in_thread
from tasks.model import Hook


def run_function_hook(hook: Hook, event: HookEvent, hook_deadline: HookDeadline) -> tuple[bool, str]:
    """Call a function. Return whether it neither raised nor returned False, and the text that it returned, if any.

    A thread can't be killed. A function that takes too long counts as failed, and runs on until the process ends.

    Raises:
        HookWaitAborted: it took too long.
    """
    try:
        returned = run_in_thread(lambda: _load_function(hook.target)(event=event), hook_deadline)
    except (ImportError, AttributeError) as error:
        return False, f"{hook.target} can't be called: {error}"
    return returned is not False, returned if isinstance(returned, str) else ""


def _load_function(target: str) -> Callable[..., object]:
    """Return the function of a target ``module:name``.

    Raises:
        ImportError: the module does not exist, or its import failed.
        AttributeError: the module has no such function.
    """
    module, _, name = target.partition(":")
    found: Callable[..., object] = getattr(importlib.import_module(module), name)
    return found
