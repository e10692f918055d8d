"""Who may begin in a window: frozen times win, late runs get what is left or nothing, a window has one run."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import RequestError
from tasks.domain.model import Window
from tasks.domain.states import RebootPolicy, WindowStatus
from tasks.rules.calendar.freezes import Freeze, build_freeze
from tasks.rules.timing.admission import AdmissionRefusal, WindowClaim, check_admission, compute_last_start

START = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
NIGHT = Window(START, START + timedelta(hours=2), "Europe/Berlin")  # 01:00 to 03:00 there


def local(text: str) -> datetime:
    """A time as people write it, without an offset."""
    return datetime.fromisoformat(text)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def asked(now: datetime, *freezes: Freeze, window: Window = NIGHT, **options: Any) -> AdmissionRefusal | None:
    given = {"scheduled": True, "policy": RebootPolicy.IF_REQUIRED, "reserve_seconds": 900.0, **options}
    return check_admission(window, now, freezes, **given)


class TestBeingLate:
    @pytest.mark.parametrize("minutes", [-40, 0, 1, 60, 104.9])
    def test_what_is_left_is_used(self, minutes: float) -> None:
        assert asked(at(minutes)) is None

    def test_a_window_that_holds_nothing_any_more_is_missed_and_the_sum_is_shown(self) -> None:
        refused = asked(at(105))
        assert refused is not None
        assert refused.status is WindowStatus.MISSED
        assert refused.reason == (
            "window missed: it was 2026-11-21 01:00 to 03:00 CET (2 h); the run started at 2026-11-21 02:45 CET, which "
            "is the last moment to begin anything, 02:45 CET (window ends 03:00 CET, 15 min kept for a reboot)"
        )

    def test_so_is_one_that_was_over_days_ago(self) -> None:
        refused = asked(at(60 * 24 * 3))
        assert refused is not None
        assert "the run started at 2026-11-24 01:00 CET, 2 d 22 h after the last moment" in refused.reason

    def test_nothing_is_kept_for_a_reboot_that_is_never_taken(self) -> None:
        assert asked(at(119), policy=RebootPolicy.NEVER) is None
        refused = asked(at(120), policy=RebootPolicy.NEVER)
        assert refused is not None
        assert "the last moment to begin anything, 03:00 CET" in refused.reason

    def test_a_person_who_starts_late_is_told_by_each_machine(self) -> None:
        assert asked(at(500), scheduled=False) is None

    def test_a_window_that_is_all_reserve_is_not_missed_by_a_run_on_time(self) -> None:
        tiny = Window(START, at(10))
        assert asked(at(0.1), window=tiny) is None
        assert asked(at(10), window=tiny) is not None

    @given(
        st.floats(-600, 6000), st.floats(0, 6000), st.floats(1, 600), st.floats(0, 240), st.sampled_from(RebootPolicy)
    )
    def test_once_missed_it_stays_so(
        self, minutes: float, later: float, length: float, reserve: float, policy: RebootPolicy
    ) -> None:
        window = Window(START, at(length))
        options: dict[str, Any] = {"window": window, "policy": policy, "reserve_seconds": reserve * 60}
        now = at(minutes)
        refused = asked(now, **options)
        assert (refused is None) == (now < compute_last_start(window, policy, reserve * 60))
        if refused is not None:
            assert asked(now + timedelta(minutes=later), **options) is not None
        if now >= window.end:
            assert refused is not None


class TestFreezes:
    def test_they_are_named(self) -> None:
        refused = asked(at(0), Freeze(at(60), at(60 * 48), "year end"))
        assert refused is not None
        assert refused.status is WindowStatus.FROZEN
        assert refused.reason == (
            "frozen: year end, from 2026-11-21 02:00 CET to 2026-11-23 01:00 CET; the window is 2026-11-21 01:00 to "
            "03:00 CET (2 h)"
        )

    @pytest.mark.parametrize(("first", "last"), [(-100, 0), (120, 500)])
    def test_one_that_only_touches_is_none(self, first: float, last: float) -> None:
        assert asked(at(0), Freeze(at(first), at(last))) is None

    def test_they_bind_a_person_too(self) -> None:
        assert asked(at(0), Freeze(at(-1), at(1)), scheduled=False) is not None

    def test_a_frozen_window_that_is_over_was_frozen_and_not_missed(self) -> None:
        refused = asked(at(900), Freeze(at(-1), at(1)))
        assert refused is not None
        assert refused.status is WindowStatus.FROZEN

    @given(
        st.lists(st.tuples(st.integers(-300, 300), st.integers(1, 300)), max_size=4),
        st.integers(1, 200),
        st.booleans(),
    )
    def test_no_frozen_minute_lies_in_an_admitted_window(
        self, spans: list[tuple[int, int]], length: int, scheduled: bool
    ) -> None:
        freezes = [Freeze(at(begin), at(begin + lasts)) for begin, lasts in spans]
        refused = asked(
            at(0), *freezes, window=Window(START, at(length)), policy=RebootPolicy.NEVER, scheduled=scheduled
        )
        minutes = {minute for begin, lasts in spans for minute in range(begin, begin + lasts)}
        assert (refused is not None) == bool(minutes & set(range(length)))


class TestReadingFreezes:
    @pytest.mark.parametrize("end", [local("2026-12-23"), local("2026-12-22"), datetime(2026, 12, 23, tzinfo=UTC)])
    def test_one_that_ends_before_it_begins_is_refused(self, end: datetime) -> None:
        with pytest.raises(RequestError) as caught:
            build_freeze(local("2026-12-24"), end, "Europe/Berlin")
        assert caught.value.hint

    def test_the_ends_of_time_are_times_too(self) -> None:
        read = build_freeze(local("0001-01-01"), local("9999-12-31T23:59:59.999999"), "Pacific/Auckland")
        refused = asked(at(0), read)
        assert refused is not None
        assert refused.reason.startswith("frozen: from 0001-01-01")


class TestOneRunAWindow:
    def standing(self, what: WindowStatus = WindowStatus.CLAIMED, reason: str = "flow-1") -> WindowClaim:
        return WindowClaim("web", START, what, "20261121-000001-abcdef", reason, START)

    def test_the_second_names_the_first(self) -> None:
        refused = asked(at(5), claim=self.standing(), claimant="flow-2")
        assert refused == AdmissionRefusal(
            WindowStatus.CLAIMED,
            "the window 2026-11-21 01:00 to 03:00 CET (2 h) of web belongs to run 20261121-000001-abcdef",
        )

    def test_whoever_has_it_may_come_again(self) -> None:
        assert asked(at(5), claim=self.standing(), claimant="flow-1") is None

    def test_nobody_is_not_the_same_as_nobody(self) -> None:
        assert asked(at(5), claim=self.standing(reason=""), claimant="") is not None

    def test_what_a_person_called_off_stays_off(self) -> None:
        refused = asked(at(5), claim=self.standing(WindowStatus.CANCELLED, "anne: not tonight"), claimant="flow-1")
        assert refused is not None
        assert refused.status is WindowStatus.CANCELLED
        assert "cancelled: anne: not tonight" in refused.reason


def test_a_freeze_of_a_moment_keeps_the_window_shut_that_holds_it() -> None:
    moment = build_freeze(local("2026-11-21T02:00"), local("2026-11-21T02:00"), "Europe/Berlin")
    assert asked(at(0), moment) is not None
    assert asked(at(0), moment, window=Window(at(-60), at(30), "UTC")) is None
