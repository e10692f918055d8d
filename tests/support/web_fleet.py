"""A sample fleet in records, for tests of the pages and for pictures: machines and runs of all kinds, hostile texts.

    fleet = fill_site(tmp_path)
    with serve_site(tmp_path, clock=FakeClock(fleet.now)) as site: ...

    python -m tests.support.web_fleet /tmp/sample          # fills a folder and serves it, to look at it

The present moment of the sample is fixed, so that pages do not change.
"""

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from inventory.loader import load_inventory
from tasks.domain.components import ComponentEnrolment
from tasks.domain.model import Assessment, JobOutput, RunReport
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.provided_machines import Consistency, SnapshotState
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.scheduled_events import EventStatus, EventType, ScheduledEvent
from tasks.domain.states import ChangeState, OperationState, Step, WindowStatus
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.components import SqlComponents
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.maintenance import GroupRecord, PackageUpdate, SqlMaintenance
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.automatic.model import Phase, Rollout
from tasks.rules.maintenance.model import GroupState, HeldPackage
from tasks.rules.rehearsal import OVERLAY_ACT
from tasks.rules.timing.admission import WindowClaim
from tests.support import web_fleet_runs as runs
from tests.support.fake_clock import FakeClock
from tests.support.made_once import make_once
from tests.support.web_fleet_files import write_files
from tests.support.web_fleet_machines import list_assessments, list_hostile_assessments
from tests.support.web_fleet_sites import save_run_of_sites
from tests.unit.reporting import samples

NOW = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
DAYS = 90


@dataclass(frozen=True, slots=True)
class SampleFleet:
    """What ``fill_site`` has written.

    Attributes:
        now: the present moment of the sample; pages need a clock that says so.
        runs: the ids of runs by what they show: "succeeded", "failed", "warnings", "cancelled", "missed", "plan",
            "waiting", "live", "dead", "hostile", "assessed", "sites", "shard".
    """

    now: datetime
    runs: Mapping[str, str]


def fill_site(place: Path, now: datetime = NOW, *, hostile: bool = True) -> SampleFleet:
    """Write an inventory, configurations and records (``records.db``) into a folder.

    Args:
        place: an empty folder.
        now: the present moment of the sample.
        hostile: whether texts attack the pages; pictures are without them.
    """
    made = make_once(f"sample-{now:%Y%m%d%H%M%S%z}-{hostile}", lambda folder: _fill_and_note(folder, now, hostile))
    shutil.copytree(made / "site", place, dirs_exist_ok=True)
    return SampleFleet(now, json.loads((made / "runs.json").read_text()))


def build_site(place: Path, now: datetime = NOW) -> SampleFleet:
    """Write the same into an empty folder, made now: of a clock that is stopped, for example."""
    return _fill(place, now, hostile=True)


def _fill_and_note(folder: Path, now: datetime, hostile: bool) -> None:
    """Fill a folder to copy: to save each run and assessment takes 6 s."""
    (folder / "site").mkdir()
    fleet = _fill(folder / "site", now, hostile=hostile)
    (folder / "runs.json").write_text(json.dumps(dict(fleet.runs)))


def _fill(place: Path, now: datetime, *, hostile: bool) -> SampleFleet:
    write_files(place, hostile=hostile)
    machines = load_inventory(place / "fleet.yaml").machines
    with open_records(f"sqlite:///{place / 'records.db'}") as records:
        for found in list_assessments(machines, now, DAYS):
            _save_assessments(records, found)
        if hostile:
            _save_assessments(records, list_hostile_assessments(now))
        stories = {what: story for what, story in runs.list_finished_runs(now).items() if hostile or what != "hostile"}
        for report, logs in stories.values():
            _save_run(records, report, logs)
        ids = {what: report.run.id for what, (report, _) in stories.items()}
        for what, tell in (
            ("waiting", runs.save_waiting_run),
            ("live", runs.save_live_run),
            ("dead", runs.save_dead_run),
        ):
            ids[what] = tell(records, now)
        if hostile:
            ids |= save_run_of_sites(records, now)
        _save_claims(records, ids, now)
        _save_rollout(records, now)
        SqlComponents(records.database).enrol(ComponentEnrolment("node_exporter", "env=prod", "anna", now))
        _save_held_package(records, now)
        _save_orders(records, now)
        _save_snapshots(records, ids["failed"], now)
        if hostile:
            _save_events(records, ids, now)
    return SampleFleet(now, ids)


