"""Leases while a run stops, the wait for a dead one's lease, and what is to be done with a run that was left."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows import keeper
from flows.keeper import STOPPING_SECONDS, LeaseKeeper
from flows.recovery import only_settled, wait_for_lease
from tasks.errors import LeaseHeld
from tasks.model import Window
from tasks.seams.leases import Holder, LeaseView, StopRequest
from tasks.states import Classification
from tasks.steps import follow
from tasks.steps.context import Control
from tasks.steps.follow import STOPPING_PAUSE
from tests.support.builders import make_report
from tests.support.fake_clock import FakeClock
from tests.support.fake_leases import FakeLeases
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

RUN = "20260310-010000-aaaaaa"
US, OTHER = Holder("us", "here", 1, "me"), Holder("other", "there", 2, "anne")
NOW = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)


def until(seen) -> None:
    """Wait for a thread."""
    end = time.monotonic() + 5
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_request_to_stop_that_stands_is_heard_before_anything_is_begun() -> None:
    leases, control = FakeLeases(), Control()
    leases.stops[RUN] = StopRequest("anne", "the wrong fleet", NOW)
    with LeaseKeeper(leases, RUN, control, US):
        assert control.reason == "the wrong fleet (anne)"


def test_a_run_that_stops_holds_its_lease_for_a_short_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RENEW_SECONDS", 0.01)
    leases, control = FakeLeases(), Control()
    with LeaseKeeper(leases, RUN, control, US):
        assert leases.held[RUN].until - leases.clock.now() == timedelta(seconds=keeper.LEASE_SECONDS)
        control.stop("asked")
        until(lambda: leases.held[RUN].until - leases.clock.now() == timedelta(seconds=STOPPING_SECONDS))
    assert leases.held[RUN].given_back


class _Looks:
    """Leases that change each time somebody looks."""

    def __init__(self, *views: LeaseView | None) -> None:
        self.views = list(views)

    def lease(self, run_id: str) -> LeaseView | None:
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]


def held(seconds: float, holder: Holder = OTHER) -> LeaseView:
    return LeaseView(RUN, holder, held=True, until=NOW + timedelta(seconds=seconds))


OVER = LeaseView(RUN, OTHER, held=False, until=NOW)


def wait(looks: _Looks, **more: object) -> float:
    """Wait; return how long that took."""
    clock = FakeClock(NOW)
    wait_for_lease(looks, RUN, clock=clock, **more)  # type: ignore[arg-type]  # it only looks
    return (clock.now() - NOW).total_seconds()


def test_a_free_run_is_not_waited_for() -> None:
    assert wait(_Looks(None)) == 0
    assert wait(_Looks(OVER)) == 0


def test_a_lease_that_nobody_renews_is_waited_for_and_said() -> None:
    said: list[str] = []
    assert wait(_Looks(held(60), held(60), held(60), OVER), say=said.append) == 3
    assert len(said) == 1
    assert str(OTHER) in said[0]


@pytest.mark.parametrize("now", [held(65), held(60, US)])
def test_a_holder_that_lives_is_named_at_once(now: LeaseView) -> None:
    with pytest.raises(LeaseHeld, match="is carried out by"):
        wait(_Looks(held(60), held(60), now))


def test_one_that_is_about_to_end_is_waited_for_even_when_it_renews() -> None:
    assert wait(_Looks(held(60), held(65), held(70), OVER), patient=True) == 3


def test_no_wait_is_for_ever() -> None:
    with pytest.raises(LeaseHeld):
        wait(_Looks(held(60)), seconds=20)


def test_what_is_done_with_a_run_that_was_left() -> None:
    run = replace(make_report().run, window=Window(NOW, NOW + timedelta(hours=1)))
    assert only_settled(run, None, NOW) == ""
    assert only_settled(run, OVER, NOW) == ""
    assert only_settled(run, replace(OVER, stop=StopRequest("anne", "wrong", NOW)), NOW) == "wrong (anne)"
    assert "window was over at 2026-03-10 02:00 UTC" in only_settled(run, OVER, NOW + timedelta(hours=1))


def test_a_job_is_asked_to_stop_within_moments_and_not_after_a_long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = SimFleet()
    packages = [FakePackage(name, seconds=200, classification=Classification.SECURITY, group=name) for name in "abc"]
    web = fleet.add("web", packages)
    at: dict[str, datetime] = {}

    def stop() -> None:
        at["asked"] = fleet.clock.now()
        fleet.control.stop("asked")

    monkeypatch.setattr(follow, "ask_to_stop", lambda _work, _job: at.setdefault("passed on", fleet.clock.now()))
    web.on_start("install", 150, stop)  # by then it is looked at every ten seconds
    fleet.patch()
    assert at["passed on"] - at["asked"] <= timedelta(seconds=STOPPING_PAUSE)
