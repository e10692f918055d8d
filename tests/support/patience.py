"""Waiting for what other processes do, without taking their processor: the dearer a look, the longer the pause."""

import time
from collections.abc import Callable
from typing import Any

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
PAUSE_PER_LOOK = 12.0
"""How many times as long as a look the pause after it is: a look at a server costs its processor too."""


def wait_until(
    look: Callable[[], Any], what: str, seconds: float, describe: Callable[[], object] = str, *, rest: float = 0.0
) -> Any:
    """Return what a look sees, once it sees something.

    Args:
        look: returns something, or nothing yet.
        what: is waited for, for the message.
        seconds: of patience.
        describe: says what is there instead, once the patience is over.
        rest: the shortest pause between two looks, where nothing is missed in it.

    Raises:
        AssertionError: the patience is over.
    """
    until = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if seen := look():
            return seen
        now = time.monotonic()
        assert now < until, f"never seen: {what}: {describe()}"
        time.sleep(max(rest, SHORTEST_PAUSE, min(LONGEST_PAUSE, PAUSE_PER_LOOK * (now - began))))
