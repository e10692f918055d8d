"""Limits how often an address may fail.

Whoever has an IPv6 network of their own has as many addresses as they want: all of its addresses are one here.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from typing import Final

from deployments.web.access.network import parse_address

MAX_FAILURES: Final = 10
PERIOD_SECONDS: Final = 60.0
_MAX_ADDRESSES: Final = 10_000
_IPV6_PREFIX: Final = 64
_ALL: Final = "all"


class FailureLimiter:
    """Counts failures of each address in the last minute. All threads may use it.

    Args:
        most: how many failures of all addresses together are within the limit; None: any number.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, *, most: int | None = None) -> None:
        self._monotonic = monotonic
        self._most = most
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def is_exceeded(self, address: str) -> bool:
        """Return whether an address has failed too often."""
        with self._lock:
            return len(self._list_recent(find_source(address))) >= MAX_FAILURES

    def count(self, address: str) -> bool:
        """Count a failure. Return whether it is still within the limit."""
        with self._lock:
            return self._add(find_source(address), MAX_FAILURES) and (self._most is None or self._add(_ALL, self._most))

    def _add(self, source: str, most: int) -> bool:
        recent = self._list_recent(source)
        if len(recent) >= most:
            return False
        recent.append(self._monotonic())
        self._failures[source] = recent
        self._failures.move_to_end(source)
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return True

    def _list_recent(self, source: str) -> deque[float]:
        recent, since = self._failures.get(source, deque()), self._monotonic() - PERIOD_SECONDS
        while recent and recent[0] <= since:
            recent.popleft()
        return recent


def find_source(address: str) -> str:
    """Return what stands for an address in limits: of IPv6 its network."""
    found = parse_address(address)
    return str(ip_network((found, _IPV6_PREFIX), strict=False)) if isinstance(found, IPv6Address) else address
