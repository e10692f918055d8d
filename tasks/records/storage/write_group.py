"""Joins what several threads store at the same time into one transaction: one commit, one look at the lease."""

import threading
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import field
from typing import Generic, TypeVar

from inventory.data_class import dataclass
from tasks.domain.errors import RecordsUnavailable

Item = TypeVar("Item")
MAX_ITEMS = 50
"""Items of one transaction. On SQLite other processes wait for its end."""


@dataclass(eq=False, slots=True)
class _Request(Generic[Item]):
    """An item and its thread, which waits until ``is_its_turn``: then the item is over, or this thread writes next."""

    item: Item
    is_its_turn: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False
    is_alone: bool = False
    error: RecordsUnavailable | None = None


class WriteGroup(Generic[Item]):
    """Stores items in groups. ``store`` returns when the item is durable, as if it had been stored alone.

    One thread writes at a time. What others ask for meanwhile is the next group, and one of these threads writes it.

    Args:
        write: stores items in one transaction, or raises an error and stores none. It can be repeated.
    """

    def __init__(self, write: Callable[[Sequence[Item]], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._requests: list[_Request[Item]] = []  # the first one is that of the thread that writes

    def store(self, item: Item, wait_seconds: float) -> bool:
        """Store an item. Raise the error of ``write`` if it can't be stored.

        Returns:
            Whether its turn came in this time. If not, it may be stored, or not.
        """
        request = _Request(item)
        with self._lock:
            self._requests.append(request)
            if self._requests[0] is request:
                request.is_its_turn.set()
        try:
            if not request.is_its_turn.wait(wait_seconds):
                return False
            if not request.is_over:
                self._store_group(request)
        finally:
            self._end([request])  # also if this thread was interrupted: the next one must get its turn
        if request.error is not None:
            raise copy(request.error) from request.error  # others raise it too, each with a traceback of its own
        return True

    def _store_group(self, first: _Request[Item]) -> None:
        """Store the oldest requests. If one of them can't be stored, each thread stores its own alone."""
        with self._lock:
            oldest = [first] if first.is_alone else self._requests[:MAX_ITEMS]
        group = [request for request in oldest if request is first or not request.is_alone]
        try:
            self._write([request.item for request in group])
        except RecordsUnavailable as error:
            for request in group:
                request.error = error
        except Exception:
            if group == [first]:
                raise
            for request in group:
                request.is_alone = True
            self._write([first.item])
            return
        self._end(group)

    def _end(self, group: Sequence[_Request[Item]]) -> None:
        """Remove requests that are over, wake their threads, and give the oldest of the others its turn."""
        with self._lock:
            for request in group:
                request.is_over = True
                request.is_its_turn.set()
            self._requests = [request for request in self._requests if not request.is_over]
            if self._requests:
                self._requests[0].is_its_turn.set()
