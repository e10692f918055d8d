"""When a package begins and ends, and when it is applied without a window."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.states import Classification, OperationState
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.maintenance.look import find_remaining, is_look_missing, look_at_group
from tasks.rules.maintenance.model import (
    Application,
    ApplyCause,
    GroupMachine,
    GroupState,
    GroupView,
    HeldPackage,
    HoldPolicy,
    PackageEnd,
    WaitingUpdate,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
POLICY = HoldPolicy(35 * DAY)


def make_update(since: datetime = NOW, name: str = "curl") -> WaitingUpdate:
    return WaitingUpdate(name, "2", Classification.OTHER, since)


def make_view(*updates: WaitingUpdate, answered_at: datetime | None = NOW, **others: object) -> GroupView:
    return GroupView((GroupMachine("web-1", answered_at, updates),), **others)  # type: ignore[arg-type]


def make_window(start: datetime, hours: float = 2) -> Occurrence:
    return Occurrence(start, start + hours * HOUR, start.replace(tzinfo=None))


def make_state(first_seen: datetime, *applications: Application, looked_at: datetime = NOW) -> GroupState:
    return GroupState("web", 1, HeldPackage(1, first_seen), looked_at, applications)


def make_application(ended_at: datetime | None = NOW, **others: object) -> Application:
    values: dict[str, object] = {"cause": ApplyCause.PERSON, "began_at": NOW - 2 * HOUR, "ended_at": ended_at, **others}
    return Application("k", 1, who="ann", **values)  # type: ignore[arg-type]


def test_the_first_look_of_all_counts_from_now():
    """Who switches a hold on would not expect that what waits since last year is installed at once."""
    look = look_at_group(POLICY, GroupState("web"), make_view(make_update(NOW - 300 * DAY)), NOW)
    assert look.state.package == HeldPackage(1, NOW)
    assert look.start is None


def test_a_package_counts_from_the_assessment_and_not_from_the_look():
    state = GroupState("web", looked_at=NOW - 5 * HOUR)
    look = look_at_group(POLICY, state, make_view(make_update(NOW - 3 * HOUR)), NOW)
    assert look.state.package is not None
    assert look.state.package.first_seen == NOW - 3 * HOUR


def test_what_a_machine_brings_counts_from_the_last_look():
    state = GroupState("web", looked_at=NOW - HOUR)
    look = look_at_group(POLICY, state, make_view(make_update(NOW - 90 * DAY)), NOW)
    assert look.state.package is not None
    assert look.state.package.first_seen == NOW - HOUR


def test_an_addition_does_not_move_the_last_day():
    state = make_state(NOW - 20 * DAY)
    look = look_at_group(POLICY, state, make_view(make_update(NOW, "new")), NOW)
    assert look.state.package is not None
    assert look.state.package.first_seen == NOW - 20 * DAY


def test_an_empty_package_ends():
    look = look_at_group(POLICY, make_state(NOW - 20 * DAY), make_view(), NOW)
    assert look.state.package is None
    assert look.ended is not None
    assert look.ended.end is PackageEnd.EMPTIED


@pytest.mark.parametrize("view", [make_view(answered_at=None), GroupView()], ids=["never read", "no machines"])
def test_nothing_is_empty_that_was_not_read(view: GroupView):
    look = look_at_group(POLICY, make_state(NOW - 20 * DAY), view, NOW)
    assert look.state.package is not None
    assert look.ended is None


def test_an_unreadable_inventory_changes_nothing_and_is_told_daily():
    state = make_state(NOW - 90 * DAY)
    look = look_at_group(POLICY, state, GroupView(problem="fleet.yaml: no such file"), NOW)
    assert look.state is state
    assert look.start is None
    assert [news.key for news in look.news] == ["hold/web/problem/20260301"]


def test_what_was_applied_begins_anew_with_what_was_seen_since():
    state = make_state(NOW - 20 * DAY, make_application(NOW - HOUR, done=frozenset({"web-1"})))
    new = make_update(NOW - 90 * timedelta(minutes=1), "new")
    look = look_at_group(POLICY, state, make_view(new), NOW)
    assert look.ended is not None
    assert look.ended.end is PackageEnd.APPLIED
    assert look.state.package == HeldPackage(2, new.since)
    assert look.state.applications == ()


def test_what_failed_stays_in_its_package_and_is_not_retried():
    state = make_state(NOW - 20 * DAY, make_application(NOW - HOUR, state=OperationState.FAILED))
    look = look_at_group(POLICY, state, make_view(make_update(NOW - 20 * DAY)), NOW)
    assert look.state.number == 1
    assert look.start is None
    assert any("something is left on web-1" in news.message for news in look.news)


def test_a_machine_that_the_run_has_done_need_not_be_assessed_again():
    application = make_application(NOW, done=frozenset({"web-1"}))
    old = GroupMachine("web-1", NOW - DAY, (make_update(NOW - 9 * DAY),))
    assert find_remaining(application, (old,)) == ()
    assert find_remaining(application, (replace(old, answered_at=NOW + HOUR),)) == ("web-1",)
    assert find_remaining(application, (replace(old, name="web-2"),)) == ("web-2",)


def test_after_the_last_day_it_is_applied_once_whatever_the_schedule():
    view = make_view(make_update(NOW - 36 * DAY), windows=(make_window(NOW + 5 * DAY),))
    look = look_at_group(POLICY, make_state(NOW - 36 * DAY), view, NOW)
    assert look.start is not None
    assert look.start.key == "web/1/overdue/1"
    tried = make_application(NOW, cause=ApplyCause.OVERDUE)
    again = look_at_group(POLICY, make_state(NOW - 36 * DAY, tried), view, NOW + HOUR)
    assert again.start is None
    assert any(news.key.endswith("/overdue") for news in again.news)


def test_a_freeze_keeps_an_overdue_package_and_people_learn_it():
    freeze = Freeze(NOW + HOUR, NOW + DAY, "closing")  # it begins before a window from now on would be over
    view = make_view(make_update(NOW - 36 * DAY), freezes=(freeze,))
    look = look_at_group(POLICY, make_state(NOW - 36 * DAY), view, NOW)
    assert look.start is None
    assert any("frozen: closing" in news.message for news in look.news)
    assert look_at_group(POLICY, make_state(NOW - 36 * DAY), view, NOW + DAY).start is not None


def test_a_refused_run_is_tried_again_after_a_day():
    refused = make_application(NOW, cause=ApplyCause.OVERDUE, refusal="the policy forbids it")
    state, view = make_state(NOW - 36 * DAY, refused), make_view(make_update(NOW - 36 * DAY))
    look = look_at_group(POLICY, state, view, NOW + HOUR)
    assert look.start is None
    assert any("the policy forbids it" in news.message for news in look.news)
    later = look_at_group(POLICY, state, view, NOW + DAY)
    assert later.start is not None
    assert later.start.key == "web/1/overdue/2"


def test_people_are_told_a_week_before():
    view = make_view(make_update(), windows=(make_window(NOW + 3 * DAY),))
    state = make_state(NOW - 29 * DAY)
    keys = {news.key for news in look_at_group(POLICY, state, view, NOW).news}
    assert keys == {"hold/web/1/held", "hold/web/1/soon"}


def test_a_group_without_a_look_is_noticed():
    assert is_look_missing(None, NOW)
    assert is_look_missing(NOW - DAY, NOW)
    assert not is_look_missing(NOW - HOUR, NOW)


MINUTES = st.integers(-60 * 24 * 60, 60 * 24 * 60)


@given(first=MINUTES, since=MINUTES, looked=MINUTES, moments=st.lists(MINUTES, min_size=1, max_size=6))
@settings(max_examples=20)
def test_no_clock_makes_a_hold_longer(first: int, since: int, looked: int, moments: list[int]):
    """Whatever the clock says at each look, the first moment of a package never moves later, nor beyond that look."""
    state = make_state(NOW + first * timedelta(minutes=1), looked_at=NOW + looked * timedelta(minutes=1))
    view = make_view(make_update(NOW + since * timedelta(minutes=1)))
    for minutes in moments:
        before, now = state.package, NOW + minutes * timedelta(minutes=1)
        state = look_at_group(POLICY, state, view, now).state
        assert before is not None
        assert state.package is not None
        assert state.package.first_seen <= before.first_seen
        assert state.package.first_seen <= now + timedelta(minutes=10)


@given(since=st.lists(MINUTES, min_size=1, max_size=5), looked=st.none() | MINUTES, inherited=st.none() | MINUTES)
@settings(max_examples=20)
def test_a_package_never_begins_later_than_now_nor_later_than_what_it_follows(
    since: list[int], looked: int | None, inherited: int | None
):
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else NOW + minutes * timedelta(minutes=1)

    updates = [make_update(at(minutes) or NOW, f"u{number}") for number, minutes in enumerate(since)]
    state = GroupState("web", looked_at=at(looked))
    look = look_at_group(POLICY, state, make_view(*updates, inherited=at(inherited)), NOW)
    assert look.state.package is not None
    first_seen = look.state.package.first_seen
    assert first_seen <= NOW
    if inherited is not None:
        assert first_seen <= (at(inherited) or NOW)
