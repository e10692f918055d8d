"""Records of maintenance control: groups, packages, and the runs that apply them. On SQLite and PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tasks.domain.errors import RequestError, SealBroken
from tasks.domain.states import OperationState
from tasks.records.maintenance import GroupRecord, PackageUpdate, SqlMaintenance
from tasks.records.maintenance_schema import held_packages
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.maintenance.model import (
    Application,
    ApplyCause,
    GroupState,
    HeldPackage,
    PackageEnd,
)
from tests.contract.records_subjects import BOTH, new_database
from tests.support.builders import RUN_ID, make_outcome, make_run

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UPDATES = (
    PackageUpdate("curl", "8", "Security", 2, NOW - DAY, requires_reboot=False),
    PackageUpdate("bash", "5\x00\ud800", "Other", 1, NOW),
)
STATE = GroupState("web", 3, HeldPackage(3, NOW - DAY, NOW + DAY), NOW)
RECORD = GroupRecord(STATE, "web", 35 * 86400.0, ("web-1", "web-2"), 1, UPDATES, impact="Restart")


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with new_database(request.param, tmp_path) as url, open_records(url) as made:
        yield made


def make_application(key: str = "web/3/a", **changes: object) -> Application:
    base = Application(key, 3, ApplyCause.PERSON, "ann", NOW)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_group_comes_back_as_it_was(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    assert maintenance.read_groups() == {}
    assert maintenance.read_state("web") is None
    maintenance.save_look(RECORD)
    maintenance.save_look(RECORD)
    assert maintenance.read_groups() == {"web": RECORD}
    assert maintenance.read_state("web") == STATE


def test_a_package_ends_and_the_next_one_begins_in_one_look(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    maintenance.save_look(RECORD)
    ended = HeldPackage(3, NOW - DAY, None, NOW + HOUR, PackageEnd.APPLIED)
    state = GroupState("web", 4, HeldPackage(4, NOW + HOUR, None), NOW + HOUR)
    maintenance.save_look(replace(RECORD, state=state, updates=UPDATES[:1]), ended)
    found = maintenance.read_groups()["web"]
    assert found == replace(RECORD, state=state, updates=UPDATES[:1], last_ended=ended)


def test_a_removed_group_is_held_no_more_and_keeps_its_first_moment(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    maintenance.save_look(RECORD)
    maintenance.remove_group("web", NOW + HOUR)
    assert maintenance.read_state("web") is None
    found = maintenance.read_groups()["web"]
    assert found.removed_at == NOW + HOUR
    assert found.last_ended == HeldPackage(3, NOW - DAY, None, NOW + HOUR, PackageEnd.REMOVED)


def test_a_group_that_comes_back_is_held_again(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    maintenance.save_look(RECORD)
    maintenance.remove_group("web", NOW + HOUR)
    maintenance.save_look(replace(RECORD, state=replace(STATE, number=4, package=HeldPackage(4, NOW))))
    assert maintenance.read_groups()["web"].removed_at is None


def test_a_package_that_was_changed_by_sql_is_shown_and_not_acted_on(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database, require_seals=True)
    maintenance.save_look(RECORD)
    assert maintenance.read_state("web") == STATE
    with records.database.begin_write("tamper") as connection:
        connection.execute(update(held_packages).values(first_seen=NOW - 90 * DAY))
    with pytest.raises(SealBroken):
        maintenance.read_state("web")
    shown = SqlMaintenance(records.database).read_state("web")
    assert shown is not None
    assert shown.package is not None
    assert shown.package.first_seen == NOW - 90 * DAY


def test_a_package_that_ended_has_a_seal_of_its_end(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database, require_seals=True)
    maintenance.save_look(RECORD)
    maintenance.remove_group("web", NOW)
    assert maintenance.read_groups()["web"].state.package is None


def test_one_of_two_people_gets_the_package(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    maintenance.save_look(RECORD)
    assert maintenance.begin_application("web", make_application(), NOW + HOUR)
    assert not maintenance.begin_application("web", make_application(), NOW + HOUR)
    with pytest.raises(RequestError, match="is being applied already: run that has not begun, by ann"):
        maintenance.begin_application("web", make_application("web/3/b"), NOW + HOUR)
    assert maintenance.begin_application("db", make_application("db/3/b"), NOW + HOUR)
    assert [each.application.key for each in maintenance.read_waiting()] == ["db/3/b", "web/3/a"]


def test_of_many_at_once_one_begins(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)

    def begin(number: int) -> bool:
        try:
            return maintenance.begin_application("web", make_application(f"web/3/{number}"), NOW + HOUR)
        except RequestError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(8))) == 1


def test_an_application_has_the_state_of_its_run(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    maintenance.save_look(RECORD)
    maintenance.begin_application("web", make_application(), NOW + HOUR)
    maintenance.set_run("web/3/a", RUN_ID)
    records.save(make_run(state=OperationState.IN_PROGRESS, ended_at=None))
    (running,) = maintenance.read_groups()["web"].state.applications
    assert running.is_active
    assert running.run_id == RUN_ID
    records.save(make_run(state=OperationState.SUCCEEDED))
    records.save(make_outcome())
    (ended,) = maintenance.read_groups()["web"].state.applications
    assert ended.state is OperationState.SUCCEEDED
    assert ended.ended_at == make_run().ended_at
    assert ended.done == {make_outcome().machine}
    assert maintenance.begin_application("web", make_application("web/3/b"), NOW + HOUR)


def test_a_refused_application_is_over(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    maintenance.save_look(RECORD)
    maintenance.begin_application("web", make_application(), NOW + HOUR)
    maintenance.set_flow_run("web/3/a", "f1")
    assert [each.flow_run_id for each in maintenance.read_waiting()] == ["f1"]
    maintenance.refuse("web/3/a", "no worker", NOW + HOUR)
    found = maintenance.find_application("web/3/a")
    assert found is not None
    assert found.application == make_application(refusal="no worker", ended_at=NOW + HOUR)
    assert maintenance.read_waiting() == ()
    assert maintenance.find_application("other") is None


def test_old_packages_are_forgotten_and_what_is_held_is_not(records: SqlRecords) -> None:
    maintenance = SqlMaintenance(records.database)
    maintenance.save_look(RECORD)
    maintenance.begin_application("web", make_application(), NOW + HOUR)
    ended = HeldPackage(3, NOW - DAY, None, NOW, PackageEnd.APPLIED)
    later = GroupState("web", 4, HeldPackage(4, NOW), NOW)
    maintenance.save_look(replace(RECORD, state=later), ended)
    maintenance.save_look(replace(RECORD, state=replace(STATE, group="gone"), updates=()))
    maintenance.remove_group("gone", NOW)
    prune_history(records, NOW + 9 * DAY)
    groups = maintenance.read_groups()
    assert set(groups) == {"web"}
    assert groups["web"].last_ended is None
    assert groups["web"].state.package == HeldPackage(4, NOW)
    assert maintenance.find_application("web/3/a") is None
