"""The window is law: late runs, second runs and frozen windows, at the door of the real flow and on a real server."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.objects import State as AnyState

from flows import flow_execution
from flows.admission import AdmittedRun, RefusedRun, admit_run
from flows.maintenance import build_staging_request
from flows.patch import patch_fleet
from flows.ports.caller import Caller
from flows.ports.ports import Notifier
from flows.prefect_runtime.flow_run_origin import FlowRunOrigin, read_flow_run_origin
from flows.request.patch_request import PatchRequest, WindowRequest
from flows.request.request_parts import FreezeRequest
from tasks.domain.errors import RecordsUnavailable
from tasks.domain.model import RunReport
from tasks.domain.states import NotificationOccasion, OperationState, WindowStatus
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.runs.approval import UNKNOWN_STARTER
from tasks.rules.timing.admission import WindowClaim
from tests.flows.served import Served
from tests.support.fake_clock import FakeClock
from tests.support.fleet import SimFleet

DUE = datetime(2026, 11, 20, 23, 20, tzinfo=UTC)
OPENS = DUE + timedelta(minutes=40)
FIRST, SECOND = FlowRunOrigin("flow-1", DUE, "web"), FlowRunOrigin("flow-2", DUE, "web")


Told = list[tuple[NotificationOccasion, str]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What people are told at the door, and why."""
    heard: Told = []

    @contextmanager
    def telling(request: PatchRequest, who: Caller) -> Iterator[Notifier]:
        yield lambda occasion, report: heard.append((occasion, report.run.message))

    monkeypatch.setattr("flows.admission.open_run_notifier", telling)
    return heard


def asked(*freezes: FreezeRequest, **fields: Any) -> PatchRequest:
    window = WindowRequest(minutes=120, zone="Europe/Berlin", lead_minutes=40)
    return PatchRequest(**{"scope": "*", "configuration": "web", "window": window, "freezes": list(freezes), **fields})


def door(request: PatchRequest, who: Caller, start: FlowRunOrigin, late: float = 0.0) -> AdmittedRun | RefusedRun:
    return admit_run(request, who, start, FakeClock(DUE + timedelta(minutes=late)))


def standing(who: Caller, configuration: str = "web") -> WindowClaim | None:
    with open_records(who.records_url) as records:
        claims = SqlWindowClaims(records.database).find_claims_between(
            OPENS, OPENS + timedelta(seconds=1), configuration
        )
    return claims[0] if claims else None


def refused(answer: AdmittedRun | RefusedRun) -> RefusedRun:
    assert isinstance(answer, RefusedRun), answer
    return answer


def admitted(answer: AdmittedRun | RefusedRun) -> AdmittedRun:
    assert isinstance(answer, AdmittedRun), answer
    return answer


