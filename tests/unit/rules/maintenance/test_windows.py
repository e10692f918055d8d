"""In which window a package is applied by itself, and what a window may install."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.model import NotHeld
from tasks.domain.states import Classification
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.maintenance.model import (
    Application,
    ApplyCause,
    ApplyMode,
    GroupState,
    HeldPackage,
    HoldPolicy,
)
from tasks.rules.maintenance.windows import Permission, choose_window, judge_window, list_allowed_windows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
POLICY = HoldPolicy(35 * DAY)


def make_windows(*days: float) -> tuple[Occurrence, ...]:
    starts = [NOW + day * DAY for day in days]
    return tuple(Occurrence(start, start + 2 * HOUR, start.replace(tzinfo=None)) for start in starts)


@pytest.mark.parametrize(
    ("days", "chosen"),
    [
        ((5, 12, 19, 40), 19),
        ((5, 34.95), 5),  # this one ends after the last day
        ((34.95,), 34.95),  # none ends before: the last one that opens before
        ((40,), None),
        ((), None),
    ],
)
def test_the_last_window_before_the_last_day(days: tuple[float, ...], chosen: float | None):
    start = choose_window(POLICY, make_windows(*days), NOW + 35 * DAY, NOW)
    assert start == (None if chosen is None else NOW + chosen * DAY)


def test_after_the_last_day_the_next_window_counts():
    assert choose_window(POLICY, make_windows(5, 9), NOW - DAY, NOW) == NOW + 5 * DAY


def test_each_window_takes_the_next_one():
    policy = replace(POLICY, apply=ApplyMode.EACH_WINDOW)
    assert choose_window(policy, make_windows(5, 9), NOW + 7 * DAY, NOW) == NOW + 5 * DAY


def test_frozen_and_past_windows_are_not_allowed():
    freeze = Freeze(NOW + 9 * DAY, NOW + 10 * DAY)
    windows = make_windows(-1, 5, 9, 12)
    assert list_allowed_windows(windows, [freeze], NOW) == (windows[1], windows[3])


def make_state(applies_at: datetime | None = None, *applications: Application) -> GroupState:
    return GroupState("web", 3, HeldPackage(3, NOW - 20 * DAY, applies_at), NOW, applications)


def judge(state: GroupState | None, policy: HoldPolicy = POLICY, now: datetime = NOW) -> tuple[Permission, str]:
    verdict = judge_window(policy, state, now, now, "UTC")
    return verdict.permission, verdict.reason


def test_a_window_before_the_last_one_installs_nothing():
    permission, reason = judge(make_state(NOW + 7 * DAY))
    assert permission is Permission.NOTHING
    assert reason == "held: it is applied in the window of 2026-03-08 12:00 UTC, unless a person applies it earlier"


def test_what_does_not_wait_is_installed_in_each_window():
    policy = replace(POLICY, not_held=NotHeld(frozenset({Classification.CRITICAL})))
    assert judge(make_state(NOW + 7 * DAY), policy)[0] is Permission.EXCEPTIONS
    assert judge(None, policy)[0] is Permission.EXCEPTIONS


def test_the_chosen_window_installs_all():
    verdict = judge_window(POLICY, make_state(NOW), NOW, NOW)
    assert verdict.permission is Permission.ALL
    assert verdict.cause is ApplyCause.LAST_WINDOW
    assert verdict.number == 3


def test_a_window_after_the_last_day_installs_all():
    verdict = judge_window(POLICY, make_state(), NOW + 16 * DAY, NOW + 16 * DAY)
    assert verdict.cause is ApplyCause.OVERDUE


def test_a_window_that_opens_after_the_last_day_installs_all_although_its_run_begins_before():
    """A run with a lead begins before its window."""
    verdict = judge_window(POLICY, make_state(), NOW + 15 * DAY, NOW + 15 * DAY - 2 * HOUR)
    assert verdict.cause is ApplyCause.OVERDUE


@pytest.mark.parametrize("state", [None, GroupState("web")], ids=["unknown", "never looked at"])
def test_a_group_that_was_never_looked_at_is_held(state: GroupState | None):
    assert judge(state)[0] is Permission.NOTHING


def test_nothing_is_held_so_nothing_is_installed():
    """What became pending since the last look is held from its first moment."""
    assert judge(GroupState("web", 3, None, NOW))[0] is Permission.NOTHING


def test_a_package_that_is_being_applied_is_not_applied_again():
    running = Application("k", 3, ApplyCause.PERSON, "ann", NOW - HOUR)
    assert judge(make_state(NOW, running))[0] is Permission.NOTHING
    ended = replace(running, ended_at=NOW + HOUR / 10)  # nobody has looked since
    assert judge(make_state(NOW, ended))[0] is Permission.NOTHING
    assert judge(make_state(NOW, replace(running, ended_at=NOW)))[0] is Permission.ALL


def test_an_end_in_the_far_future_holds_nothing():
    """The clock was ahead when the run ended: nothing waits for that time."""
    ended = Application("k", 3, ApplyCause.PERSON, "ann", NOW, ended_at=NOW + 3000 * DAY)
    assert judge(make_state(NOW, ended))[0] is Permission.ALL


@given(days=st.lists(st.integers(0, 90), max_size=12, unique=True), last=st.integers(1, 60))
@settings(max_examples=20)
def test_no_later_window_would_have_ended_before(days: list[int], last: int):
    windows = make_windows(*sorted(days))
    end = NOW + last * DAY
    chosen = choose_window(POLICY, windows, end, NOW)
    complete = [window for window in windows if window.end <= end]
    if complete:
        assert chosen == max(window.start for window in complete)
    else:
        assert chosen is None or chosen < end
