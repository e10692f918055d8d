"""Many threads of one run write to the same records at the same time."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

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
