"""Processes that store assessments of the same machines at the same moment, and readers beside a writer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.contract.records_processes import MACHINES, REPORTS, store_in_reports, store_one_by_one
from tests.contract.records_subjects import BOTH, new_database
from tests.support import builders as make
from tests.support.forked_calls import begin_call, make_barrier

OTHER_DEFAULTS = "&options=-c%20default_transaction_isolation%3Dserializable"


@pytest.mark.slow
@pytest.mark.parametrize("how", [store_one_by_one, store_in_reports])
@pytest.mark.parametrize("kind", [*BOTH, pytest.param("postgres, tuned", marks=pytest.mark.postgres)])
def test_of_two_assessments_of_one_machine_the_newer_ones_updates_are_pending(
    kind: str, how: Callable[..., None], tmp_path: Path
) -> None:
    with new_database(kind, tmp_path) as url:
        _store_at_once(f"{url}{OTHER_DEFAULTS}" if kind == "postgres, tuned" else url, how)


def _store_at_once(url: str, how: Callable[..., None]) -> None:
    together = make_barrier(2)
    calls = [begin_call(how, url, number, together) for number in range(2)]
    assert [(call.receive(), call.end()) for call in calls] == [("stored", 0)] * 2
    table, pending = schema.assessments, schema.assessment_updates
    query = select(table.c.machine, table.c.at, pending.c.update_id).join_from(table, pending)
    with open_records(url) as records, records.database.begin_read("look") as connection:
        found = sorted((machine, at, update) for machine, at, update in connection.execute(query))

    one_by_one = how is store_one_by_one
    newest = {turn: (1, 1 - turn % 2) if one_by_one else (2 * REPORTS - 1, 1) for turn in range(len(MACHINES))}
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
