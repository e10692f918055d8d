"""A run that a person has to approve, over a simulated fleet with the real engine and real records."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from flows.approval.decisions import find_waiting_runs
from flows.approval.gate import RECORDS_POLL_SECONDS, STOP_POLL_SECONDS
from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from tasks.domain.errors import RequestError
from tasks.domain.model import RunReport
from tasks.domain.states import Classification, NotificationOccasion, OperationState, RebootPolicy, UpdateState
from tasks.records.approvals import ApprovalDecision
from tasks.records.schema import approvals
from tasks.rules.runs.approval import compute_report_digest
from tasks.steps.context.run_control import StopToken
from tests.support.approval_gate import add_approval_gate
from tests.support.fake_packages import FakePackage
from tests.support.fleet import outcome_of, result_of
from tests.unit.approval.scene import RUN, Failing, Killed, Scene, kill


def test_nothing_is_begun_before_somebody_approves_and_all_of_it_after(scene: Scene) -> None:
    scene.add("web", "openssl", "curl")
    seen: list[list[str]] = []
    scene.clock.later(1800, lambda: seen.append(scene.touched()))
    scene.clock.later(1801, lambda: scene.approve("anna", "looks good"))

    report = scene.run(scene.request())

    assert seen == [[]]
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 2
    approval = scene.standing()
    assert (approval.decision, approval.who, approval.remark) == (ApprovalDecision.APPROVED, "anna", "looks good")
    (note,) = report.notes
    assert re.fullmatch(r"approved by anna on 2026-03-10 01:30:\d\d UTC: looks good", note)
    assert scene.history.read_report(RUN).notes == report.notes
    (waiting,) = [told for occasion, told in scene.told if occasion is NotificationOccasion.WAITING]
    assert waiting.run.message.startswith("waits for approval until 2026-03-10 04:45 UTC: fleetpatch approve ")


def test_it_goes_on_within_seconds_of_the_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.approval.gate.STOP_POLL_SECONDS", STOP_POLL_SECONDS)
    monkeypatch.setattr("flows.approval.gate._RECORDS_POLL_INTERVAL", timedelta(seconds=RECORDS_POLL_SECONDS))
    scene.add("web", "openssl")
    scene.clock.later(61, scene.approve)
    report = scene.run(scene.request())
    decided = scene.standing().decided_at
    began = outcome_of(report, "web").steps[1].started_at
    assert decided is not None
    assert began - decided <= timedelta(seconds=RECORDS_POLL_SECONDS + STOP_POLL_SECONDS)


def test_a_plan_that_is_rejected_is_not_begun_and_says_who_and_why(scene: Scene) -> None:
    scene.add("web", "openssl")
    scene.clock.later(60, lambda: scene.reject("anna", "not today"))
    report = scene.run(scene.request())
    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert "rejected by anna on 2026-03-10 01:0" in outcome.reason
    assert "not today" in outcome.reason
    assert scene.touched() == []


def test_it_expires_so_many_minutes_after_it_was_asked(scene: Scene) -> None:
    scene.add("web", "openssl")
    began = scene.clock.now()
    report = scene.run(scene.request(expires_minutes=30))
    assert outcome_of(report, "web").reason == "no approval until 2026-03-10 01:30 UTC"
    assert scene.clock.now() - began < timedelta(minutes=31)
    assert scene.answer() is ApprovalDecision.EXPIRED
    with pytest.raises(RequestError, match="expired on 2026-03-10 01:30 UTC"):
        scene.approve()


def test_it_expires_at_the_latest_when_the_window_holds_nothing_any_more(scene: Scene) -> None:
    scene.add("web", "openssl")
    report = scene.run(scene.request(minutes=60, expires_minutes=600))
    assert outcome_of(report, "web").reason == "no approval until 2026-03-10 01:45 UTC"
    assert scene.touched() == []


def test_without_reboots_the_whole_window_is_waited_for(scene: Scene) -> None:
    scene.add("web", "openssl")
    request = scene.request(minutes=60).model_copy(update={"reboot": RebootPolicy.NEVER})
    report = scene.run(request)
    assert outcome_of(report, "web").reason == "no approval until 2026-03-10 02:00 UTC"


def test_a_window_that_opens_later_can_be_approved_before(scene: Scene) -> None:
    scene.add("web", "openssl")
    opens = scene.clock.now() + timedelta(hours=8)
    scene.clock.later(600, scene.approve)
    report = scene.run(scene.request(start=opens, minutes=120))
    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert outcome.steps[1].started_at >= opens


def test_it_is_stopped_at_once_and_waits_no_more(scene: Scene) -> None:
    scene.add("web", "openssl")
    scene.clock.later(100, lambda: scene.fleet.control.request_stop("enough (carla)"))
    began = scene.clock.now()
    report = scene.run(scene.request())
    assert scene.clock.now() - began < timedelta(seconds=105)
    assert outcome_of(report, "web").state is OperationState.NOT_STARTED
    assert "enough (carla)" in outcome_of(report, "web").reason
    assert find_waiting_runs(scene.url, clock=scene.clock) == ()
    with pytest.raises(RequestError, match="the run was stopped: enough"):
        scene.approve()


def test_a_run_that_somebody_else_took_over_leaves_the_question_open(scene: Scene) -> None:
    scene.add("web", "openssl")
    scene.clock.later(100, scene.fleet.control.mark_lease_lost)
    scene.run(scene.request())
    assert scene.answer() is ApprovalDecision.WAITING


def test_where_nothing_would_be_changed_nobody_is_asked(scene: Scene) -> None:
    scene.add("web")
    report = scene.run(scene.request())
    assert report.notes == ("approval: not requested, because nothing would be changed",)
    assert scene.approvals.find_approval(RUN) is None
    assert outcome_of(report, "web").state is OperationState.SUCCEEDED


class TestAfterACrash:
    def test_the_next_process_finds_what_was_decided_meanwhile(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        request = scene.request()
        scene.clock.later(100, kill)
        with pytest.raises(Killed):
            scene.run(request)
        scene.approve("anna")
        report = scene.resume(request)
        assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 1
        assert report.notes[0].startswith("approved by anna")

    def test_undecided_it_goes_on_waiting_until_the_moment_it_said_before(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        request = scene.request(expires_minutes=60)
        scene.clock.later(1200, kill)
        with pytest.raises(Killed):
            scene.run(request)
        scene.clock.advance(600)
        report = scene.resume(request)
        assert outcome_of(report, "web").reason == "no approval until 2026-03-10 02:00 UTC"

    def test_what_was_rejected_stays_rejected(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        request = scene.request()
        scene.clock.later(100, kill)
        with pytest.raises(Killed):
            scene.run(request)
        scene.reject()
        assert "rejected by anna" in outcome_of(scene.resume(request), "web").reason

    def test_a_run_that_was_approved_and_is_only_finalized_still_says_by_whom(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        request = scene.request()
        scene.clock.later(100, kill)
        with pytest.raises(Killed):
            scene.run(request)
        scene.approve("anna")
        control = StopToken()
        control.request_stop("it is only finalized")
        asked = scene.ports(request).gate(scene.history.read_report(RUN), control)
        assert asked.refusal == ""
        assert asked.notes[0].startswith("approved by anna")

    def test_only_what_was_approved_of_a_plan_that_changed_is_installed(self, scene: Scene) -> None:
        report = _changed(scene, "trim")
        web = outcome_of(report, "web")
        assert {r.update.name: r.state for r in web.updates} == {
            "openssl": UpdateState.INSTALLED,
            "curl": UpdateState.NOT_SELECTED,
        }
        (left,) = [r.reason for r in web.updates if r.update.name == "curl"]
        assert left == "not part of what anna approved"
        assert any("web: cut down to what anna approved: curl" in note for note in report.notes)

    def test_or_the_machine_is_refused(self, scene: Scene) -> None:
        report = _changed(scene, "refuse")
        assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 0
        assert outcome_of(report, "db").count_updates(UpdateState.INSTALLED) == 1
        assert "no longer what anna approved" in outcome_of(report, "web").updates[0].reason


def _changed(scene: Scene, change: str) -> RunReport:
    """Have a plan of openssl on web approved, and go on with one that has curl too."""
    scene.add("web", "openssl", "curl")
    scene.add("db", "openssl")
    request = scene.request(changed=change)
    scene.clock.later(100, kill)
    with pytest.raises(Killed):
        scene.run(request)
    whole = scene.history.read_report(RUN)
    plans = tuple(
        replace(plan, chosen=tuple(u for u in plan.chosen if plan.machine == "db" or u.name == "openssl"))
        for plan in whole.plans
    )
    with scene.records.database.begin_write("start anew") as connection:
        connection.exec_driver_sql("DELETE FROM approvals")
    smaller = replace(whole, plans=plans)
    control = StopToken()
    scene.clock.later(10, lambda: scene.records.save(smaller))
    scene.clock.later(20, lambda: scene.approve("anna"))
    assert scene.ports(request).gate(smaller, control).refusal == ""
    scene.records.save(whole)  # planned anew: curl came in
    return scene.resume(request)


def test_a_changed_plan_whose_approved_one_is_not_known_is_not_begun(scene: Scene) -> None:
    scene.add("web", "openssl")
    request = scene.request()
    scene.approvals.request_approval(RUN, "0" * 64, 3600)
    scene.approvals.decide(RUN, "0" * 64, ApprovalDecision.APPROVED, "anna")
    report = scene.run(request)
    assert "no longer what anna approved" in outcome_of(report, "web").reason
    assert scene.touched() == []


def test_a_plan_that_changed_before_anybody_decided_is_asked_for_anew(scene: Scene) -> None:
    scene.add("web", "openssl")
    scene.approvals.request_approval(RUN, "0" * 64, 3600)
    scene.clock.later(30, scene.approve)
    report = scene.run(scene.request())
    assert scene.standing().digest == compute_report_digest(report)
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 1


class TestRecordsAway:
    def test_it_waits_on(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        away = Failing(scene.records.database, scene.clock).between(scene, 100, 2000)
        scene.clock.later(600, scene.approve)
        report = scene.run(scene.request(), away)
        assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 1
        assert outcome_of(report, "web").steps[1].started_at >= scene.clock.now() - timedelta(hours=1)

    def test_before_it_is_asked_as_well(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        away = Failing(scene.records.database, scene.clock).between(scene, 0, 900)
        scene.clock.later(1800, scene.approve)
        assert outcome_of(scene.run(scene.request(), away), "web").count_updates(UpdateState.INSTALLED) == 1

    def test_what_was_approved_in_time_counts_when_they_come_back_after_it(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        away = Failing(scene.records.database, scene.clock).between(scene, 100, 3000)
        scene.clock.later(600, scene.approve)
        report = scene.run(scene.request(expires_minutes=30), away)
        assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 1

    def test_to_the_windows_end_nothing_is_begun(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        away = Failing(scene.records.database, scene.clock).between(scene, 100, 1e9)
        report = scene.run(scene.request(minutes=60), away)
        assert "the records database was unavailable until the window's end" in outcome_of(report, "web").reason
        assert scene.touched() == []

    def test_it_is_stopped_all_the_same(self, scene: Scene) -> None:
        scene.add("web", "openssl")
        away = Failing(scene.records.database, scene.clock).between(scene, 0, 1e9)
        scene.clock.later(300, lambda: scene.fleet.control.request_stop("enough"))
        began = scene.clock.now()
        scene.run(scene.request(), away)
        assert scene.clock.now() - began < timedelta(seconds=310)


def test_what_a_repair_brings_to_light_was_not_approved(scene: Scene) -> None:
    half = FakePackage("half", classification=Classification.SECURITY, broken=True)
    scene.fleet.add("web", [half, FakePackage("a")])
    scene.clock.later(60, scene.approve)
    report = scene.run(scene.request().model_copy(update={"repair": True}))
    web = outcome_of(report, "web")
    assert result_of(web, "a").state is UpdateState.INSTALLED
    assert result_of(web, "half").state is UpdateState.NOT_SELECTED
    assert result_of(web, "half").reason == (
        "not part of what a person approved; it was half-configured at 1.0 before this run, which finished that first"
    )


def test_that_people_can_not_be_told_is_no_reason_not_to_wait_for_them(scene: Scene) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no network")

    scene.add("web", "openssl")
    request = scene.request()
    scene.clock.later(60, scene.approve)
    way = replace(scene.fleet.ports(), records=scene.records, notify=broken)
    ports = add_approval_gate(way, scene.approvals)
    report = FleetRun(request, ports, LocalRunner(), run_id=RUN).execute()
    assert outcome_of(report, "web").count_updates(UpdateState.INSTALLED) == 1


def test_an_approval_that_was_written_by_sql_begins_nothing(scene: Scene) -> None:
    scene.add("web", "openssl")

    def forge() -> None:
        with scene.records.database.begin_write("forge") as connection:
            connection.execute(update(approvals).values(decision="approved", who="anna", decided_at=scene.clock.now()))

    scene.clock.later(60, forge)
    report = scene.run(scene.request())
    assert scene.touched() == []
    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert "doesn't fit its seal" in outcome.reason
