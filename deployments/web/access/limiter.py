"""Limits how often an address may fail."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

MAX_FAILURES: Final = 10
PERIOD_SECONDS: Final = 60.0
_MAX_ADDRESSES: Final = 10_000


class FailureLimiter:
    """Counts failures of each address in the last minute. All threads may use it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def is_exceeded(self, address: str) -> bool:
        """Return whether an address has failed too often."""
        with self._lock:
            return len(self._list_recent(address)) >= MAX_FAILURES

    def count(self, address: str) -> bool:
        """Count a failure. Return whether it is still within the limit."""
        with self._lock:
            recent = self._list_recent(address)
            if len(recent) >= MAX_FAILURES:
                return False
            recent.append(self._monotonic())
            self._failures[address] = recent
            self._failures.move_to_end(address)
            if len(self._failures) > _MAX_ADDRESSES:
                self._failures.popitem(last=False)
            return True

    def _list_recent(self, address: str) -> deque[float]:
        recent, since = self._failures.get(address, deque()), self._monotonic() - PERIOD_SECONDS
        while recent and recent[0] <= since:
            recent.popleft()
        return recent
