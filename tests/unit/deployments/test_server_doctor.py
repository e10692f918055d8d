"""What a look at the server means: pure judging of views that are written down here."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployments.server.health_checks import SETTING_RULES, run_server_checks
from deployments.server.settings import CLOSED_JOB_TEMPLATE
from deployments.server.snapshot import (
    DeploymentInfo,
    FlowRunInfo,
    RunLeaseState,
    RunningFlowRun,
    ScheduleInfo,
    ScheduleStatus,
    ServerSnapshot,
    WorkerInfo,
    WorkPoolInfo,
    WorkQueueInfo,
)
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel, WindowStatus
from tasks.rules.timing.admission import WindowClaim

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OLD = NOW - timedelta(days=3)
GOOD, WARN, BLOCK = FindingLevel.GOOD, FindingLevel.WARN, FindingLevel.BLOCK
WINDOWS, ASSESSMENTS = WorkQueueInfo(name="default", priority=1), WorkQueueInfo(name="assessments", priority=2)
NIGHTLY = ScheduleInfo(id="s1", schedule={"cron": "0 22 * * *", "timezone": "Europe/Berlin"})


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def deployed(**told: Any) -> DeploymentInfo:
    given = {
        "id": "d1",
        "name": "nightly",
        "flow_id": "f1",
        "tags": ["fleetpatch"],
        "work_pool_name": "dc1",
        "work_queue_name": "default",
        "updated": OLD,
    }
    return DeploymentInfo.model_validate({**given, "schedules": [NIGHTLY], **told})


def run(name: str, kind: str, since: datetime, **told: Any) -> FlowRunInfo:
    state = {"type": kind, "name": kind.title(), "timestamp": since, "message": told.pop("message", None)}
    return FlowRunInfo.model_validate(
        {"id": name, "name": name, "flow_id": "f1", "deployment_id": "d1", "state": state, **told}
    )


def settings(driver: str = "postgresql+asyncpg", **services: Any) -> dict[str, Any]:
    kept = {
        "scheduler": {"enabled": True},
        "task_run_recorder": {"enabled": True, "batch_size": 200},
        "triggers": {"enabled": True, "read_batch_size": 200},
        "db_vacuum": {"enabled": ["events", "flow_runs"]},
        **services,
    }
    return {"server": {"database": {"driver": driver}, "services": kept, "analytics_enabled": False}}


def view(**told: Any) -> ServerSnapshot:
    """A server that is as it should be, but for what is told."""
    healthy = ServerSnapshot(
        now=NOW,
        url="http://127.0.0.1:4200/api/",
        version="3.8.8",
        client_version="3.8.8",
        clock_skew=timedelta(seconds=0.3),
        settings=settings(),
        deployments=(deployed(),),
        schedule_statuses=(ScheduleStatus(deployed(), NIGHTLY, run_count=3),),
        pools=(WorkPoolInfo(name="dc1", base_job_template=CLOSED_JOB_TEMPLATE),),
        workers={"dc1": (WorkerInfo(name="w1", last_heartbeat_time=ago(seconds=20)),)},
        queues={"dc1": (WINDOWS, ASSESSMENTS)},
        flow_names={"f1": "patch-fleet"},
    )
    return replace(healthy, **told)


def found(check: str, **told: Any) -> Finding:
    (finding,) = [each for each in run_server_checks(view(**told)) if each.check == check]
    return finding


def test_a_healthy_server_is_green_throughout() -> None:
    findings = run_server_checks(view())
    assert {each.level for each in findings} == {GOOD}
    assert len(findings) >= 9


def test_whatever_is_not_green_has_a_remedy() -> None:
    sick = view(
        version="2.0.0",
        clock_skew=None,
        settings=None,
        schedule_statuses=(ScheduleStatus(deployed(), NIGHTLY, run_count=0, next_date=NOW + timedelta(hours=9)),),
        workers={},
        pending_runs=(run("stuck", "PENDING", ago(hours=1)),),
        late_runs=(run("late", "SCHEDULED", ago(hours=1), expected_start_time=ago(hours=1)),),
        runs_over_limit=(run("kept-out", "CANCELLED", ago(hours=1)),),
        running_runs=(RunningFlowRun(run("zombie", "RUNNING", ago(hours=1)), RunLeaseState.ABANDONED),),
    )
    red = [each for each in run_server_checks(sick) if each.level is not GOOD]
    assert len(red) >= 9
    assert [each.check for each in red if not each.remedy] == []


@pytest.mark.parametrize(("version", "level"), [("3.8.8", GOOD), ("3.8.9", WARN), ("4.0.0", BLOCK)])
def test_version(version: str, level: FindingLevel) -> None:
    assert found("version", version=version).level is level


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, GOOD), (4.9, GOOD), (-4.9, GOOD), (5, WARN), (-59, WARN), (60, BLOCK), (-3600, BLOCK)]
)
def test_clock(seconds: float, level: FindingLevel) -> None:
    assert found("clock", clock_skew=timedelta(seconds=seconds)).level is level


def test_which_clock_is_ahead_is_said() -> None:
    assert "30 s ahead of ours" in found("clock", clock_skew=timedelta(seconds=30)).message
    assert "30 s behind ours" in found("clock", clock_skew=timedelta(seconds=-30)).message


def test_sqlite_is_for_one_machine() -> None:
    lite = settings("sqlite+aiosqlite")
    two = {"dc1": (WorkerInfo(name="a", last_heartbeat_time=NOW), WorkerInfo(name="b", last_heartbeat_time=NOW))}
    assert found("database", settings=lite).level is GOOD
    assert found("database", settings=lite, workers=two).level is WARN
    assert found("database", settings=lite, url="https://fleet.example.org/api/").level is WARN
    assert found("database", settings=settings("")).level is WARN


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("wrong", SETTING_RULES, ids=lambda wrong: wrong.path)
def test_each_wrong_setting_is_found(wrong: Any) -> None:
    values: dict[str, object] = {"vacuum": ["events"], "batch": 1, "analytics": True, "cors": "http://ours,*"}
    bad = next((value for word, value in values.items() if word in wrong.path), False)
    told: Any = bad
    for step in reversed(wrong.path.split(".")):
        told = {step: told}
    finding = found("settings", settings=told)
    assert (finding.level, finding.message) == (wrong.level, wrong.message)


def test_a_server_that_anyone_or_any_page_can_use_is_red() -> None:
    assert found("access").level is GOOD
    for open_to, words in (("answers_anyone", "no password"), ("answers_any_name", "any name")):
        finding = found("access", **{open_to: True})
        assert finding.level is BLOCK
        assert words in finding.message
    assert found("settings", settings={"server": {"api": {"cors_allowed_origins": "http://ours"}}}).level is GOOD


# ---------------------------------------------------------------- the scheduler


def ahead(**told: Any) -> tuple[ScheduleStatus, ...]:
    deployment = told.pop("deployment", deployed())
    return (ScheduleStatus(deployment, NIGHTLY, **{"run_count": 0, **told}),)


def test_a_schedule_without_a_run_is_red() -> None:
    finding = found("scheduler", schedule_statuses=ahead(next_date=NOW + timedelta(hours=9)))
    assert finding.level is BLOCK
    assert "patch-fleet/nightly" in finding.message


def test_a_schedule_that_was_just_made_may_have_none_yet() -> None:
    fresh = deployed(updated=ago(seconds=30))
    later = ahead(deployment=fresh, next_date=NOW + timedelta(hours=9))
    assert found("scheduler", schedule_statuses=later).level is GOOD


def test_a_schedule_beyond_the_horizon_or_at_its_end_has_none() -> None:
    assert found("scheduler", schedule_statuses=ahead(next_date=NOW + timedelta(days=101))).level is GOOD
    assert found("scheduler", schedule_statuses=ahead(next_date=None)).level is GOOD
    assert found("scheduler", schedule_statuses=ahead(next_date=NOW + timedelta(days=99))).level is BLOCK


def test_a_schedule_that_cannot_be_read_is_red() -> None:
    finding = found("scheduler", schedule_statuses=ahead(error="its schedule can't be read: x"))
    assert finding.level is BLOCK
    assert "can't be read" in finding.message


def test_only_active_schedules_count() -> None:
    assert deployed().active_schedules == (NIGHTLY,)
    assert deployed(paused=True).active_schedules == ()
    assert deployed(schedules=[{"id": "s", "active": False}]).active_schedules == ()
    assert found("scheduler", schedule_statuses=()).level is GOOD


# ---------------------------------------------------------------- workers, and who serves


def test_nothing_deployed_is_said() -> None:
    assert found("deployments", deployments=()).level is WARN
    assert found("deployments", deployments=(deployed(tags=["theirs"]),)).level is WARN


@pytest.mark.parametrize(
    ("pools", "workers", "level", "words"),
    [
        ((), {}, BLOCK, "does not exist"),
        (({"is_paused": True},), {}, BLOCK, "paused"),
        (({"concurrency_limit": 0},), {}, BLOCK, "limit is 0"),
        (({},), {}, BLOCK, "never one"),
        (
            ({"base_job_template": {}},),
            {},
            BLOCK,
            "a run may choose its command, env, working_dir, and so run any command",
        ),
        (({},), {"dc1": (WorkerInfo(name="w", last_heartbeat_time=ago(hours=3)),)}, BLOCK, "3 hours ago"),
        (({},), {"dc1": (WorkerInfo(name="w", last_heartbeat_time=ago(seconds=90)),)}, GOOD, "online: w"),
        (({},), {"dc2": (WorkerInfo(name="w", last_heartbeat_time=NOW),)}, BLOCK, "never one"),
    ],
)
def test_pools(pools: Any, workers: Any, level: FindingLevel, words: str) -> None:
    there = tuple(
        WorkPoolInfo.model_validate(
            {"name": "dc1", "type": "process", "base_job_template": CLOSED_JOB_TEMPLATE, **each}
        )
        for each in pools
    )
    finding = found("pool dc1", pools=there, workers=workers)
    assert finding.level is level
    assert words in finding.message


def test_served_deployments_need_a_process_that_serves() -> None:
    served = deployed(work_pool_name=None, last_polled=ago(seconds=10))
    assert found("served", deployments=(served,)).level is GOOD
    for polled in (None, ago(minutes=5)):
        gone = found("served", deployments=(deployed(work_pool_name=None, last_polled=polled),))
        assert gone.level is BLOCK
        assert "patch-fleet/nightly" in gone.message


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize(
    ("carried", "minutes", "heartbeat", "level"),
    [
        (RunLeaseState.HELD, 600, None, GOOD),
        (RunLeaseState.HELD, 600, False, GOOD),
        (RunLeaseState.ABANDONED, 1, True, BLOCK),
        (RunLeaseState.ENDED, 5, False, GOOD),  # its report may be on the way
        (RunLeaseState.ENDED, 20, False, BLOCK),
        (RunLeaseState.ENDED, 20, True, GOOD),
        (RunLeaseState.UNKNOWN, 5, False, GOOD),
        (RunLeaseState.UNKNOWN, 20, True, GOOD),
        (RunLeaseState.UNKNOWN, 20, False, BLOCK),
        (RunLeaseState.UNKNOWN, 20, None, GOOD),  # it was not looked for: nothing is known
    ],
)
def test_zombies(carried: RunLeaseState, minutes: int, heartbeat: bool | None, level: FindingLevel) -> None:
    running = RunningFlowRun(run("odd-owl", "RUNNING", ago(minutes=minutes)), carried, heartbeat, "20261120-1")
    finding = found("running", running_runs=(running,))
    assert finding.level is level
    assert ("odd-owl of patch-fleet/nightly (run 20261120-1)" in finding.message) is (level is BLOCK)


DATES = {"rrule": "DTSTART:20261121T210000\nRDATE:20261121T210000,20261220T210000", "timezone": "UTC"}
OF_FLEET = ["fleetpatch", "fleetpatch:fleet=default"]


@pytest.mark.parametrize(
    ("created", "refreshed", "level"),
    [
        (OLD, ago(hours=20), GOOD),
        (ago(hours=1), None, GOOD),  # deployed just now: no run of it was due
        (OLD, ago(hours=50), WARN),
        (OLD, None, WARN),
        (None, None, WARN),  # there is no such deployment
    ],
)
def test_lists_of_dates_that_nobody_extends(
    created: datetime | None, refreshed: datetime | None, level: FindingLevel
) -> None:
    window = deployed(tags=OF_FLEET, schedules=[ScheduleInfo(id="s2", schedule=DATES)])
    refresh = deployed(id="d2", name="scheduled", flow_id="f2", tags=OF_FLEET, schedules=[], created=created)
    deployments = (window, refresh) if created else (window,)
    finding = found(
        "dates",
        deployments=deployments,
        refreshed_at={"d2": refreshed} if refreshed else {},
        flow_names={"f1": "patch-fleet", "f2": "refresh-schedules"},
    )
    assert finding.level is level
    assert ("patch-fleet/nightly will have no more runs from 2026-12-20 on" in finding.message) is (level is WARN)


def test_rules_need_nobody_to_extend_them() -> None:
    assert not [finding for finding in run_server_checks(view()) if finding.check == "dates"]


def test_pending_for_long_is_red() -> None:
    assert found("waiting", pending_runs=(run("fresh", "PENDING", ago(seconds=50)),)).level is GOOD
    waits = found("starting", pending_runs=(run("slow", "PENDING", ago(minutes=2)),))
    assert (waits.level, "starts a run of a schedule again" in waits.remedy) == (WARN, True)
    finding = found("pending", pending_runs=(run("stuck", "PENDING", ago(minutes=6)),))
    assert finding.level is BLOCK
    assert "stuck" in finding.message


def test_late_runs_are_told() -> None:
    assert found("late", late_runs=(run("slow", "SCHEDULED", OLD, expected_start_time=ago(minutes=2)),)).level is WARN
    just = (run("slow", "SCHEDULED", OLD, expected_start_time=ago(seconds=30)),)
    assert found("waiting", late_runs=just).level is GOOD


def test_windows_that_a_stuck_run_kept_out_are_told() -> None:
    once = (run("a", "CANCELLED", OLD),)
    assert (
        found("waiting", runs_over_limit=once).level is GOOD
    )  # a second run for the same window: that is what the limit is for
    assert found("limit", runs_over_limit=(*once, run("b", "CANCELLED", OLD))).level is WARN
    assert found("limit", runs_over_limit=once, pending_runs=(run("stuck", "PENDING", OLD),)).level is WARN


def test_every_run_is_named_with_its_deployment() -> None:
    """Prefect makes a run's name up; that of its deployment is the configuration's."""
    gone = {"deployment_id": "of-another-project"}
    both = tuple(run(name, "CANCELLED", OLD) for name in ("owl", "elk"))
    abandoned = RunningFlowRun(run("owl", "RUNNING", OLD), RunLeaseState.ABANDONED)
    for check, words, told in (
        ("pending", "owl of patch-fleet/nightly", {"pending_runs": (run("owl", "PENDING", OLD),)}),
        ("late", "owl of patch-fleet/nightly", {"late_runs": (run("owl", "SCHEDULED", OLD, expected_start_time=OLD),)}),
        ("limit", "owl of patch-fleet/nightly, elk of", {"runs_over_limit": both}),
        ("running", "owl of patch-fleet/nightly", {"running_runs": (abandoned,)}),
        ("pending", ": owl", {"pending_runs": (run("owl", "PENDING", OLD, **gone),)}),
    ):  # fmt: skip
        finding = found(check, **told)
        assert words in finding.message
        assert "d1" not in finding.remedy


def test_long_lists_are_cut() -> None:
    many = tuple(run(f"run-{n}", "PENDING", OLD) for n in range(9))
    assert found("pending", pending_runs=many).message.endswith("run-4 of patch-fleet/nightly and 4 more")


def test_windows_that_no_run_had_are_told_with_the_last_one() -> None:
    missed = tuple(
        WindowClaim("web", ago(days=days), WindowStatus.MISSED, f"run-{days}", "no run used the window", NOW)
        for days in (3, 1)
    )
    finding = found("missed", missed_windows=missed)
    assert finding.level is WARN
    assert "2 windows of the last days had no run; the last one of web: no run used the window" in finding.message
    assert "fleetpatch show run-1" in finding.remedy


PAUSED, CLOSED, BEFORE = {"is_paused": True}, {"concurrency_limit": 0}, {"priority": 1}


@pytest.mark.parametrize(
    ("queues", "level", "words"),
    [
        ((WINDOWS, ASSESSMENTS), GOOD, "in order: default, assessments"),
        ((WINDOWS, ASSESSMENTS.model_copy(update=PAUSED)), BLOCK, "assessments is paused"),
        ((WINDOWS.model_copy(update=PAUSED), ASSESSMENTS), BLOCK, "default is paused"),
        ((WINDOWS, ASSESSMENTS.model_copy(update=CLOSED)), BLOCK, "assessments has a limit of 0"),
        ((WINDOWS,), BLOCK, "so no run of them starts: patch-fleet/asks"),
        ((WINDOWS.model_copy(update={"priority": 3}), ASSESSMENTS), WARN, "assessments before those of default"),
        ((WINDOWS, ASSESSMENTS, WorkQueueInfo(name="theirs", is_paused=True)), GOOD, "in order"),
    ],
)
def test_queues_that_are_missing_paused_or_in_another_order_are_told(
    queues: tuple[WorkQueueInfo, ...], level: FindingLevel, words: str
) -> None:
    asks = deployed(id="d2", name="asks", work_queue_name="assessments")
    finding = found("queues dc1", queues={"dc1": queues}, deployments=(deployed(), asks))
    assert (finding.level, words in finding.message) == (level, True), finding
    assert bool(finding.remedy) is (level is not GOOD)


def test_windows_and_assessments_in_one_queue_are_told() -> None:
    """So an earlier release has deployed them."""
    finding = found("queues dc1", queues={"dc1": (WINDOWS,)})
    assert (finding.level, "may start late" in finding.message) == (WARN, True)
