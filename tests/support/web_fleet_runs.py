"""The runs of the sample fleet (see web_fleet.py): every state that a run can have."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

from flows.approval.gate import APPROVAL_ACT
from flows.request.patch_request import PatchRequest, WavesRequest, WindowRequest
from flows.request.request_parts import ApprovalRequest
from tasks.domain.model import (
    Hook,
    HookResult,
    MachinePlan,
    Outcome,
    RunInfo,
    RunReport,
    Wave,
    Window,
)
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import HookKind, HookMode, HookPoint, OperationState, RebootState, Step
from tasks.records import schema
from tasks.records.approvals import SqlApprovals
from tasks.records.page_schema import run_progress
from tasks.records.sql_records import SqlRecords
from tasks.rules.runs.approval import collect_planned_updates, compute_report_digest
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet_machines import BIDI, HOSTILE_MACHINES, XSS, XSS_ATTRIBUTE
from tests.unit.reporting import samples
from tests.unit.reporting.machines import LOG, good_outcome, not_begun, warned

Story = tuple[RunReport, Mapping[str, str]]
FLOW_RUN = "c0f7a9d2-6f1b-4b0e-9d8f-5b7d1f3a0e21"
WEB = tuple(f"web-{n:02d}" for n in range(1, 17))
APP = tuple(f"app-{n:02d}" for n in range(1, 15))


def build_run(
    kind: str, run_id: str, state: OperationState, at: datetime, *, minutes: float | None, scope: str, by: str = "ada"
) -> RunInfo:
    """Return a run without a window. Without minutes it has not ended."""
    ended = at + timedelta(minutes=minutes) if minutes is not None else None
    return RunInfo(run_id, kind, at, state, {"scope": scope}, scope=scope, ended_at=ended, started_by=by)


def build_patch_run(
    run_id: str,
    state: OperationState,
    at: datetime,
    *,
    minutes: float | None,
    scope: str,
    by: str,
    configuration: str,
    length: float = 120,
    approval: bool = False,
) -> RunInfo:
    """Return a run with a window that opens when the run starts, and with the request of a real one."""
    request = PatchRequest(
        scope=scope,
        configuration=configuration,
        window=WindowRequest(start=at, minutes=length, zone="Europe/Berlin"),
        waves=WavesRequest(canary_count=2, percent=25, at_once=10),
        approval=ApprovalRequest(required=approval, not_by_starter=approval),
    )
    run = build_run("patch", run_id, state, at, minutes=minutes, scope=scope, by=by)
    window = Window(at, at + timedelta(minutes=length), "Europe/Berlin")
    return replace(run, request=request.model_dump(mode="json"), window=window, flow_run_id=FLOW_RUN)


def list_finished_runs(now: datetime) -> dict[str, Story]:
    """Return finished runs by what they show."""
    return {
        "succeeded": rename(samples.three(), "20261118-113004-3c0001", now - timedelta(days=5), "staging-daily"),
        "failed": rename(samples.forty(), "20261120-010004-7f3a01", now - timedelta(days=3), "production-weekly"),
        "warnings": _tell_warnings(now),
        "cancelled": _tell_cancelled(now),
        "missed": _tell_missed(now),
        "plan": rename(samples.plan(), "20261122-150000-9d1a01", now - timedelta(days=1), ""),
        "assessed": rename(samples.assessment(), "20261121-160000-a55e01", now - timedelta(days=2), ""),
        "hostile": _tell_hostile(now),
    }


def rename(story: Story, run_id: str, day: datetime, configuration: str) -> Story:
    """Give a sample its own id and day. Its times keep their distances."""
    report, logs = story
    started = datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    shift = started - report.run.started_at
    window = report.run.window
    run = replace(
        report.run,
        id=run_id,
        started_at=started,
        ended_at=report.run.ended_at + shift if report.run.ended_at else None,
        window=replace(window, start=window.start + shift, end=window.end + shift) if window else None,
        request={**report.run.request, "configuration": configuration, "scope": report.run.scope},
    )
    assert abs(day - started) < timedelta(days=2)  # the ids of the sample belong to its present moment
    return replace(
        report,
        run=run,
        outcomes=tuple(_move(each, run_id, shift) for each in report.outcomes),
        assessments=tuple(replace(each, run_id=run_id, at=each.at + shift) for each in report.assessments),
    ), logs


def _move(outcome: Outcome, run_id: str, shift: timedelta) -> Outcome:
    steps = tuple(replace(s, started_at=s.started_at + shift, ended_at=s.ended_at + shift) for s in outcome.steps)
    moved = replace(outcome, run_id=run_id, steps=steps)
    if outcome.started_at and outcome.ended_at:
        moved = replace(moved, started_at=outcome.started_at + shift, ended_at=outcome.ended_at + shift)
    if outcome.install is not None:
        done = tuple(
            replace(t, started_at=t.started_at and t.started_at + shift, ended_at=t.ended_at and t.ended_at + shift)
            for t in outcome.install.transactions
        )
        moved = replace(moved, install=replace(outcome.install, transactions=done))
    return moved


def _tell_warnings(now: datetime) -> Story:
    run_id, at = "20261113-010002-51d002", now.replace(hour=1, minute=0) - timedelta(days=10)
    names = WEB[:8] + APP[:8]
    waves = (Wave(1, names[:2], canary=True), Wave(2, names[2:]))
    outcomes = [
        (warned if name in {"web-07", "app-04"} else good_outcome)(name, at + timedelta(minutes=1 + n), 1 + (n > 1))
        for n, name in enumerate(names)
    ]
    run = build_patch_run(
        run_id,
        OperationState.COMPLETED_WITH_WARNINGS,
        at,
        minutes=44,
        scope="env=prod,group=web|app",
        by="the schedule of production-weekly",
        configuration="production-weekly",
    )
    report = RunReport(run, tuple(replace(each, run_id=run_id) for each in outcomes), waves)
    return report, dict.fromkeys(names, LOG)


def _tell_cancelled(now: datetime) -> Story:
    run_id, at = "20261119-210000-ca0001", now.replace(hour=21, minute=0) - timedelta(days=4)
    why = "stopped by ada: wrong night"
    names = WEB[:6]
    outcomes = [good_outcome(names[0], at, 1), *(not_begun(name, 1, why) for name in names[1:])]
    run = build_patch_run(
        run_id, OperationState.COMPLETED_WITH_WARNINGS, at, minutes=9, scope="name=web-0*", by="ada", configuration=""
    )
    report = RunReport(
        replace(run, message=why),
        tuple(replace(each, run_id=run_id) for each in outcomes),
        (Wave(1, names),),
        notes=(why,),
    )
    return report, {names[0]: LOG}


def _tell_missed(now: datetime) -> Story:
    run_id, at = "20261106-041000-1a7e01", now.replace(hour=4, minute=10) - timedelta(days=17)
    run = build_patch_run(
        run_id,
        OperationState.NOT_STARTED,
        at,
        minutes=0,
        scope="env=prod,group=web|app",
        by="the schedule of production-weekly",
        configuration="production-weekly",
    )
    late = "the run started 2 h 10 min after the window's end: Prefect's server was down"
    return RunReport(replace(run, message=late), ()), {}


def _tell_hostile(now: datetime) -> Story:
    run_id, at = "20261122-180000-bad001", now.replace(hour=18, minute=0) - timedelta(days=1)
    names = ("odd-1", *HOSTILE_MACHINES)
    evil = Hook(XSS, HookPoint.BEFORE_MACHINE, HookKind.MACHINE_COMMAND, XSS_ATTRIBUTE, mode=HookMode.WARN)
    outcomes = [
        replace(
            warned(name, at + timedelta(minutes=n), 1),
            run_id=run_id,
            reason=f"{XSS} {BIDI}",
            reboot=RebootState.REQUIRED,
        )
        for n, name in enumerate(names)
    ]
    run = build_patch_run(
        run_id, OperationState.COMPLETED_WITH_WARNINGS, at, minutes=30, scope=XSS, by=XSS_ATTRIBUTE, configuration=XSS
    )
    return RunReport(
        replace(run, message=f"{XSS} {XSS_ATTRIBUTE} {BIDI}"),
        tuple(outcomes),
        (Wave(1, names),),
        hooks=tuple(HookResult(evil, name, succeeded=False, message=XSS, started_at=at, ended_at=at) for name in names),
        notes=(f"approved by {XSS}", BIDI),
    ), dict.fromkeys(names, f"{XSS}\n\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07\n{XSS_ATTRIBUTE}\n{BIDI}\n")


def _plan_machines(names: tuple[str, ...]) -> tuple[MachinePlan, ...]:
    planned = {plan.machine: plan for plan in samples.plan()[0].plans}
    patterns = list(planned.values())
    return tuple(replace(patterns[n % len(patterns)], machine=name) for n, name in enumerate(names))


def save_waiting_run(records: SqlRecords, now: datetime) -> str:
    """Save a run whose plan waits for approval, as the engine does."""
    run_id, at = "20261123-080000-aa1701", now - timedelta(minutes=30)
    names = (*WEB[:10], *APP[:6])
    run = build_patch_run(
        run_id,
        OperationState.IN_PROGRESS,
        now + timedelta(hours=3, minutes=30),
        minutes=None,
        scope="env=prod,group=web|app",
        by="bob",
        configuration="production-weekly",
        approval=True,
    )
    plans = _plan_machines(names)
    report = RunReport(replace(run, started_at=at), (), (Wave(1, names[:2], canary=True), Wave(2, names[2:])), plans)
    records.save(report)
    items = collect_planned_updates(plans)
    digest = compute_report_digest(report)
    detail: dict[str, object] = {machine: dict(each) for machine, each in items.items()}
    shown: dict[str, object] = {"shown": detail}
    records.append_entry(JournalEntry(run_id, "", Step.ASSESS, JournalMark.AFTER, APPROVAL_ACT, digest, at, shown))
    patience = _later(now, hours=5) - at
    SqlApprovals(records.database, FakeClock(at)).request_approval(run_id, digest, patience.total_seconds())
    _lease(records, run_id, _later(now, hours=12), 4242)
    _progress(records, run_id, now, {"": (Step.ASSESS, OperationState.IN_PROGRESS, None, "waits for approval")})
    return run_id


def save_live_run(records: SqlRecords, now: datetime) -> str:
    """Save a run in progress, half done, with the lease of a living process."""
    run_id, at = "20261123-075000-11fe01", now - timedelta(minutes=40)
    names = (*WEB[8:], "win-1")
    waves = (Wave(1, names[:1], canary=True), Wave(2, names[1:5]), Wave(3, names[5:]))
    done = [
        replace(good_outcome(name, at + timedelta(minutes=2 + 5 * n), 1 + (n > 0)), run_id=run_id)
        for n, name in enumerate(names[:3])
    ]
    run = build_patch_run(
        run_id,
        OperationState.IN_PROGRESS,
        at,
        minutes=None,
        scope="env=prod,name=web-09|web-1*|win-1",
        by="ada",
        configuration="",
    )
    records.save(RunReport(run, tuple(done), waves, _plan_machines(names)))
    _lease(records, run_id, _later(now, hours=12), 31337)
    going, waits = OperationState.IN_PROGRESS, OperationState.NOT_STARTED
    _progress(
        records,
        run_id,
        now,
        {
            "": (Step.INSTALL, going, 3 / 9, "wave 2 of 3"),
            **{each.machine: (Step.REPORT, each.state, 1.0, "") for each in done},
            names[3]: (Step.INSTALL, going, 0.4, "package 4 of 10: postgresql-15"),
            names[4]: (Step.REBOOT, going, None, "went down 25 s ago"),
            **dict.fromkeys(names[5:], (Step.ASSESS, waits, None, "wave 3")),
        },
    )
    return run_id


def save_dead_run(records: SqlRecords, now: datetime) -> str:
    """Save a run in progress whose process died: its lease has expired."""
    run_id, at = "20261123-071500-dead01", now - timedelta(minutes=75)
    names = ("db-01.fra1.example.net", "db-02.fra1.example.net", "db-03.fra1.example.net")
    done = [replace(good_outcome(names[0], at + timedelta(minutes=2), 1), run_id=run_id)]
    run = build_patch_run(
        run_id,
        OperationState.IN_PROGRESS,
        at,
        minutes=None,
        scope="name=db-0[1-3]*",
        by="ada",
        configuration="",
        length=240,
    )
    records.save(RunReport(run, tuple(done), (Wave(1, names),), _plan_machines(names)))
    _lease(records, run_id, now - timedelta(minutes=48), 666)
    going = (Step.INSTALL, OperationState.IN_PROGRESS, 0.2, "package 2 of 10: libssl3")
    _progress(records, run_id, now - timedelta(minutes=50), {"": going, names[1]: going})
    return run_id


def _later(now: datetime, hours: float) -> datetime:
    """Return a time after the sample's present moment and the system's: SQLite's leases and approvals use that one."""
    return max(now, datetime.now(UTC)) + timedelta(hours=hours)


def _lease(records: SqlRecords, run_id: str, until: datetime, pid: int) -> None:
    holder = LeaseHolder(f"{pid:032x}", "worker-1.example.org", pid, "fleetpatch")
    row = {
        "run_id": run_id,
        "holder_id": holder.id,
        "host": holder.host,
        "pid": holder.pid,
        "username": holder.user,
        "until": until,
        "given_back": False,
    }
    with records.database.begin_write("the sample") as connection:
        connection.execute(insert(schema.leases).values(row))


def _progress(
    records: SqlRecords,
    run_id: str,
    now: datetime,
    machines: Mapping[str, tuple[Step, OperationState, float | None, str]],
) -> None:
    rows = [
        {
            "run_id": run_id,
            "machine": machine,
            "step": step.value,
            "state": state.value,
            "fraction": fraction,
            "message": message,
            "since": now - timedelta(seconds=95),
            "at": now - timedelta(seconds=2),
        }
        for machine, (step, state, fraction, message) in machines.items()
    ]
    with records.database.begin_write("the sample") as connection:
        connection.execute(insert(run_progress), rows)
