"""A history that the version before 0005 has written, on both databases: read, added to, and interrupted half-way.

tests/data/records/v0004.json holds the rows of a database that this version made: a run with its plans in one
document, and one that is under way.
"""

import json
import signal
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from flows.engine.resume_state import read_resume_state
from tasks.domain.errors import SealBroken
from tasks.domain.states import OperationState
from tasks.records.queries.explanations import AVAILABLE_REASON
from tasks.records.queries.history import History
from tasks.records.retention import PruneResult, apply_retention, read_retention, save_retention
from tasks.records.setup import open_records
from tasks.records.storage.database import Database
from tasks.records.storage.url import find_records_url
from tasks.rules.retention import Retention
from tasks.rules.updates.counts import count_pending, count_results
from tests.ci import tree
from tests.contract.older_release import fill_records
from tests.contract.records_processes import migrate_and_die
from tests.contract.records_subjects import BOTH, empty_database
from tests.support import builders as make
from tests.support.forked_calls import begin_call

ROWS = tree.TOP / "tests" / "data" / "records" / "v0004.json"
DAY = timedelta(days=1)


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database at revision 0004, with a history in it."""
    with empty_database(request.param, tmp_path) as made:
        fill_records(made, json.loads(ROWS.read_text()))
        yield made


LATER_FIELDS: dict[str, object] = {"changes_boot": False, "overhead_updates": None}
"""What later versions record too, and its default."""


def _as_recorded_then(value: Any) -> Any:
    """Return the value as the version of the rows recorded it."""
    if isinstance(value, tuple):
        return tuple(map(_as_recorded_then, value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    found = {field.name: getattr(value, field.name) for field in fields(value)}
    return replace(value, **{name: LATER_FIELDS.get(name, _as_recorded_then(each)) for name, each in found.items()})


def test_everything_is_read_as_it_was_written(url: str) -> None:
    with open_records(url) as records:
        history = History(records)
        report = history.read_report(make.RUN_ID)
        whole = _as_recorded_then(make.make_report(notes=("approved by anne",)))
        assert (report.run, report.outcomes, report.waves) == (whole.run, whole.outcomes, whole.waves)
        assert (report.plans, report.notes) == (whole.plans, whole.notes)
        after = _as_recorded_then(make.make_validation().assessment)
        assert report.assessments == (whole.assessments[0], after, whole.assessments[1])
        one = history.read_report(make.RUN_ID, "web-2")
        assert (one.outcomes, one.plans, one.assessments) == (whole.outcomes[1:], (), whole.assessments[1:])
        assert history.read_report(make.RUN_ID, make.MACHINE).outcomes == (whole.outcomes[0],)
        assert history.read_job_output(make.RUN_ID, make.MACHINE) == (make.make_job_output(),)
        assert (
            next(each.reason for each in history.explain_updates(make.MACHINE, "openssl", runs=1)) == AVAILABLE_REASON
        )
        assert records.read_measure(make.MACHINE, "reboot_seconds") == 50.0


def test_counts_are_made_of_documents_that_hold_everything(url: str) -> None:
    with open_records(url) as records:
        found = History(records).read_summary(make.RUN_ID)
    assert found.results[make.MACHINE] == count_results(make.make_results())
    assert found.pending[make.MACHINE] == count_pending(make.make_validation().assessment or make.make_assessment())
    assert all(not outcome.updates for outcome in found.report.outcomes)
    assert "web-2" not in found.pending


def test_a_run_that_was_under_way_has_no_seal_and_is_not_taken_up(url: str) -> None:
    with open_records(url) as records:
        with pytest.raises(SealBroken, match="run underway has no seal"):
            read_resume_state(History(records, require_seals=True), "underway")
        past = History(records).read_report("underway")
        assert past.plans == (_as_recorded_then(make.make_plan()),)
        cut = make.make_plan(chosen=make.make_plan().chosen[:1])
        run = make.make_run(id="underway", state=OperationState.IN_PROGRESS, started_at=make.START + DAY, ended_at=None)
        records.save(make.make_report(run=run, outcomes=(), assessments=(), plans=(cut,)))
        assert History(records).read_report("underway").plans == (cut,)
        records.save(make.make_report(run=run, outcomes=(), assessments=(), plans=()))
        assert History(records).read_report("underway").plans == ()


def test_what_is_saved_over_a_row_of_before_is_read_whole(url: str) -> None:
    with open_records(url) as records:
        records.save(make.make_report())
    with open_records(url) as records:
        report = History(records).read_report(make.RUN_ID)
        assert report.outcomes == make.make_report().outcomes
        assert report.plans == make.make_report().plans
        latest = History(records).read_latest_assessments([make.MACHINE])[make.MACHINE]  # of the same time: it stays
        assert latest.packages == _as_recorded_then(make.make_package_state())


def test_a_process_that_is_killed_before_the_migration_is_whole_leaves_what_was_there(url: str) -> None:
    call = begin_call(migrate_and_die, url)
    assert call.receive() == "migrated"
    assert call.end() == -signal.SIGKILL
    database = Database(find_records_url(url))
    with database.begin_read("look") as connection:
        assert connection.execute(text("SELECT version_num FROM fleetpatch_version")).scalar_one() == "0004"
        with pytest.raises(Exception, match="machine_plans"):
            connection.execute(text("SELECT count(*) FROM machine_plans"))
    database.close()
    test_everything_is_read_as_it_was_written(url)


def test_nothing_of_a_history_from_before_is_forgotten_until_its_owner_says_so(url: str) -> None:
    later = make.START + 4000 * DAY
    with open_records(url) as records:
        assert read_retention(records) == Retention(None, None)
        assert apply_retention(records, later, lambda: True) == PruneResult(0, 0)
        assert len(History(records).read_runs()) == 2
    with open_records(url) as records:  # opening it again changes nothing about that
        assert read_retention(records).is_forever
        save_retention(records, Retention(assessments_days=90, runs_days=730))
        assert apply_retention(records, later, lambda: True) == PruneResult(runs=2, assessments=3)
        assert set(History(records).read_latest_assessments()) == {make.MACHINE, "web-2"}
