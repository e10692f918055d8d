"""What a mutant is made of: attributes of the engine that are replaced or wrapped while it is played."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

Break = Callable[[ExitStack], None]
"""Breaks the engine until the stack is left."""


def replace_attribute(where: Any, name: str, what: Any) -> Break:
    """Return a break that puts ``what`` in an attribute's place."""
    return lambda stack: stack.enter_context(patch.object(where, name, what)) and None


def wrap_attribute(where: Any, name: str, wrap: Callable[[Any], Any]) -> Break:
    """Return a break that puts a wrapper round an attribute."""
    return lambda stack: stack.enter_context(patch.object(where, name, wrap(getattr(where, name)))) and None


def apply_all(*breaks: Break) -> Break:
    """Return all of them as one."""

    def do(stack: ExitStack) -> None:
        for each in breaks:
            each(stack)

    return do
