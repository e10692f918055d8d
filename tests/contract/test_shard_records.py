"""What the runs of shards did is found at the whole run, and counted once."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.errors import RunNotFound
from tasks.domain.model import JobOutput
from tasks.domain.protocols.leases import LeaseHolder
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.domain.states import OperationState, Step
from tasks.domain.undo import UndoSnapshot
from tasks.records.queries.history import History
from tasks.records.queries.live_runs import read_run_processes
from tasks.records.queries.machines import count_machine_runs, read_machine_runs
from tasks.records.queries.runs import RunFilter, count_runs, read_run_rows
from tasks.records.queries.shard_rows import read_shard_rows
from tasks.records.queries.updates import read_installations, read_last_update_results
from tasks.records.queries.whole_journal import read_whole_journal
from tasks.records.retention import apply_retention, save_retention
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.rules.retention import Retention
from tests.contract.records_subjects import BOTH, opened
from tests.contract.test_snapshots import make_row
from tests.support import builders as make

WHOLE = "20260310-010000-aaaaaa"
SHARD = f"{WHOLE}-1"


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    """Records of a run with one shard, and one that has not begun."""
    with opened(request.param, tmp_path) as made:
        whole = make.make_run(id=WHOLE)
        shard = replace(whole, id=SHARD, request={"shard": SHARD}, site="hamburg")
        outcome = make.make_outcome(machine="web-1", run_id=SHARD)
        made.save(whole)
        for number in (1, 2):
            entry = JournalEntry(
                WHOLE,
                "",
                Step.ASSESS,
                JournalMark.BEFORE,
                SHARD_ACT,
                f"{WHOLE}-{number}",
                make.at(0),
                {"wave": 1, "site": "hamburg", "request": {"only_machines": ["web-1"]}},
            )
            made.append_entry(entry)
        made.save(shard)
        job = JournalEntry(SHARD, "web-1", Step.INSTALL, JournalMark.BEFORE, "install", "job-1", make.at(1), {})
        made.append_entry(job)
        made.save(JobOutput(SHARD, "web-1", "job-1", "Setting up openssl"))
        made.save(outcome)
        made.save(replace(outcome, run_id=WHOLE))
        yield made


def test_lists_of_runs_leave_shards_out_unless_they_are_asked_for(records: SqlRecords) -> None:
    history, database = History(records), records.database

    assert [run.id for run in history.read_runs()] == [WHOLE]
    assert [run.id for run in history.read_runs(kind="shard")] == [SHARD]
    assert [row.run_id for row in read_run_rows(database, RunFilter(), 0, 9)] == [WHOLE]
    assert [row.kind for row in read_run_rows(database, RunFilter(kinds=("shard",)), 0, 9)] == ["shard"]
    assert [row.run_id for row in read_run_rows(database, RunFilter(run_id=SHARD), 0, 9)] == [SHARD]
    assert count_runs(database, RunFilter()) == 1
    assert set(read_run_processes(database, make.at(0))) <= {WHOLE}


def test_a_run_is_found_by_the_beginning_of_its_id_and_a_shard_by_its_id(records: SqlRecords) -> None:
    history = History(records)

    assert history.find_run(WHOLE[:12]).id == WHOLE
    assert history.find_run(SHARD).id == SHARD
    with pytest.raises(RunNotFound):
        history.find_run(f"{WHOLE}-")


def test_each_result_counts_once(records: SqlRecords) -> None:
    database = records.database
    name = make.make_outcome(machine="web-1").updates[0].update.name

    assert count_machine_runs(database, "web-1") == 1
    assert [run.run_id for run in read_machine_runs(database, "web-1", 0, 9)] == [WHOLE]
    assert {result.run_id for result in read_last_update_results(database, name).values()} == {WHOLE}
    assert {update.run_id for update in read_installations(database, name)} <= {WHOLE}
    assert len(History(records).explain_updates("web-1")) == len(make.make_outcome(machine="web-1").updates)


def test_the_whole_run_has_the_journal_and_the_output_of_its_shards(records: SqlRecords) -> None:
    history = History(records)

    assert [entry.act for entry in read_whole_journal(history, WHOLE)] == ["shard", "shard", "install"]
    assert [entry.act for entry in read_whole_journal(history, WHOLE, "web-1")] == ["install"]
    assert dict(history.open_job_logs(WHOLE)) == {"web-1": "Setting up openssl"}
    assert dict(history.open_job_logs(SHARD, "web-1")) == {"web-1": "Setting up openssl"}
    assert [entry.act for entry in history.read_journal(WHOLE)] == ["shard", "shard"]


def test_a_stop_of_the_run_is_one_of_its_shards_that_are_not_over(records: SqlRecords) -> None:
    shard = History(records).find_run(SHARD)
    records.save(replace(shard, state=OperationState.SUCCEEDED))
    records.save(replace(History(records).find_run(WHOLE), state=OperationState.IN_PROGRESS))

    records.leases.request_stop(WHOLE, "anne", "enough")

    over, waiting = (records.leases.find_lease(f"{WHOLE}-{number}") for number in (1, 2))
    assert over is None
    assert waiting is not None
    assert waiting.stop is not None
    assert (waiting.stop.who, waiting.stop.reason) == ("anne", "enough")


def test_the_snapshots_of_shards_that_are_over_are_those_of_the_run(records: SqlRecords) -> None:
    store, whole = SqlSnapshots(records.database, records.seals), History(records).find_run(WHOLE)
    row = make_row(machine="web-1", run_id=SHARD)
    store.save(row)
    records.save(replace(History(records).find_run(SHARD), state=OperationState.IN_PROGRESS))
    assert store.find_of_run(whole) == {}, "the shard may still need it"
    records.save(replace(History(records).find_run(SHARD), state=OperationState.SUCCEEDED))
    later = replace(whole, id="20260311-010000-bbbbbb", started_at=make.at(3600))
    shard = replace(later, id=f"{later.id}-1", request={"shard": f"{later.id}-1"})
    for run in (later, shard):
        records.save(run)
        records.save(make.make_outcome(machine="web-1", run_id=run.id))
    assert store.find_of_run(whole) == {"web-1": UndoSnapshot(row, (later.id,))}


def test_an_old_run_takes_its_shards_along(records: SqlRecords) -> None:
    whole = make.make_run(id="20250310-010000-bbbbbb", kind="assess", started_at=make.at(0) - timedelta(days=200))
    shard = replace(whole, id=f"{whole.id}-1", request={"shard": f"{whole.id}-1"}, site="hamburg")
    records.save(whole)
    records.save(shard)
    records.append_entry(
        JournalEntry(whole.id, "", Step.ASSESS, JournalMark.BEFORE, SHARD_ACT, shard.id, make.at(0), {"wave": 0})
    )
    save_retention(records, Retention(assessments_days=90, runs_days=None))

    assert apply_retention(records, make.at(0), lambda: True).runs == 2
    assert [run.id for run in (*History(records).read_runs(), *History(records).read_runs(kind="shard"))] == [
        WHOLE,
        SHARD,
    ]


def test_the_parts_of_a_run_have_rows(records: SqlRecords) -> None:
    closed = JournalEntry(
        WHOLE, "", Step.ASSESS, JournalMark.AFTER, SHARD_ACT, f"{WHOLE}-2", make.at(9), {"reason": "enough"}
    )
    records.append_entry(closed)
    shard = History(records).find_run(SHARD)
    records.save(replace(shard, state=OperationState.IN_PROGRESS, ended_at=None))

    begun, never = read_shard_rows(records.database, WHOLE, make.at(60))

    assert (begun.run_id, begun.site, begun.wave, begun.state) == (SHARD, "hamburg", 1, OperationState.IN_PROGRESS)
    assert (begun.started_at, begun.ended_at, begun.silent_since) == (shard.started_at, None, shard.started_at)
    assert (never.state, never.started_at, never.silent_since, never.message) == (
        OperationState.NOT_STARTED,
        None,
        None,
        "enough",
    )
    assert read_shard_rows(records.database, SHARD, make.at(60)) == ()
    records.leases.acquire(SHARD, LeaseHolder("one", "there", 1, "sim"), 600.0)
    assert read_shard_rows(records.database, WHOLE, make.at(60))[0].silent_since is None


def test_an_assessment_at_a_site_is_silent_without_news(records: SqlRecords) -> None:
    shard = History(records).find_run(SHARD)
    records.save(replace(shard, kind="assess", state=OperationState.IN_PROGRESS, started_at=make.at(0)))

    silent = [
        read_shard_rows(records.database, WHOLE, make.at(0) + timedelta(seconds=seconds))[0].silent_since
        for seconds in (40, 50)
    ]
    assert silent == [None, make.at(0)]
