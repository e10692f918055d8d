"""Keeps a value that takes long to compute."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")
PAUSE_FACTOR = 20
"""How long a value is kept although it may have changed, as a multiple of the time that it took to compute."""
CHEAP_SECONDS = 0.25
"""A value that took less is computed again at each change."""


class ThrottledValue(Generic[Value]):
    """Computes a value again if its key has changed, but spends at most a twentieth of the time on a dear one.

    An empty value is never kept after a change: it would say that nothing is there.
    Only one thread may use it at a time.
    """

    def __init__(self) -> None:
        self._kept: tuple[Hashable, Value] | None = None
        self._not_before = 0.0
        self._asked: Hashable = None

    @property
    def is_due(self) -> bool:
        """Whether the value that was returned last may have changed, and may be computed again now."""
        is_kept = self._kept is not None and self._kept[0] != self._asked
        return is_kept and time.monotonic() >= self._not_before

    def read(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value.

        ``key``: changes when the value may have changed.
        """
        began, self._asked = time.monotonic(), key
        if self._kept is not None and (self._kept[0] == key or began < self._not_before):
            return self._kept[1]
        value = compute()
        ended = time.monotonic()
        took = ended - began
        pause = PAUSE_FACTOR * took if value and took >= CHEAP_SECONDS else 0.0
        self._kept, self._not_before = (key, value), ended + pause
        return value
