"""Hooks before and after runs, waves and machines. The public name is the event that a Python hook gets."""

from flows.hooks.event import HookEvent

__all__ = ["HookEvent"]
