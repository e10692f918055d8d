"""Hooks before and after runs, waves and machines. The public name: what a Python hook is called with."""

from flows.hooks.event import HookEvent

__all__ = ["HookEvent"]
