"""Hooks that are Python functions, called in a thread with ``event=``."""

import importlib
from collections.abc import Callable

from flows.hooks.event import HookEvent
from flows.hooks.hook_deadline import HookDeadline, run_in_thread
from tasks.model import Hook


def run_function_hook(hook: Hook, event: HookEvent, hook_deadline: HookDeadline) -> tuple[bool, str]:
    """Call a function; return whether it neither raised nor returned False, and the text that it returned, if any.

    A thread can't be ended: a function that takes too long counts as failed, and goes on until its process ends.

    Raises:
        HookWaitAborted: it took too long.
    """
    try:
        returned = run_in_thread(lambda: _load_function(hook.target)(event=event), hook_deadline)
    except (ImportError, AttributeError) as error:
        return False, f"{hook.target} can't be called: {error}"
    return returned is not False, returned if isinstance(returned, str) else ""


def _load_function(target: str) -> Callable[..., object]:
    """Return the function of that name.

    Raises:
        ImportError: there is no such module, or it can't be loaded.
        AttributeError: there is no such function in it.
    """
    module, _, name = target.partition(":")
    found: Callable[..., object] = getattr(importlib.import_module(module), name)
    return found
