"""How long history is kept: a new one's usual times, what its owner says, and what goes when a run ends."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tasks.domain.protocols.leases import LeaseHolder
from tasks.records import page_schema
from tasks.records.queries.history import History
from tasks.records.retention import PruneResult, apply_retention, prune_history, read_retention, save_retention
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.retention import DEFAULT_RETENTION, Retention
from tests.contract.cli.conftest import Stage
from tests.support import builders as make

DAY = timedelta(days=1)
END = make.START + 360 * DAY


@pytest.fixture(scope="module")
def year(empty_records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year in which the machine was assessed every tenth day and patched every hundredth, to copy."""
    path = Path(shutil.copy(empty_records, tmp_path_factory.mktemp("year")))
    with open_records(f"sqlite:///{path}") as records:
        _fill(records)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing is left in a journal beside it
    return path


@pytest.fixture
def records(stage: Stage, year: Path) -> Iterator[SqlRecords]:
    shutil.copy(year, stage.folder)
    with open_records(stage.url) as opened:
        yield opened


def _fill(records: SqlRecords) -> None:
    for day in range(0, 360, 10):
        began = make.START + day * DAY
        for kind in ("assess", "patch") if day % 100 == 0 else ("assess",):
            run = make.make_run(id=f"{kind}-{day}", kind=kind, started_at=began, ended_at=began)
            seen = make.make_assessment(run_id=run.id, at=began + timedelta(minutes=kind == "patch"))
            done = make.make_outcome(run_id=run.id, started_at=began, ended_at=began)
            records.save(make.make_report(run=run, outcomes=(done,), assessments=(seen,)))


def test_outcomes_of_what_was_done_stay_longer_than_what_was_seen(records: SqlRecords) -> None:
    assert read_retention(records) == DEFAULT_RETENTION
    gone = apply_retention(records, END, lambda: True)
    history = History(records)
    kept = [run.id for run in history.read_runs(100)]
    assert {run for run in kept if run.startswith("patch")} == {"patch-0", "patch-100", "patch-200", "patch-300"}
    assert {int(run.split("-")[1]) for run in kept if run.startswith("assess")} == set(range(270, 360, 10))
    assert gone == PruneResult(runs=27, assessments=30)
    old = history.read_report("patch-100")
    assert (old.outcomes[0].updates, old.plans, old.assessments) == (make.make_results(), (make.make_plan(),), ())
    assert apply_retention(records, END + timedelta(hours=1), lambda: True) == PruneResult(0, 0)


def test_runs_go_when_their_own_time_has_come(records: SqlRecords) -> None:
    save_retention(records, Retention(assessments_days=45, runs_days=100))
    apply_retention(records, END, lambda: True)
    assert [run.id for run in History(records).read_runs(100) if run.kind == "patch"] == ["patch-300"]


def test_what_there_is_no_time_for_goes_another_day(records: SqlRecords) -> None:
    asked = count()
    gone = apply_retention(records, END, lambda: next(asked) < 5)
    assert gone == PruneResult(runs=5, assessments=0)
    again = apply_retention(records, END, lambda: True)
    assert again == PruneResult(runs=22, assessments=30)


def test_a_run_that_somebody_carries_stays_however_old_it_is(records: SqlRecords) -> None:
    save_retention(records, Retention(assessments_days=45, runs_days=100))
    records.leases.acquire("patch-0", LeaseHolder("x", "hilltop", 1, "anne"), 600)
    apply_retention(records, END, lambda: True)
    assert [run.id for run in History(records).read_runs(100) if run.kind == "patch"] == ["patch-300", "patch-0"]
    assert History(records).read_report("patch-0").outcomes


def _save_web_rows(records: SqlRecords) -> None:
    with records.database.begin_write("fill the tables of the pages") as connection:
        for days in range(0, 360, 30):
            at = make.START + days * DAY
            request = {"key": f"key-{days}", "flow": "patch-fleet", "request_digest": "d", "who": "bob", "at": at}
            connection.execute(page_schema.requested_runs.insert().values(**request, flow_run_id=""))
            login = dict.fromkeys(("name", "roles", "source", "subject", "ticket", "seal"), "bob")
            times = dict.fromkeys(("created_at", "used_at", "checked_at"), at)
            row = {**login, **times, "digest": f"s-{days}", "expires_at": at + 31 * DAY}
            connection.execute(page_schema.web_sessions.insert().values(row))
            names = ("who", "address", "act", "subject", "detail", "result", "message", "source", "claimed", "previous")
            act = dict.fromkeys((*names, "key_id", "seal"), "x")
            connection.execute(page_schema.audit_log.insert().values(**act, at=at))


def _read_web_rows(records: SqlRecords) -> tuple[list[str], list[str], int]:
    requests, sessions, audit = page_schema.requested_runs, page_schema.web_sessions, page_schema.audit_log
    with records.database.begin_read("read the tables of the pages") as connection:
        keys = connection.execute(select(requests.c.key).order_by(requests.c.at)).scalars().all()
        logins = connection.execute(select(sessions.c.digest).order_by(sessions.c.created_at)).scalars().all()
        return list(keys), list(logins), connection.execute(select(func.count()).select_from(audit)).scalar_one()


def test_requests_of_the_pages_go_with_runs_logins_when_they_end_and_the_audit_log_stays(records: SqlRecords) -> None:
    _save_web_rows(records)
    save_retention(records, Retention(assessments_days=45, runs_days=100))
    apply_retention(records, END, lambda: True)
    assert _read_web_rows(records) == (["key-270", "key-300", "key-330"], ["s-330"], 12)
    prune_history(records, END - 50 * DAY)
    assert _read_web_rows(records) == (["key-330"], ["s-330"], 12)


def test_requests_stay_where_history_is_kept_forever_but_logins_that_are_over_go(records: SqlRecords) -> None:
    _save_web_rows(records)
    save_retention(records, Retention(assessments_days=None, runs_days=None))
    assert apply_retention(records, END, lambda: True) == PruneResult()
    keys, logins, acts = _read_web_rows(records)
    assert (len(keys), logins, acts) == (12, ["s-330"], 12)


def test_the_command_shows_and_changes_it(stage: Stage) -> None:
    assert "for 90 days" in stage.run("history").out
    said = stage.run("history", "--keep-runs", "forever", "--json")
    assert (said.json["keepAssessmentsDays"], said.json["keepRunsDays"]) == (90, None)
    said = stage.run("history", "--keep-assessments", "forever")
    assert "Nothing is ever deleted" in said.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--keep-assessments", "10"), "may last up to 38 days"),
        (("--keep-assessments", "800"), "runs cannot be forgotten before assessments"),
        (("--keep-runs", "soon"), "a number of days"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(stage: Stage, words: tuple[str, ...], why: str) -> None:
    said = stage.run("history", *words)
    assert said.code == 2
    assert why in said.err
    assert stage.run("history", "--json").json["keepAssessmentsDays"] == 90
