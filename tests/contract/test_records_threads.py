"""Many threads of one run write to the same records at the same time."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from sqlalchemy import event

from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.support import builders as make


class _Compared(str):
    """A run's id; whenever it is compared with an equal one, something happens first."""

    __hash__ = str.__hash__
    meanwhile: Callable[[], None]

    def __eq__(self, other: object) -> bool:
        self.meanwhile()
        return str.__eq__(self, other)


def test_another_thread_may_store_an_outcome_at_any_moment_of_storing_a_report(tmp_path: Path) -> None:
    # A machine that is planned for late stores the report while the others of its wave come to their ends.
    run_id, names = _Compared(make.RUN_ID), count()
    with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records:
        records.save(make.make_report(outcomes=(), plans=tuple(make.make_plan(machine=f"p{n}") for n in range(3))))
        run_id.meanwhile = lambda: records.save(make.make_outcome(machine=f"m{next(names)}"))
        records.save(make.make_report(run=make.make_run(id=run_id), outcomes=(), assessments=()))
        report = History(records).read_report(make.RUN_ID)
    assert len(report.outcomes) == next(names) > 0
    assert report.plans == (make.make_plan(),)


def test_what_many_machines_store_at_the_same_time_needs_few_commits(tmp_path: Path) -> None:
    entries = [make.make_journal_entry(machine=f"m{number}", key=f"m{number}") for number in range(20)]
    outcomes = [make.make_outcome(machine=f"m{number}") for number in range(20)]
    commits: list[object] = []
    with open_records(f"sqlite:///{tmp_path / 'records.db'}") as records, ThreadPoolExecutor(40) as pool:
        records.save(make.make_run())
        with records.database.begin_write("hold the file"):
            futures = [pool.submit(records.append_entry, entry) for entry in entries]
            futures += [pool.submit(records.save, outcome) for outcome in outcomes]
            until = time.monotonic() + 60
            while len(records._group._requests) < len(futures) and time.monotonic() < until:
                time.sleep(0.001)
            event.listen(records.database.engine, "commit", commits.append)
        for future in futures:
            future.result()
        count_of_commits = len(commits)
        assert {entry.key for entry in records.read_entries(make.RUN_ID)} == {entry.key for entry in entries}
        assert set(History(records).read_machine_names(make.RUN_ID)) >= {outcome.machine for outcome in outcomes}
    assert count_of_commits <= 3  # the holder's, that of the first one to come, that of all others
