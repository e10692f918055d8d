"""Processes that store assessments of the same machines at the same moment, and readers beside a writer."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from tasks.records import schema
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.states import OperationState
from tests.contract.records_subjects import BOTH
from tests.support import builders as make
from tests.support.postgres import fresh_database

ROOT = Path(__file__).parents[2]
MACHINES = 100
OTHER_DEFAULTS = "&options=-c%20default_transaction_isolation%3Dserializable"
REPORTS = 5

_TWO_PROCESSES = f"""
import multiprocessing, os, sys
from tasks.records.setup import open_records
from tests.support import builders as make

together = multiprocessing.get_context("fork").Barrier(2)
machines = [f"m{{number}}" for number in range({MACHINES})]

def found(machine, number, at):
    updates = tuple(make.make_update(id=f"{{number}}-{{each}}") for each in range(3))
    packages = make.make_package_state(updates=updates)
    return make.make_assessment(machine=machine, at=make.at(at), run_id=f"run-{{number}}", packages=packages)

def one_by_one(records, number):
    for turn, machine in enumerate(machines):
        together.wait(60)  # so that they store at the same moment, machine by machine
        records.save(found(machine, number, (turn + number) % 2))

def in_reports(records, number):
    for turn in range({REPORTS}):
        assessments = tuple(found(machine, number, 2 * turn + number) for machine in machines[:: 1 - 2 * number])
        run = make.make_run(id=f"run-{{number}}")
        together.wait(60)
        records.save(make.make_report(run=run, assessments=assessments, outcomes=(), plans=()))

children = []
for number in range(2):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with open_records(sys.argv[1]) as records:
                globals()[sys.argv[2]](records, number)
            status = 0
        finally:
            os._exit(status)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["one_by_one", "in_reports"])
@pytest.mark.parametrize("kind", [*BOTH, pytest.param("postgres, tuned", marks=pytest.mark.postgres)])
def test_of_two_assessments_of_one_machine_the_newer_ones_updates_are_pending(
    kind: str, how: str, tmp_path: Path
) -> None:
    if kind == "sqlite":
        _store_at_once(f"sqlite:///{tmp_path / 'records.db'}", how)
        return
    with fresh_database() as url:
        _store_at_once(f"{url}{OTHER_DEFAULTS}" if kind == "postgres, tuned" else url, how)


def _store_at_once(url: str, how: str) -> None:
    open_records(url).close()
    command = [sys.executable, "-c", _TWO_PROCESSES, url, how]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    table, pending = schema.assessments, schema.assessment_updates
    query = select(table.c.machine, table.c.at, pending.c.update_id).join_from(table, pending)
    with open_records(url) as records, records.database.begin_read("look") as connection:
        found = sorted((machine, at, update) for machine, at, update in connection.execute(query))

    newest = {turn: (1, 1 - turn % 2) if how == "one_by_one" else (2 * REPORTS - 1, 1) for turn in range(MACHINES)}
    wanted = [
        (f"m{turn}", make.at(at), f"{number}-{each}") for turn, (at, number) in newest.items() for each in range(3)
    ]
    assert found == sorted(wanted)


class TestReading:
    def test_a_reader_sees_one_moment_whatever_others_store_meanwhile(self, records: SqlRecords) -> None:
        records.save(make.make_run(state=OperationState.IN_PROGRESS, ended_at=None))
        count = select(schema.outcomes.c.machine)
        state = select(schema.runs.c.state)
        with records.database.begin_read("look") as connection:
            assert connection.execute(state).scalars().all() == [OperationState.IN_PROGRESS.value]
            records.save(make.make_report())
            assert connection.execute(count).scalars().all() == []
            assert connection.execute(state).scalars().all() == [OperationState.IN_PROGRESS.value]
        assert History(records).read_report(make.RUN_ID).run.state is not OperationState.IN_PROGRESS

    def test_a_reader_does_not_keep_writers_waiting(self, records: SqlRecords) -> None:
        with records.database.begin_read("look") as connection:
            connection.execute(select(schema.runs.c.state)).all()
            records.save(make.make_assessment())
            records.save(make.make_report())
        assert History(records).read_report(make.RUN_ID).outcomes