def _save_assessments(records: SqlRecords, found: list[Assessment]) -> None:
    at, run_id = found[0].at, f"{found[0].at:%Y%m%d-%H%M%S}-{len(found):06x}"
    run = runs.build_run(
        "assess", run_id, OperationState.SUCCEEDED, at, minutes=2, scope="*", by="the schedule of daily"
    )
    if any(each.error for each in found):
        run = replace(run, state=OperationState.COMPLETED_WITH_WARNINGS)
    records.save(RunReport(run, (), assessments=tuple(replace(each, run_id=run_id) for each in found)))


def _save_run(records: SqlRecords, report: RunReport, logs: Mapping[str, str]) -> None:
    records.save(report)
    for machine, text in logs.items():
        records.save(JobOutput(report.run.id, machine, "install-0", text))


def _save_claims(records: SqlRecords, ids: Mapping[str, str], now: datetime) -> None:
    claims = SqlWindowClaims(records.database)
    friday = now.replace(hour=1, minute=0) - timedelta(days=3)
    claims.claim_window("production-weekly", friday, ids["failed"], "flow-1", friday)
    claims.claim_window("production-weekly", friday - timedelta(days=7), ids["warnings"], "flow-2", friday)
    for days in range(2, 20):
        _save_daily_run(records, claims, now.replace(hour=11, minute=30) - timedelta(days=days))
    late = "the run started 2 h 10 min after the window's end: Prefect's server was down"
    for configuration, at, status, reason in (
        ("production-weekly", friday - timedelta(days=14), WindowStatus.MISSED, late),
        ("databases-monthly", now.replace(day=17, hour=22, minute=0), WindowStatus.FROZEN, "freeze: sale <week>"),
        ("staging-daily", now.replace(day=22, hour=11, minute=30), WindowStatus.CANCELLED, "cancelled by <b>ada</b>"),
    ):
        claims.record_window_without_run(WindowClaim(configuration, at, status, ids["missed"], reason, at))


def _save_rollout(records: SqlRecords, now: datetime) -> None:
    updates = frozenset({("openssl-libs", "3.2.2-6.el9_5.1"), ("kernel", "5.14.0-503.el9")})
    began = now - timedelta(days=4)
    phases = (
        Phase(1, ("lisbon",), began, began + timedelta(hours=30)),
        Phase(2, ("madrid",), began + timedelta(days=3)),
        Phase(3, ("porto", "")),
    )
    SqlRollouts(records.database).save(Rollout(f"{began:%Y-%m-%d}", began, updates, phases))


def _save_held_package(records: SqlRecords, now: datetime) -> None:
    first_seen = now - timedelta(days=11)
    state = GroupState("databases-monthly", 3, HeldPackage(3, first_seen, now + timedelta(days=15)), now)
    updates = (
        PackageUpdate("openssl", "3.0.17-1~deb12u3", "Security", 7, first_seen, requires_reboot=False),
        PackageUpdate("linux-image-amd64", "6.1.158-1", "Security", 3, now - timedelta(days=2), requires_reboot=True),
        PackageUpdate("postgresql-15", "<b>15.15</b>", "Other", 9, now - timedelta(days=5)),
    )
    names = tuple(f"db-{number:02}.fra1.example.net" for number in range(1, 11))
    group = GroupRecord(state, "databases-monthly", 35 * 86_400.0, names, 1, updates, impact="Restart")
    SqlMaintenance(records.database).save_look(group)


