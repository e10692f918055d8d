"""Two fleets with equal paths and names in one database: neither sees, takes or stops what is the other's."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import psycopg
import pytest
from sqlalchemy import QueuePool, insert, make_url, select, text

from flows.recovery.unfinished_runs import find_abandoned_runs
from tasks.domain.errors import RecordsError, RecordsUnavailable, RunNotFound, SealBroken
from tasks.domain.protocols.leases import LeaseHolder, SetSlot
from tasks.domain.rows.audit import AuditEntry, AuditResult
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.verification import AuditState, verify_log
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.fleets import build_file_path, use_fleet
from tasks.records.queries.connections import read_server_room
from tasks.records.queries.history import History
from tasks.records.queries.other_fleets import find_other_fleets
from tasks.records.set_slots import SqlSetSlots
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.database import CONNECTIONS_VARIABLE, Database
from tasks.records.window_claims import SqlWindowClaims
from tasks.rules.policy.model import PolicyFile
from tests.contract.records_subjects import BOTH, new_database
from tests.support import builders as make
from tests.support.automatic_fleet import AutomaticFleet
from tests.support.fake_clock import FakeClock

SOUTH, NORTH = "south", "Nørth site's"
NOW = datetime(2026, 11, 24, 22, tzinfo=UTC)
ANNE = ("anne", "os", "", "")
POLICY = (PolicyFile("/etc/fleetpatch/configurations/policy.yaml", "ab" * 32),)


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as made:
        yield made


@dataclass
class Pair:
    """The records of two fleets in one database."""

    url: str
    south: SqlRecords
    north: SqlRecords

    @property
    def both(self) -> tuple[SqlRecords, SqlRecords]:
        return self.south, self.north


@pytest.fixture
def pair(url: str) -> Iterator[Pair]:
    with open_records(url, fleet=SOUTH) as south, open_records(url, fleet=NORTH) as north:
        yield Pair(url, south, north)


def test_a_fleet_leaves_the_abandoned_run_of_the_other_one_to_it(pair: Pair) -> None:
    run = make.make_run(state=OperationState.IN_PROGRESS, ended_at=None)
    pair.south.save(run)
    pair.south.leases.acquire(run.id, LeaseHolder("token", "ctl", 1, "anne"), 0.001)
    for fleet, expected in ((NORTH, []), ("default", []), (SOUTH, [run.id])):
        with use_fleet(fleet):
            assert [left.run.id for left in find_abandoned_runs(pair.url)] == expected, fleet
    with open_records(pair.url) as shared:
        for others in (pair.north, shared):
            with pytest.raises(RunNotFound, match=f"run {run.id} belongs to the fleet south, and this is the fleet"):
                History(others).find_run(run.id)
            assert find_other_fleets(others.database) == (SOUTH,)
            with pytest.raises(RunNotFound, match="there is no run") as unknown:
                History(others).find_run("other")
            assert "this database also has: south. Set FLEETPATCH_FLEET." in unknown.value.hint
    assert find_other_fleets(pair.south.database) == ()


def test_windows_slots_and_machines_of_one_name_are_each_fleets_own(pair: Pair) -> None:
    for name, records in zip((SOUTH, NORTH), pair.both, strict=True):
        claim = SqlWindowClaims(records.database).claim_window("web", NOW, name, name, NOW)
        assert claim.run_id == name
        records.save(make.make_run(id=name, state=OperationState.IN_PROGRESS, ended_at=None))
        slot = SetSlot("web", make.MACHINE, name, NOW)
        assert SqlSetSlots(records.database).take([slot], lambda _: lambda taken: "full" if taken else "") == ""
        assert [each.run_id for each in SqlSetSlots(records.database).find()] == [name]
        records.save(make.make_assessment(run_id=name))
        latest = History(records).read_latest_assessments([make.MACHINE], answered=False)
        assert [each.run_id for each in latest.values()] == [name]


def test_a_rollout_of_one_fleet_does_not_stop_the_other_ones(pair: Pair, tmp_path: Path) -> None:
    for name, records in zip((SOUTH, NORTH), pair.both, strict=True):
        with use_fleet(name):
            fleet = AutomaticFleet(pair.url, records, tmp_path, FakeClock())
            fleet.assess(make.make_update(name="curl", available="8"))
            fleet.begin()
            (rollout,) = SqlRollouts(records.database).read_newest()
            (request,) = fleet.started("patch-fleet/on-demand")
            assert request.updates.as_in_run == f"rollout:{rollout.id}"


def test_each_audit_log_is_whole_and_its_end_is_known(pair: Pair) -> None:
    logs = [SqlAuditLog(records.database) for records in pair.both]
    for number in range(3):
        for log in logs[number % 2 :]:
            log.append(
                AuditEntry(
                    at=NOW,
                    who="anne",
                    address="",
                    act="assess",
                    subject=str(number),
                    detail="",
                    result=AuditResult.DONE,
                )
            )
    found = [verify_log(log) for log in logs]
    assert [(each.state, each.entries) for each in found] == [(AuditState.INTACT, 2), (AuditState.INTACT, 3)]
    with pair.north.database.begin_write("cut off the end") as connection:
        connection.execute(text("DELETE FROM audit_log WHERE number = 3"))
    assert [verify_log(log).state is AuditState.INTACT for log in logs] == [True, False]


def test_a_run_that_is_copied_from_one_fleet_to_the_other_is_not_executed(pair: Pair) -> None:
    """Attacker: who can write the database. Way: a sealed run of another fleet. It must be refused."""
    pair.south.save(make.make_run(state=OperationState.IN_PROGRESS, ended_at=None))
    _copy_runs(pair.south.database, pair.north.database)
    assert History(pair.south, require_seals=True).find_run(make.RUN_ID).id == make.RUN_ID
    with pytest.raises(SealBroken, match="doesn't fit its seal"):
        History(pair.north, require_seals=True).find_run(make.RUN_ID)


def _copy_runs(source: Database, target: Database) -> None:
    with source.begin_read("copy") as reading, target.begin_write("copy") as writing:
        for row in reading.execute(select(schema.runs)).mappings():
            writing.execute(insert(schema.runs), dict(row))


def test_the_records_of_one_fleet_are_not_taken_for_those_of_another(url: str, tmp_path: Path) -> None:
    open_records(url, fleet=SOUTH).close()
    if url.startswith("sqlite"):
        shutil.copy(tmp_path / "records@south.db", build_file_path(tmp_path / "records.db", NORTH))
    else:
        with open_records(url, fleet=NORTH) as north, north.database.begin_write("become another's") as connection:
            connection.execute(text("UPDATE fleet_stamp SET fleet = 'south'"))
    with pytest.raises(RecordsError, match=f"has the records of the fleet south, and not those of {NORTH}"):
        open_records(url, fleet=NORTH)


@pytest.mark.postgres
def test_a_pooler_may_give_each_transaction_another_session(tmp_path: Path) -> None:
    """No setting of a session is needed: after a transaction, its session is as it was."""
    with new_database("postgres", tmp_path) as url, open_records(url, fleet=SOUTH) as records:
        with records.database.begin_write("look") as connection:
            assert connection.execute(text("SELECT current_schemas(false)")).scalar_one() == ["fleet_south"]
        with closing(records.database.engine.raw_connection()) as session, closing(session.cursor()) as cursor:
            cursor.execute("SELECT current_schemas(false)")
            assert cursor.fetchall() == [(["public"],)]


@pytest.mark.postgres
def test_doctor_counts_the_connections_that_others_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTIONS_VARIABLE, "2")
    with (
        new_database("postgres", tmp_path) as url,
        open_records(url, fleet=SOUTH) as records,
        records.database.begin_read("hold one") as first,
    ):
        before = read_server_room(records.database)
        limit = first.execute(text("SHOW max_connections")).scalar_one()
        address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, application_name="another program"):
            after = read_server_room(records.database)
            monkeypatch.setattr(records.database.engine.pool, "_timeout", 0.1)
            with records.database.begin_read("hold a second one"), pytest.raises(RecordsError):
                read_server_room(records.database)  # a third one
    assert before is not None
    assert after is not None
    assert (str(after.limit), after.others) == (limit, before.others + 1)


@pytest.mark.postgres
def test_a_process_has_one_bound_of_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTIONS_VARIABLE, "2")
    with (
        new_database("postgres", tmp_path) as url,
        open_records(url) as first,
        open_records(url) as second,
        open_records(url, fleet=SOUTH) as south,
    ):
        monkeypatch.setattr(first.database.engine.pool, "_timeout", 0.1)
        with first.database.begin_read("hold one"), second.database.begin_read("hold the other"):
            with pytest.raises(RecordsUnavailable, match="all connections are busy"), open_records(url):
                pass
            with south.database.begin_read("use another fleet's tables"):
                pass
            first.close()
        with second.database.begin_read("go on after another's end"):
            assert cast("QueuePool", second.database.engine.pool).checkedout() == 1
        second.close()
        assert cast("QueuePool", second.database.engine.pool).checkedin() == 0
