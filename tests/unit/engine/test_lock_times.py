"""When a machine lock expires, by our clock, although a machine tells only the whole seconds of its own."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tasks.domain.protocols.transport import ScriptResult
from tasks.steps.machine.lock_removal import LockStatus, read_lock_status
from tests.support.fake_clock import FakeClock

ASKED = datetime(2026, 3, 10, 1, 0, 0, 900_000, tzinfo=UTC)
UNTIL = datetime(2026, 3, 10, 3, tzinfo=UTC).timestamp()


class LockedMachine:
    """A machine that answers after some seconds, and whose clock may be wrong."""

    def __init__(self, clock: FakeClock, *, before: float, after: float, fast: float) -> None:
        self.clock, self.before, self.after, self.fast = clock, before, after, fast

    def run_script(self, *_: object, **__: object) -> ScriptResult:
        """Tell the lock, and when the machine itself read its clock."""
        self.clock.advance(self.before)
        now = int(self.clock.now().timestamp() + self.fast)
        self.clock.advance(self.after)
        lock = {"run": "r", "by": "anne", "until": UNTIL + self.fast, "attempt": 1, "job": "", "label": "", "now": now}
        return ScriptResult(({"kind": "lock", **lock},), 0)


def read(**answers: float) -> LockStatus:
    clock = FakeClock(ASKED)
    return read_lock_status("web", cast("Any", LockedMachine(clock, **answers)), clock)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 0.2), (0.05, 0), (0.05, 3), (3, 0.05), (0, 20)])
def test_between_equal_clocks_an_answer_takes_no_time_from_a_lock(before: float, after: float) -> None:
    lock = read(before=before, after=after, fast=0)
    assert lock.expires_at == datetime.fromtimestamp(UNTIL, UTC)


@pytest.mark.parametrize("fast", [-7200, -90, 45, 3600])
def test_the_time_of_another_clock_is_told_by_ours(fast: float) -> None:
    expires_at = read(before=0.3, after=0.3, fast=fast).expires_at
    assert expires_at is not None
    assert abs(expires_at.timestamp() - UNTIL) <= 1