class TestTheDoor:
    @pytest.mark.parametrize("late", [0, 39, 41, 144])
    def test_the_window_never_moves_however_late_the_run_is(self, who: Caller, late: float) -> None:
        may = admitted(door(asked(), who, FIRST, late))
        assert may.request.window.start == OPENS
        assert may.request.window.minutes == 120
        known = standing(who)
        assert known is not None
        assert (known.status, known.run_id) == (WindowStatus.CLAIMED, may.run_id)

    def test_a_start_that_was_written_down_does_not_move_it_either(self, who: Caller) -> None:
        start = OPENS + timedelta(days=3)
        request = asked(window=WindowRequest(start=start, minutes=120, lead_minutes=40))
        assert admitted(door(request, who, FIRST)).request.window.start == OPENS

    def test_one_that_is_too_late_is_missed_and_kept_in_the_records(self, who: Caller) -> None:
        answer = refused(door(asked(), who, FIRST, 145))
        assert answer.occasion is NotificationOccasion.MISSED
        known = standing(who)
        assert known is not None
        assert known.status is WindowStatus.MISSED
        assert known.reason == answer.refusal.reason
        with open_records(who.records_url) as records:
            run = History(records).find_run(answer.report.run.id)
        assert run.state is OperationState.NOT_STARTED
        assert run.message.startswith("window missed: it was 2026-11-21 01:00 to 03:00 CET")
        assert (run.flow_run_id, run.started_by, run.kind) == ("flow-1", "the schedule of web", "patch")
        assert run.window is not None
        assert run.window.start == OPENS

    def test_people_are_told_of_every_run_that_is_refused(self, who: Caller, told: Told) -> None:
        freeze = FreezeRequest(start=OPENS, end=OPENS + timedelta(days=1))
        late = refused(door(asked(), who, FIRST, 600))
        frozen = refused(door(asked(freeze), who, SECOND))
        admitted(door(asked(), who, FIRST))
        second = refused(door(asked(), who, SECOND))
        assert told == [
            (NotificationOccasion.MISSED, late.refusal.reason),
            (NotificationOccasion.CANCELLED, frozen.refusal.reason),
            (NotificationOccasion.MISSED, second.refusal.reason),
        ]

    def test_the_second_run_for_a_window_names_the_first(self, who: Caller) -> None:
        first = admitted(door(asked(), who, FIRST))
        second = refused(door(asked(), who, SECOND, 1))
        assert second.refusal.status is WindowStatus.CLAIMED
        assert f"belongs to run {first.run_id}" in second.refusal.reason
        assert second.occasion is NotificationOccasion.MISSED
        known = standing(who)
        assert known is not None
        assert known.run_id == first.run_id
        with open_records(who.records_url) as records:
            assert History(records).find_run(second.report.run.id).message == second.refusal.reason

    def test_a_run_that_only_downloads_takes_no_window_of_a_patch_run(self, who: Caller) -> None:
        early = FlowRunOrigin("flow-3", OPENS, "web")  # due at the very moment at which another window opens
        staging = admitted(door(build_staging_request(asked()), who, early))
        patching = admitted(door(asked(), who, FIRST))
        assert staging.run_id != patching.run_id
        known = standing(who)
        assert known is not None
        assert known.run_id == patching.run_id
        again = refused(door(build_staging_request(asked()), who, FlowRunOrigin("flow-4", OPENS, "web")))
        assert f"belongs to run {staging.run_id}" in again.refusal.reason

    def test_the_same_flow_run_that_comes_again_gets_its_run(self, who: Caller) -> None:
        first = admitted(door(asked(), who, FIRST))
        assert admitted(door(asked(), who, FIRST, 20)).run_id == first.run_id

    def test_another_configuration_has_a_window_of_its_own(self, who: Caller) -> None:
        admitted(door(asked(), who, FIRST))
        admitted(door(asked(configuration="db"), who, SECOND))

    def test_without_a_configuration_it_is_the_deployments(self, who: Caller) -> None:
        admitted(door(asked(configuration=""), who, replace(FIRST, deployment="web-nights")))
        refused(door(asked(configuration=""), who, replace(SECOND, deployment="web-nights")))
        assert standing(who, "web-nights") is not None

    def test_zones_whose_windows_open_at_the_same_moment_are_told_apart(self, who: Caller) -> None:
        paris, berlin = (
            FlowRunOrigin("flow-1", DUE, "web@europe-paris"),
            FlowRunOrigin("flow-2", DUE, "web@europe-berlin"),
        )
        first = admitted(door(asked(), who, paris))
        admitted(door(asked(), who, berlin))
        known = standing(who, "web@europe-paris")
        assert known is not None
        assert known.run_id == first.run_id

    def test_a_copy_of_the_deployment_is_no_other_configuration(self, who: Caller) -> None:
        admitted(door(asked(), who, FIRST))
        refused(door(asked(), who, FlowRunOrigin("flow-2", DUE, "web copy")))

    def test_a_freeze_wins_and_is_kept(self, who: Caller) -> None:
        freeze = FreezeRequest(
            start=datetime.fromisoformat("2026-11-21T02:00"),
            end=datetime.fromisoformat("2026-11-22T00:00"),
            reason="release",
        )
        answer = refused(door(asked(freeze), who, FIRST))
        assert answer.occasion is NotificationOccasion.CANCELLED
        assert answer.refusal.reason.startswith("frozen: release, from 2026-11-21 02:00 CET")
        known = standing(who)
        assert known is not None
        assert known.status is WindowStatus.FROZEN

    def test_a_person_gets_a_window_from_now_bound_to_no_schedule(self, who: Caller) -> None:
        request = asked(outside_window=True)
        assert admitted(door(request, who, FlowRunOrigin("flow-3"), 600)).request == request
        with open_records(who.records_url) as records:
            assert SqlWindowClaims(records.database).find_claims_between(DUE - timedelta(1), DUE + timedelta(1)) == ()

    def test_a_freeze_binds_a_person_too_but_is_no_window_of_the_schedule(self, who: Caller) -> None:
        freeze = FreezeRequest(start=DUE + timedelta(minutes=30), end=DUE + timedelta(days=1))
        answer = refused(door(asked(freeze, outside_window=True), who, FlowRunOrigin("flow-3")))
        assert answer.refusal.status is WindowStatus.FROZEN
        with open_records(who.records_url) as records:
            assert SqlWindowClaims(records.database).find_claims_between(DUE - timedelta(1), DUE + timedelta(1)) == ()
            assert History(records).find_run(answer.report.run.id).message == answer.refusal.reason

    def test_a_plan_changes_nothing_so_it_is_never_refused(self, who: Caller) -> None:
        freeze = FreezeRequest(start=DUE, end=DUE + timedelta(days=1))
        for start in (FIRST, SECOND):
            may = admitted(door(asked(freeze, dry_run=True), who, start, 900))
            assert may.request.window.start == OPENS
        assert standing(who) is None

    def test_records_that_are_away_are_waited_for_but_not_beyond_the_window(
        self, who: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = FakeClock(DUE)
        back = OPENS + timedelta(minutes=50)
        real = SqlWindowClaims.claim_window

        def away(self: SqlWindowClaims, *arguments: Any) -> WindowClaim:
            if clock.now() < back:
                raise RecordsUnavailable("no server")
            return real(self, *arguments)

        monkeypatch.setattr(SqlWindowClaims, "claim_window", away)
        admitted(admit_run(asked(), who, FIRST, clock))
        back = OPENS + timedelta(days=1)
        with pytest.raises(RecordsUnavailable):
            admit_run(asked(), who, SECOND, clock)
        assert clock.now() < OPENS + timedelta(minutes=106)

    def test_records_that_come_back_too_late_leave_a_missed_window(
        self, who: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = FakeClock(DUE)
        real = SqlWindowClaims.claim_window

        def slow(self: SqlWindowClaims, *arguments: Any) -> WindowClaim:
            clock.advance(146 * 60)
            return real(self, *arguments)

        monkeypatch.setattr(SqlWindowClaims, "claim_window", slow)
        assert refused(admit_run(asked(), who, FIRST, clock)).refusal.status is WindowStatus.MISSED


def message(run: FlowRun) -> str:
    assert run.state is not None
    return run.state.message or ""


def within(fleet: SimFleet, **fields: Any) -> PatchRequest:
    """Asks to patch the fleet in the two hours from forty minutes after the scheduled time."""
    window = WindowRequest(minutes=120, lead_minutes=40)
    return fleet.request(**fields).model_copy(update={"window": window, "configuration": "web"})


def test_a_run_that_starts_late_patches_in_what_is_left(served: Served, now_fleet: SimFleet) -> None:
    due = datetime.now(UTC) - timedelta(minutes=80)

    (run,) = served.scheduled(within(now_fleet), due)

    assert run.state is not None
    assert run.state.is_completed(), message(run)
    (info,) = now_fleet.records.runs.values()
    assert info.window is not None
    assert info.window.start == due + timedelta(minutes=40)
    assert info.window.end == due + timedelta(minutes=160)
    assert info.started_by.startswith(f"{UNKNOWN_STARTER} (a schedule of web-")  # it is no deployment of web


def quiet(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether nothing was logged that looks like a fault: a window that was not used is none."""
    return not [each for each in caplog.records if each.exc_info or each.levelno >= logging.ERROR]


def test_a_run_that_starts_too_late_has_failed_and_touches_nothing(
    served: Served, now_fleet: SimFleet, caplog: pytest.LogCaptureFixture
) -> None:
    (run,) = served.scheduled(within(now_fleet), datetime.now(UTC) - timedelta(hours=5))

    assert run.state is not None
    assert (run.state.type.value, run.state.name) == ("FAILED", "NotStarted")
    assert not [record for record in caplog.records if record.exc_info]
    assert message(run).startswith("window missed: ")
    assert "2 h 35 min after the last moment" in message(run)
    assert now_fleet.records.runs == {}
    with open_records() as records:
        (kept,) = SqlWindowClaims(records.database).find_claims_between(
            datetime.now(UTC) - timedelta(days=1), datetime.now(UTC), "web"
        )
        assert kept.status is WindowStatus.MISSED


def test_the_second_run_for_a_window_is_cancelled(
    served: Served, now_fleet: SimFleet, caplog: pytest.LogCaptureFixture
) -> None:
    due = datetime.now(UTC) - timedelta(minutes=50)

    first, second = served.scheduled(within(now_fleet), due, times=2)

    assert first.state is not None
    assert first.state.is_completed(), message(first)
    (info,) = now_fleet.records.runs.values()
    assert second.state is not None
    assert second.state.is_cancelled()
    assert f"belongs to run {info.id}" in message(second)
    assert quiet(caplog)


def test_a_person_starts_the_same_deployment_when_they_like_but_not_in_a_freeze(
    served: Served, now_fleet: SimFleet, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    request = within(now_fleet).model_copy(update={"outside_window": True})

    run = served.started(request)
    frozen = request.model_copy(update={"freezes": [FreezeRequest(start=now, end=now + timedelta(days=1))]})
    second = served.started(frozen)

    assert run.state is not None
    assert run.state.is_completed(), message(run)
    (info,) = now_fleet.records.runs.values()
    assert info.window is not None
    assert abs((info.window.start - now).total_seconds()) < 60
    assert second.state is not None
    assert second.state.is_cancelled()
    assert message(second).startswith("frozen: ")
    assert quiet(caplog)


def test_outside_of_a_flow_run_nothing_is_scheduled() -> None:
    assert read_flow_run_origin() == FlowRunOrigin()


def test_what_a_caller_of_the_flow_is_told_of_a_freeze(
    prefect_server: None, now_fleet: SimFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_RECORDS_URL", f"sqlite:///{tmp_path / 'records.db'}")
    now = datetime.now(UTC)
    freeze = FreezeRequest(start=now, end=now + timedelta(days=1), reason="year end")
    request = now_fleet.request().model_copy(update={"freezes": [freeze]})
    state: AnyState[RunReport] = patch_fleet(request, return_state=True)
    assert state.is_cancelled()
    assert (state.message or "").startswith("frozen: year end, ")


def test_a_second_process_that_looked_before_the_first_began_does_nothing_of_a_run_that_is_over(
    served: Served, now_fleet: SimFleet, who: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was slow between its look and its lease: the first process has done all of the run meanwhile."""
    (run,) = served.made(within(now_fleet), datetime.now(UTC) - timedelta(minutes=50))
    first = served.carried_out(run)
    (info,) = now_fleet.records.runs.values()
    with open_records(who.records_url) as records:  # the simulated fleet has records of its own
        records.save(info)
    find, looks = flow_execution._find_earlier_run, iter((True,))
    monkeypatch.setattr(
        flow_execution, "_find_earlier_run", lambda *words: None if next(looks, False) else find(*words)
    )

    second = served.carried_out(run)

    assert second.state is not None
    assert "Nothing was begun" in (second.state.message or "")
    assert second.state_type is first.state_type
    assert list(now_fleet.records.runs.values()) == [info]
    assert len(now_fleet.machines["web"].installs()) == 1
