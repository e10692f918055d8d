"""The columns that pages read, on both databases: kept up to date by every save, filled by the migration, pruned."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tasks.domain.states import Classification, OperationState, YesNoUnknown
from tasks.records import page_schema, schema
from tasks.records.queries.machines import (
    find_occupation,
    read_change_marker,
    read_last_runs,
    read_machine_runs,
    read_machine_state,
    read_machine_states,
    read_missing_since,
)
from tasks.records.queries.trends import CARRIED_DAYS, DayTotals, read_days
from tasks.records.queries.updates import OldUpdate, find_oldest_update
from tasks.records.retention import prune_history
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import BOTH, opened
from tests.support import builders as make

DAY = timedelta(days=1)


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as made:
        yield made


def test_the_order_in_which_assessments_are_saved_does_not_matter(records: SqlRecords) -> None:
    dice = random.Random(7)
    for number in range(20):
        name, made = f"m-{number}", []
        for step in dice.sample(range(40), 6):
            at = make.START + step * DAY / 4
            if dice.random() < 0.4:
                made.append(make.make_failed_assessment(machine=name, at=at, run_id=f"run-{step}"))
            else:
                updates = tuple(
                    make.make_update(id=f"u{each}", name=f"u{each}", classification=dice.choice(list(Classification)))
                    for each in range(dice.randrange(4))
                )
                state = make.make_package_state(updates=updates)
                made.append(make.make_assessment(machine=name, at=at, run_id=f"run-{step}", packages=state))
        for each in made:
            records.save(each)
        newest = max(made, key=lambda each: each.at)
        answered = max((each for each in made if each.packages), key=lambda each: each.at, default=None)
        found = read_machine_state(records.database, name)
        assert found is not None
        assert (found.run_id, found.at) == (newest.run_id, newest.at)
        assert found.error_kind == (newest.error.kind if newest.error else "")
        assert found.answered_at == (answered.at if answered else None)
        assert found.compliance == (answered.compliance.value if answered else "NotAssessed")
        assert found.critical + found.security == (answered.urgent_count if answered else 0)
        assert found.other == (answered.other_count if answered else 0)
        assert found.os_id == (answered.facts.os_id if answered and answered.facts else "")
    everything = read_machine_states(records.database)
    assert everything["m-3"] == read_machine_state(records.database, "m-3")


def test_only_machines_with_newer_assessments_are_read_again(records: SqlRecords) -> None:
    records.save(make.make_assessment(machine="a"))
    before = read_change_marker(records.database)
    assert read_change_marker(records.database) == before
    records.save(make.make_assessment(machine="b"))
    assert read_change_marker(records.database) != before
    assert set(read_machine_states(records.database, before.assessment)) == {"b"}
    assert set(read_machine_states(records.database)) == {"a", "b"}


def test_past_days_are_those_of_a_plain_count(records: SqlRecords) -> None:
    dice, first = random.Random(3), date(2026, 3, 1)
    answers: dict[str, dict[date, tuple[str, int, int, int, str]]] = {}
    for number in range(25):
        days = [first + DAY * step for step in range(30) if dice.random() < dice.choice([0.1, 0.5, 0.95])]
        answers[f"m-{number}"] = {
            day: (
                dice.choice(["Compliant", "NonCompliant", "NotAssessed"]),
                dice.randrange(5),
                dice.randrange(5),
                dice.randrange(5),
                dice.choice(["yes", "no"]),
            )
            for day in days
        }
    names = ("day", "machine", "compliance", "critical", "security", "other", "reboot")
    rows = [
        dict(zip(names, (day, name, *values), strict=True))
        for name, days in answers.items()
        for day, values in days.items()
    ]
    with records.database.begin_write("make days") as connection:
        connection.execute(page_schema.machine_days.insert(), rows)
    begin, end = first + DAY * 9, first + DAY * 29
    found = read_days(records.database, begin, end)
    assert list(found) == [begin + DAY * number for number in range(21)]
    for day, totals in found.items():
        expected = DayTotals()
        for of_machine in answers.values():
            last = max((each for each in of_machine if each <= day), default=None)
            if last is None or (day - last).days > CARRIED_DAYS or of_machine[last][0] == "NotAssessed":
                continue
            compliance, critical, security, other, reboot = of_machine[last]
            expected.compliant += compliance == "Compliant"
            expected.non_compliant += compliance == "NonCompliant"
            expected.urgent += critical + security
            expected.other += other
            expected.reboot += reboot == YesNoUnknown.YES
        assert totals == expected, day


def test_cves_are_stored_once_and_forgotten_with_the_last_trace_of_their_update(records: SqlRecords) -> None:
    update = make.make_update(name="openssl", cves=("CVE-2", "CVE-1", "CVE-2"))
    state = make.make_package_state(updates=(update,))
    for number in range(3):
        records.save(make.make_assessment(machine=f"m-{number}", packages=state))
    SqlRecords(records.database).save(make.make_assessment(machine="m-0", at=make.at(60), packages=state))
    assert _list_cves(records) == ["CVE-1", "CVE-2"]
    later = make.START + 900 * DAY
    prune_history(records, later)
    assert _list_cves(records) == ["CVE-1", "CVE-2"]  # machines lack it still
    for number in range(3):
        clean = make.make_package_state(updates=())
        records.save(make.make_assessment(machine=f"m-{number}", at=later, packages=clean))
    prune_history(records, later - DAY)
    assert _list_cves(records) == []


def _list_cves(records: SqlRecords) -> list[str]:
    with records.database.begin_read("list CVEs") as connection:
        return sorted(connection.execute(select(page_schema.update_cves.c.cve)).scalars())


def test_days_and_last_runs_go_with_the_runs_of_their_time(records: SqlRecords) -> None:
    records.save(make.make_report())
    assert read_last_runs(records.database)
    table = page_schema.machine_days
    with records.database.begin_read("count days") as connection:
        assert connection.execute(select(func.count()).select_from(table)).scalar_one() > 0
    prune_history(records, make.START + 900 * DAY)
    assert read_last_runs(records.database) == {}
    with records.database.begin_read("count days") as connection:
        assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_a_machine_s_runs_are_read_in_parts_and_an_unfinished_one_has_it(records: SqlRecords) -> None:
    for number in range(5):
        at = make.START + number * DAY
        run = make.make_run(id=f"run-{number}", started_at=at)
        outcome = make.make_outcome(run_id=run.id, started_at=at)
        records.save(make.make_report(run=run, outcomes=(outcome,), assessments=(), plans=()))
    assert [each.run_id for each in read_machine_runs(records.database, make.MACHINE, 1, 2)] == ["run-3", "run-2"]
    assert find_occupation(records.database, make.MACHINE) is None
    run = make.make_run(id="now", state=OperationState.IN_PROGRESS, ended_at=None)
    records.save(make.make_report(run=run, outcomes=(), assessments=(), plans=(make.make_plan(),)))
    found = find_occupation(records.database, make.MACHINE)
    assert found is not None
    assert found.run_id == "now"
    assert find_occupation(records.database, "other") is None


def test_the_oldest_update_is_the_one_that_was_seen_first(records: SqlRecords) -> None:
    assert find_oldest_update(records.database, lambda _: True) is None
    new = make.make_update(name="new", published=None)
    old = make.make_update(name="old", id="old", published=make.START - 40 * DAY)
    records.save(make.make_assessment(machine="a", at=make.START, packages=make.make_package_state(updates=(new,))))
    records.save(
        make.make_assessment(machine="b", at=make.at(99), packages=make.make_package_state(updates=(new, old)))
    )
    found = find_oldest_update(records.database, lambda _: True)
    assert found == OldUpdate("a", "new", make.START, machines=2)  # whatever b says of a publication
    found = find_oldest_update(records.database, "b".__eq__)
    assert found == OldUpdate("b", "new", make.at(99), machines=1)
    with records.database.begin_write("as automatic patching does") as connection:
        table = schema.missing_fixes
        connection.execute(table.insert(), {"machine": "b", "name": "new", "since": datetime(2020, 1, 1, tzinfo=UTC)})
        connection.execute(table.insert(), {"machine": "a", "name": "new", "since": make.START + 5 * DAY})
    found = find_oldest_update(records.database, lambda _: True)
    assert found == OldUpdate("b", "new", make.at(99), machines=2)  # a had it meanwhile; no claim makes b's older
    assert read_missing_since(records.database, ["a", "b"])["b", "new"].year == 2020


def test_of_the_oldest_updates_it_is_one_that_most_machines_lack(records: SqlRecords) -> None:
    lie = make.make_update(name="aaa-your-fleet-is-mine", id="x")
    for machine, updates in (("a", (lie,)), ("b", (make.make_update(),)), ("c", (make.make_update(),))):
        records.save(
            make.make_assessment(machine=machine, at=make.START, packages=make.make_package_state(updates=updates))
        )
    found = find_oldest_update(records.database, lambda _: True)
    assert found == OldUpdate("b", make.make_update().name, make.START, machines=2)
