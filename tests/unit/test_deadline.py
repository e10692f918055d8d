"""The time that a deadline leaves."""

import pytest

from tasks.domain.errors import DeadlineExceeded
from tasks.domain.protocols.clock import Deadline
from tests.support.fake_clock import FakeClock


def test_the_seconds_that_remain_are_limited() -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, 10)

    assert deadline.require_seconds(clock) == 10
    assert deadline.require_seconds(clock, 3) == 3
    assert deadline.require_seconds(clock, 30) == 10


@pytest.mark.parametrize("too_late", [0, 1])
def test_a_deadline_that_has_passed_leaves_none(too_late: float) -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, 10)
    clock.sleep(10 + too_late)

    with pytest.raises(DeadlineExceeded, match="did not answer in the time"):
        deadline.require_seconds(clock)
    with pytest.raises(DeadlineExceeded, match="no time was left to log in"):
        deadline.require_seconds(clock, 5, message="no time was left to log in")
