"""Snapshots in the records, as providers have them, and their end. Nothing is deleted that no run has taken."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from flows.ports.ports import Ports
from flows.snapshots import (
    FORGOTTEN,
    DeletionState,
    Handled,
    SeenSnapshot,
    Standing,
    adopt_snapshots,
    delete_snapshots,
    find_unrecorded,
    judge_snapshots,
    look_at_snapshots,
    open_snapshots,
    record_found,
)
from inventory.machine import Machine
from tasks.domain.provided_machines import (
    Consistency,
    PowerState,
    ProvidedMachine,
    ProviderAct,
    Snapshot,
    SnapshotState,
)
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import OperationState
from tasks.records.queries.runs import find_runs_in_need
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tasks.records.snapshot_schema import snapshots
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import BOTH, new_database
from tests.support.builders import make_outcome, make_plan, make_report, make_run
from tests.support.fake_packages import FakePackage
from tests.support.fake_provider import ProviderFault
from tests.support.snapshot_fleet import SnapshotFleet

RUN = "20260310-010000-aaaaaa"
LATER = "20260311-010000-bbbbbb"
OURS = "fleetpatch-20260310-010000-0123456789"
NOW = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlSnapshots]:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    with new_database(request.param, tmp_path) as url, open_records(url) as records:
        yield open_snapshots(records)


def make_row(**changes: Any) -> SnapshotRow:
    row = SnapshotRow(
        snapshot=OURS,
        machine="web",
        provider="hv/web",
        run_id=RUN,
        ordered_at=NOW,
        expires_at=NOW + DAY,
        state=SnapshotState.TAKEN,
        consistency=Consistency.CRASH,
        used_bytes=2**40,
        changed_at=NOW,
        note="",
    )
    return replace(row, **changes)


def make_fleet(*ids: str) -> SnapshotFleet:
    fleet = SnapshotFleet()
    fleet.add("web", [])
    found = tuple(Snapshot(snapshot_id, NOW, ("vda",), Consistency.CRASH, 4096) for snapshot_id in ids)
    fleet.hypervisor.machines["web"] = replace(fleet.provided("web"), snapshots=found)
    fleet.clock.advance(2 * 86400)
    return fleet


def look(fleet: SnapshotFleet, store: SqlSnapshots) -> tuple[SeenSnapshot, ...]:
    return look_at_snapshots(fleet.described, fleet.ports(), store)


def delete(
    fleet: SnapshotFleet,
    store: SqlSnapshots,
    row: SnapshotRow,
    state: OperationState | None = OperationState.SUCCEEDED,
    ports: Ports | None = None,
) -> Handled:
    if state is not None:
        SqlRecords(store._database).save(make_run(id=row.run_id, state=state))
    find = partial(find_runs_in_need, store._database)
    (deletion,) = delete_snapshots([row], ports or fleet.ports(), store, find)
    return deletion


def test_a_snapshot_comes_back_as_it_was_stored(store: SqlSnapshots) -> None:
    store.save(make_row(state=SnapshotState.UNKNOWN))
    store.save(make_row())
    assert store.read_open() == (make_row(),)
    assert store.find_sealed(OURS, "web") == make_row()
    assert store.find_expired(NOW) == ()
    assert store.find_expired(NOW + DAY) == (make_row(),)


@pytest.mark.parametrize("state", SnapshotState)
def test_only_what_is_gone_is_forgotten(store: SqlSnapshots, tmp_path: Path, state: SnapshotState) -> None:
    store.save(make_row(state=state))
    store.prune(NOW + 900 * DAY)
    is_gone = state in {SnapshotState.DELETED, SnapshotState.GONE}
    assert bool(store.read_all()) is not is_gone
    assert bool(store.read_open()) is not is_gone


def test_the_history_that_is_deleted_leaves_snapshots_that_may_exist(tmp_path: Path) -> None:
    with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        open_snapshots(records).save(make_row())
        prune_history(records, NOW + 900 * DAY)
        assert open_snapshots(records).read_open() == (make_row(),)


def test_each_snapshot_is_told_as_what_it_is(store: SqlSnapshots) -> None:
    other, lost = OURS.replace("0123", "9999"), OURS.replace("0123", "7777")
    fleet = make_fleet(OURS, other, "before-the-migration")
    store.save(make_row())
    store.save(make_row(snapshot=lost))
    assert {seen.id: seen.standing for seen in look(fleet, store)} == {
        OURS: Standing.EXPIRED,
        lost: Standing.MISSING,
        other: Standing.UNRECORDED,
        "before-the-migration": Standing.FOREIGN,
    }


def test_one_that_nothing_can_be_put_back_by_is_unusable() -> None:
    found = Snapshot(OURS, NOW, ("vda",), fault="it is overfull")
    machine = ProvidedMachine("web", PowerState.RUNNING, snapshots=(found,))
    (seen,) = judge_snapshots("web", machine, [make_row()], NOW)
    assert (seen.standing, seen.message) == (Standing.UNUSABLE, "it is overfull")
    assert seen.standing in FORGOTTEN


def adopt(fleet: SnapshotFleet, store: SqlSnapshots, *, as_it_is: bool = False) -> list[tuple[str, str]]:
    adoptions = adopt_snapshots(fleet.described, fleet.ports(), store, DAY, as_it_is=as_it_is)
    return [(adoption.id, adoption.state.value) for adoption in adoptions]


def test_disks_that_somebody_has_taken_back_are_no_missing_snapshot(store: SqlSnapshots) -> None:
    fleet = make_fleet()
    store.save(make_row())
    fleet.hypervisor.taken_back.add("web")
    (seen,) = look(fleet, store)
    assert (seen.standing, seen.message) == (Standing.TAKEN_BACK, "somebody has taken back its disks")
    assert seen.remedy == "The way back."
    for _ in range(2):
        assert delete(fleet, store, make_row()).state is DeletionState.FAILED
    assert store.read_open() == (make_row(),), "it is not gone"
    assert adopt(fleet, store) == [("", "Refused")]
    assert adopt(fleet, store, as_it_is=True) == [("", "Restored")]
    assert [seen.standing for seen in look(fleet, store)] == [Standing.MISSING]


def test_a_snapshot_that_the_records_do_not_have_is_adopted_and_foreign_ones_are_not(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS, "before-the-migration")
    assert adopt(fleet, store) == [(OURS, "Adopted")]
    (row,) = store.read_open()
    now = fleet.clock.now()
    assert (row.machine, row.provider, row.expires_at, row.ordered_at) == ("web", "hv/web", now + DAY, NOW)
    assert adopt(fleet, store) == []
    assert delete(fleet, store, row, state=None).state is DeletionState.DELETED
    assert [snapshot.id for snapshot in fleet.provided("web").snapshots] == ["before-the-migration"]


def test_a_machine_that_was_renamed_keeps_the_run_and_the_end_of_its_snapshot(store: SqlSnapshots) -> None:
    store.save(make_row(machine="old-name"))
    assert adopt(make_fleet(OURS), store) == [(OURS, "Adopted")]
    assert store.read_open() == (make_row(),)
    (old,) = [row for row in store.read_all() if row.machine == "old-name"]
    assert (old.state, old.note) == (SnapshotState.GONE, "web has it")


def test_a_clone_does_not_take_the_snapshot_of_its_original(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS)
    (web,) = fleet.described
    fleet.described.append(replace(web, name="original", provider="hv/web"))
    original = make_row(machine="original")
    store.save(original)
    assert adopt(fleet, store) == [(OURS, "Adopted")]
    assert {row.machine for row in store.read_open()} == {"web", "original"}
    assert next(row for row in store.read_open() if row.machine == "original") == original


def test_what_the_records_do_not_have_is_deleted_only_as_what_a_run_has_taken(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS, "before-the-migration")
    (row,) = find_unrecorded(fleet.described[0], fleet.ports(), store, timedelta())
    assert store.read_all() == ()
    assert record_found(row, fleet.ports(), store)
    assert not record_found(row, fleet.ports(), store), "a run has stored it meanwhile: its row is not replaced"
    run = make_run(id=LATER, state=OperationState.IN_PROGRESS)
    records = SqlRecords(store._database)
    records.save(run)
    records.save(make_report(run=run, outcomes=(), plans=(make_plan(machine="web"),), waves=()))
    assert delete(fleet, store, row, state=None).state is DeletionState.REFUSED, "a run works on its machine"
    records.save(make_outcome(run_id=LATER, machine="web"))
    assert delete(fleet, store, row, state=None).state is DeletionState.DELETED


def test_a_provider_that_does_not_answer_is_unread_and_not_empty(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS)
    fleet.hypervisor.is_away = True
    (seen,) = look(fleet, store)
    assert (seen.standing, seen.id) == (Standing.UNREAD, "")
    store.save(make_row())
    (seen,) = look(fleet, store)
    assert (seen.standing, seen.id) == (Standing.UNREAD, OURS)


def test_a_snapshot_of_a_run_is_deleted_and_the_provider_proves_it(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS, "before-the-migration")
    store.save(make_row())
    assert delete(fleet, store, make_row()).state is DeletionState.DELETED
    assert [snapshot.id for snapshot in fleet.provided("web").snapshots] == ["before-the-migration"]
    assert store.read_open() == ()


def test_one_that_is_gone_already_is_not_ordered_away_and_looked_for_once_more(store: SqlSnapshots) -> None:
    fleet = make_fleet()
    store.save(make_row())
    missed = delete(fleet, store, make_row())
    assert (missed.state, "it is looked for once more" in missed.message) == (DeletionState.GONE, True)
    (row,) = store.read_open()
    assert delete(fleet, store, row).state is DeletionState.GONE
    assert [row.state for row in store.read_all()] == [SnapshotState.GONE]
    assert not fleet.hypervisor.orders


def test_one_that_its_provider_lists_again_is_deleted(store: SqlSnapshots) -> None:
    store.save(make_row())
    delete(make_fleet(), store, make_row())
    assert delete(make_fleet(OURS), store, make_row()).state is DeletionState.DELETED
    assert [row.state for row in store.read_all()] == [SnapshotState.DELETED]


def test_one_that_another_process_has_just_deleted_stays_deleted(store: SqlSnapshots) -> None:
    fleet = make_fleet()
    store.save(make_row())
    ports = fleet.ports()
    open_provider = ports.open_provider

    def delete_meanwhile(machine: Machine) -> Any:
        store.save(make_row(state=SnapshotState.DELETED))
        return open_provider(machine)

    others = replace(ports, open_provider=delete_meanwhile)
    assert delete(fleet, store, make_row(), ports=others).state is DeletionState.GONE
    assert [row.state for row in store.read_all()] == [SnapshotState.DELETED]


def test_what_the_records_do_not_have_is_never_deleted(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS)
    assert delete(fleet, store, make_row()).state is DeletionState.REFUSED
    assert not fleet.hypervisor.orders


@pytest.mark.parametrize("state", [OperationState.IN_PROGRESS, OperationState.UNKNOWN])
def test_a_run_that_is_not_over_keeps_its_snapshot(store: SqlSnapshots, state: OperationState) -> None:
    fleet = make_fleet(OURS)
    store.save(make_row())
    assert delete(fleet, store, make_row(), state).state is DeletionState.REFUSED
    assert not fleet.hypervisor.orders


@pytest.mark.parametrize("undo_of", [RUN, RUN[:15]])
def test_an_undo_that_is_not_over_keeps_the_snapshot_that_it_goes_back_to(store: SqlSnapshots, undo_of: str) -> None:
    fleet, records = make_fleet(OURS), SqlRecords(store._database)
    store.save(make_row())
    undo = make_run(id=LATER, state=OperationState.IN_PROGRESS, request={"undo_of": undo_of})
    records.save(undo)
    deletion = delete(fleet, store, make_row())
    assert (deletion.state, deletion.message) == (DeletionState.REFUSED, f"run {LATER} is not over, and may need it")
    records.save(replace(undo, state=OperationState.SUCCEEDED))
    assert delete(fleet, store, make_row()).state is DeletionState.DELETED


def test_a_run_that_works_on_the_machine_keeps_its_snapshots(store: SqlSnapshots) -> None:
    fleet, records = make_fleet(OURS), SqlRecords(store._database)
    store.save(make_row())
    run = make_run(id=LATER, state=OperationState.IN_PROGRESS)
    records.save(run)
    records.save(make_report(run=run, outcomes=(), plans=(make_plan(machine="web"),), waves=()))
    assert delete(fleet, store, make_row()).state is DeletionState.REFUSED
    records.save(make_outcome(run_id=LATER, machine="web"))
    assert delete(fleet, store, make_row()).state is DeletionState.DELETED


@pytest.mark.parametrize("changes", [{"snapshot": "before-the-migration"}, {"provider": "hv/db"}, {"state": "Taken"}])
def test_a_row_that_was_changed_in_the_database_deletes_nothing(store: SqlSnapshots, changes: dict[str, str]) -> None:
    fleet = make_fleet(OURS, "before-the-migration")
    store.save(make_row(state=SnapshotState.DELETED))
    with store._database.begin_write("tamper") as connection:
        connection.execute(update(snapshots).values(**changes))
    forged = make_row(snapshot=changes.get("snapshot", OURS))
    deletion = delete(fleet, store, forged)
    assert deletion.state is DeletionState.FAILED
    assert "doesn't fit its seal" in deletion.message
    assert not fleet.hypervisor.orders


def test_a_machine_that_moved_to_another_provider_keeps_what_was_taken_elsewhere(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS)
    store.save(make_row(provider="old-hv/web"))
    deletion = delete(fleet, store, make_row(provider="old-hv/web"))
    assert deletion.state is DeletionState.FAILED
    assert "delete it there" in deletion.message
    assert not fleet.hypervisor.orders


@pytest.mark.parametrize("fault", [ProviderFault.REFUSED, ProviderFault.AWAY_BEFORE])
def test_one_that_can_not_be_deleted_stays_known(store: SqlSnapshots, fault: ProviderFault) -> None:
    fleet = make_fleet(OURS)
    fleet.hypervisor.faults[ProviderAct.DELETE_SNAPSHOT] = [fault]
    store.save(make_row())
    assert delete(fleet, store, make_row()).state is DeletionState.FAILED
    (left,) = store.find_expired(NOW + 2 * DAY)
    assert "it is still there" in left.note
    assert delete(fleet, store, left).state is DeletionState.DELETED


def test_an_answer_that_was_lost_is_no_failure(store: SqlSnapshots) -> None:
    fleet = make_fleet(OURS)
    fleet.hypervisor.faults[ProviderAct.DELETE_SNAPSHOT] = [ProviderFault.AWAY_AFTER]
    store.save(make_row())
    assert delete(fleet, store, make_row()).state is DeletionState.DELETED


def test_a_run_stores_its_snapshot_before_it_is_ordered(store: SqlSnapshots) -> None:
    fleet = make_fleet()
    seen: list[SnapshotRow] = []
    follow = fleet.hypervisor.apply

    def watch(machine: str, order: Any) -> None:
        seen.extend(store.read_open(machine))
        follow(machine, order)

    fleet.hypervisor.apply = watch
    fleet.add("db", [FakePackage("a")])
    fleet.save_snapshot = store.save
    fleet.patch_with_snapshot()
    assert [row.state for row in seen] == [SnapshotState.UNKNOWN]
    (row,) = store.read_open()
    assert (row.machine, row.provider, row.state, row.used_bytes) == ("db", "hv/db", SnapshotState.TAKEN, 4096)