def _save_orders(records: SqlRecords, now: datetime) -> None:
    orders, at = SqlMachineOrders(records.database), now - timedelta(hours=20)
    for order_id, act, machine, state, message in (
        ("order-1", "updaters off", "web-07", ChangeState.CHANGED, ""),
        ("order-1", "updaters off", "dev-1", ChangeState.REFUSED, "its owner is <b>os</b>"),
        ("order-2", "hotpatch enroll", "win-1", ChangeState.FAILED, f"no answer from {'a-long-name.' * 9}example.net"),
    ):
        orders.begin(order_id, act, machine, "anna", at)
        orders.end(order_id, machine, state, at + timedelta(minutes=1), message=message, remedy="", steps=())


def _save_snapshots(records: SqlRecords, run_id: str, now: datetime) -> None:
    """Save snapshots of all states, and a copy that a rehearsal has left."""
    store, at = SqlSnapshots(records.database, records.seals), now - timedelta(days=4)
    for number, state in enumerate(SnapshotState):
        snapshot, machine = f"fleetpatch-{run_id[:15]}-{number:010}", f"web-{number + 7:02}"
        times = {"ordered_at": at, "expires_at": at + timedelta(days=3 + number), "changed_at": at}
        note = "the hypervisor <b>rack-1</b> does not answer" if state is SnapshotState.UNKNOWN else ""
        size = None if note else 3 * 2**30
        row = SnapshotRow(
            snapshot=snapshot,
            machine=machine,
            provider=f"rack-1/{machine}",
            run_id=run_id,
            state=state,
            consistency=Consistency.FILE_SYSTEM,
            used_bytes=size,
            note=note,
            **times,
        )
        store.save(row)
    detail: dict[str, object] = {"machine": "web-07", "provider": "rack-1/web-07"}
    copy = f"rehearsal-{run_id}-1"
    records.append_entry(JournalEntry(run_id, "", Step.ASSESS, JournalMark.BEFORE, OVERLAY_ACT, copy, at, detail))


def _save_events(records: SqlRecords, ids: Mapping[str, str], now: datetime) -> None:
    """Save a reboot that its machine and half of its set were told, and one that is over."""
    events = SqlScheduledEvents(records.database, FakeClock(now))
    told = ScheduledEvent(
        id="",
        run_id=ids["live"],
        act="reboot/0",
        event_type=EventType.REBOOT,
        resources=("web-09", "web-10"),
        audience=("web-11",),
        not_before=now + timedelta(minutes=11),
        expires_at=now + timedelta(hours=4),
        announced_at=now - timedelta(minutes=4),
        description=f"restart of <b>{ids['live']}</b>",
    )
    events.approve("web-09", [events.announce(told).id])
    over = events.announce(replace(told, act="reboot/1", resources=("web-12",), audience=()))
    events.change(over.id, EventStatus.STARTED)
    events.change(over.id, EventStatus.COMPLETED)


def _save_daily_run(records: SqlRecords, claims: SqlWindowClaims, at: datetime) -> None:
    run_id = f"{at:%Y%m%d-%H%M%S}-da1170"
    report, _ = runs.rename(samples.three(), run_id, at, "staging-daily")
    records.save(report)
    claims.claim_window("staging-daily", at, run_id, "flow-3", at)


def main(place: Path) -> None:
    """Fill a folder, and serve its pages until the process is ended."""
    from tests.support.web_site import serve_site

    place.mkdir(parents=True, exist_ok=True)
    (place / "records.db").unlink(missing_ok=True)
    fleet = fill_site(place)
    with serve_site(place, clock=FakeClock(fleet.now), zone="Europe/Berlin", public_url="") as site:
        sys.stdout.write(
            f"{site.url}\n" + "".join(f"{what}: {site.url}/runs/{id_}\n" for what, id_ in fleet.runs.items())
        )
        sys.stdout.flush()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
