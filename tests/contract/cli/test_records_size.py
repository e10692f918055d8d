"""What the records cost: how often something is written, and how much is read to answer a question."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.model import RunReport
from tasks.records.encoding import codec
from tasks.records.encoding.codec import build_validator
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.contract.cli.conftest import Stage
from tests.support import builders as make
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet


@pytest.fixture
def records(tmp_path: Path, empty_records: Path) -> Iterator[SqlRecords]:
    with open_records(f"sqlite:///{shutil.copy(empty_records, tmp_path)}") as opened:
        yield opened


@contextmanager
def statements(records: SqlRecords) -> Iterator[list[str]]:
    """Every statement that reaches the database meanwhile; one with many rows counts once a row."""
    seen: list[str] = []

    def note(_c: object, _cur: object, statement: str, parameters: object, _ctx: object, many: bool) -> None:
        seen.extend([statement] * (len(parameters) if many and isinstance(parameters, list) else 1))

    event.listen(records.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(records.database.engine, "before_cursor_execute", note)


def written(seen: list[str]) -> Counter[str]:
    """How many rows were put into each table."""
    return Counter(words.split()[2] for words in seen if words.startswith("INSERT INTO"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many documents of each kind were decoded."""
    counts: Counter[str] = Counter()

    def counting(kind: type) -> object:
        counts[kind.__name__] += 1
        return build_validator(kind)

    monkeypatch.setattr(codec, "build_validator", counting)
    return counts


def _fleet(machines: int) -> SimFleet:
    fleet = SimFleet()
    for number in range(machines):
        fleet.add(f"m{number}", [FakePackage("a"), FakePackage("b")])
    return fleet


def _run(fleet: SimFleet, records: SqlRecords, request: PatchRequest | AssessRequest) -> RunReport:
    ports = replace(fleet.ports(), records=records)
    return FleetRun(request, ports, LocalRunner(), run_id=make.RUN_ID).execute()


def test_a_run_writes_what_it_found_and_what_became_of_it_once(records: SqlRecords) -> None:
    fleet = _fleet(3)
    with statements(records) as seen:
        report = _run(fleet, records, fleet.request())
    rows = written(seen)
    # Each machine is assessed, and once more when it is validated.
    assert rows["assessments"] == 2 * 3
    assert rows["outcomes"] == 3
    assert rows["update_results"] == 3 * 2
    assert len(report.outcomes) == 3


def test_a_run_that_only_assesses_writes_once(records: SqlRecords) -> None:
    fleet = _fleet(3)
    with statements(records) as seen:
        _run(fleet, records, AssessRequest(scope="*", at_once=1))
    rows = written(seen)
    assert (rows["assessments"], rows["outcomes"]) == (3, 3)


def test_what_was_learned_of_a_machine_is_asked_once_in_its_turn(records: SqlRecords) -> None:
    fleet = _fleet(1)
    with statements(records) as seen:
        _run(fleet, records, fleet.request())
    assert sum("FROM measures" in each for each in seen) <= 4


def _large(records: SqlRecords, machines: int = 30) -> None:
    names = [f"m{number}" for number in range(machines)]
    records.save(
        make.make_report(
            outcomes=[make.make_outcome(machine=name) for name in names],
            assessments=[make.make_assessment(machine=name) for name in names],
            plans=tuple(make.make_plan(machine=name) for name in names),
            waves=(make.make_wave(machines=tuple(names)),),
        )
    )
    for name in names:
        records.save(make.make_job_output(machine=name))
        records.append_entry(make.make_journal_entry(machine=name))


def test_one_machine_of_a_run_is_shown_without_reading_the_others(stage: Stage, decoded: Counter[str]) -> None:
    with open_records(stage.url) as records:
        _large(records)
    for words in ((), ("--json",), ("--log",), ("--journal",)):
        decoded.clear()
        said = stage.run("show", "last", "--machine", "m7", *words)
        assert said.code == 0, said.err
        assert "m7" in said.out
        assert decoded["Outcome"] + decoded["Assessment"] + decoded["Plan"] + decoded["RunPlans"] <= 4, words
        assert decoded["JournalEntry"] <= 1, words


def test_a_fleet_is_listed_without_reading_what_is_superseded(records: SqlRecords, decoded: Counter[str]) -> None:
    for day in range(20):
        for name in ("a", "b"):
            records.save(make.make_assessment(machine=name, at=make.at(86_400 * day), run_id=f"run-{day}"))
    for answered in (False, True):
        decoded.clear()
        with statements(records) as seen:
            found = History(records).read_latest_assessments(["a", "b"], answered=answered)
        assert {name: each.run_id for name, each in found.items()} == {"a": "run-19", "b": "run-19"}
        assert decoded["Assessment"] == 2
        plan = _plan_of(records, seen)
        assert not any("SCAN assessments" in line for line in plan), plan


def _plan_of(records: SqlRecords, seen: list[str]) -> list[str]:
    query = next(each for each in seen if each.startswith(("SELECT assessments", "WITH")))
    with records.database.engine.connect() as connection:
        count = query.count("?")
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", tuple("a" for _ in range(count)))
        return [row.detail for row in rows]
