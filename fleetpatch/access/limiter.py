"""Limits how often an address may fail.

Whoever has an IPv6 network of their own has as many addresses as they want: all of its addresses are one here.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from typing import Final

from fleetpatch.access.network import parse_address
from tasks.rules.policy.login_names import fold_like_directory

MAX_FAILURES: Final = 10
PERIOD_SECONDS: Final = 60.0
MAX_TRIES: Final = 4
"""Fewer than after which directories lock accounts, mostly ten. Of an address that is known there are as many more."""
TRY_SECONDS: Final = 900.0
_MAX_ADDRESSES: Final = 10_000
_IPV6_PREFIX: Final = 64
_ALL: Final = "all"


class FailureLimiter:
    """Counts failures of each address in the last time. All threads may use it.

    Args:
        most: how many failures of all addresses together are within the limit; None: any number.
        each: how many failures of one address are.
        seconds: how long a failure counts.
        find_key: returns what stands for an address; None: ``find_source``.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        most: int | None = None,
        each: int = MAX_FAILURES,
        seconds: float = PERIOD_SECONDS,
        find_key: Callable[[str], str] | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._find_key = find_key or find_source
        self._most = most
        self._each = each
        self._seconds = seconds
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, address: str) -> bool:
        """Count a failure. Return whether it is still within the limit."""
        with self._lock:
            return self._add(self._find_key(address), self._each) and (
                self._most is None or self._add(_ALL, self._most)
            )

    def take_back(self, address: str) -> None:
        """Take back the last failure: it was none."""
        with self._lock:
            if recent := self._list_recent(self._find_key(address)):
                recent.pop()

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
        recent, since = self._failures.get(source, deque()), self._monotonic() - self._seconds
        while recent and recent[0] <= since:
            recent.popleft()
        return recent


class NameLimiter:
    """Limits the tries for a name of a directory, which may lock the account. All threads may use it.

    A try counts before it is made. An address from which somebody has logged in by the name has tries of its own, so
    that others can't use them up.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tries = FailureLimiter(monotonic, each=MAX_TRIES, seconds=TRY_SECONDS)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()

    def begin(self, name: str, address: str) -> str | None:
        """Count a try. Return what it counts for; None: there were too many, and it must not be made."""
        name = fold_like_directory(name)
        pair = f"{name}\0{find_source(address)}"
        with self._lock:
            key = pair if pair in self._known else name
        return key if self._tries.count(key) else None

    def take_back(self, key: str) -> None:
        """Take back a try. The password was not checked, so the try does not count."""
        self._tries.take_back(key)

    def succeed(self, key: str, name: str, address: str) -> None:
        """Take back a try that was right, and know the address from now on."""
        self._tries.take_back(key)
        with self._lock:
            pair = f"{fold_like_directory(name)}\0{find_source(address)}"
            self._known[pair] = None
            self._known.move_to_end(pair)
            if len(self._known) > _MAX_ADDRESSES:
                self._known.popitem(last=False)


def find_source(address: str) -> str:
    """Return what stands for an address in limits: of IPv6 its network."""
    parsed_address = parse_address(address)
    return (
        str(ip_network((parsed_address, _IPV6_PREFIX), strict=False))
        if isinstance(parsed_address, IPv6Address)
        else address
    )
