import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.errors import RecordsError
from tasks.domain.states import UpdateState
from tasks.records.queries.explanations import AVAILABLE_REASON
from tasks.records.queries.history import History
from tasks.records.retention import PruneResult, prune_history
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support import builders as make


@pytest.fixture
def records(tmp_path: Path, empty_records: Path) -> Iterator[SqlRecords]:
    with open_records(f"sqlite:///{shutil.copy(empty_records, tmp_path)}") as opened:
        yield opened


@pytest.fixture
def history(records: SqlRecords) -> History:
    return History(records)


class TestRuns:
    def test_newest_first_up_to_a_limit(self, records: SqlRecords, history: History) -> None:
        for day in (3, 1, 2):
            kind = "plan" if day == 2 else "patch"
            records.save(make.make_run(id=f"run-{day}", kind=kind, started_at=make.START + timedelta(days=day)))
        assert [run.id for run in history.read_runs()] == ["run-3", "run-2", "run-1"]
        assert [run.id for run in history.read_runs(2)] == ["run-3", "run-2"]
        assert [run.id for run in history.read_runs(kind="patch")] == ["run-3", "run-1"]

    def test_by_id_or_its_beginning(self, records: SqlRecords, history: History) -> None:
        for run_id in ("abc1", "abd2", "ab", "a_c", "ABX"):
            records.save(make.make_run(id=run_id))
        assert history.find_run("abc").id == "abc1"
        assert history.find_run("ab").id == "ab"  # whole ids win over beginnings
        assert history.find_run("a_").id == "a_c"  # no wildcard
        assert history.find_run("AB").id == "ABX"  # no folding of case

    def test_an_ambiguous_beginning_names_the_candidates(self, records: SqlRecords, history: History) -> None:
        for number in range(7):
            records.save(make.make_run(id=f"abc{number}"))
        with pytest.raises(RecordsError, match=r"'abc' may be any of several runs: abc\d, .* …") as caught:
            history.find_run("abc")
        assert caught.value.hint == "Give more of the id."

    @pytest.mark.parametrize("run_id", ["nope", "", "%", "_"])
    def test_no_such_run(self, records: SqlRecords, history: History, run_id: str) -> None:
        records.save(make.make_run())
        with pytest.raises(RecordsError, match="there is no run"):
            history.find_run(run_id)

    def test_a_machine_that_the_run_does_not_know(self, records: SqlRecords, history: History) -> None:
        records.save(make.make_report())
        assert history.read_report(make.RUN_ID, "web-9").outcomes == ()

    def test_the_journal_of_a_run_that_died_early_is_there(self, records: SqlRecords, history: History) -> None:
        entry = make.make_journal_entry(run_id="died")
        records.append_entry(entry)
        assert history.read_journal("died") == (entry,)
        records.append_entry(make.make_journal_entry())
        records.save(make.make_run())
        assert history.read_journal(make.RUN_ID[:10]) == (make.make_journal_entry(),)


class TestAssessments:
    def test_the_newest_of_each_machine_by_time(self, records: SqlRecords, history: History) -> None:
        newest = make.make_assessment(at=make.at(900))
        for assessment in (newest, make.make_assessment(at=make.at(100)), make.make_assessment(machine="b")):
            records.save(assessment)
        assert history.read_latest_assessments() == {"web-1": newest, "b": make.make_assessment(machine="b")}
        assert history.read_latest_assessments(["web-1", "unknown"]) == {"web-1": newest}
        assert history.read_latest_assessments([]) == {}

    def test_more_names_than_a_statement_takes(self, records: SqlRecords, history: History) -> None:
        names = [f"m{number}" for number in range(1200)]
        for name in (names[0], names[700], names[1199]):
            records.save(make.make_assessment(machine=name))
        assert set(history.read_latest_assessments(names)) == {"m0", "m700", "m1199"}

    def test_what_was_last_known_of_a_machine_that_no_longer_answers(
        self, records: SqlRecords, history: History
    ) -> None:
        good, bad = make.make_assessment(), make.make_failed_assessment(at=make.at(900))
        records.save(good)
        records.save(bad)
        assert history.read_latest_assessments() == {"web-1": bad}
        assert history.read_latest_assessments(answered=True) == {"web-1": good}


class TestWhy:
    def test_pending_first_then_the_latest_runs(self, records: SqlRecords, history: History) -> None:
        for day in (1, 2):
            result = make.make_update_result(state=UpdateState.NOT_ATTEMPTED, reason=f"no time left on day {day}")
            ended = make.START + timedelta(days=day)
            records.save(make.make_outcome(run_id=f"run-{day}", ended_at=ended, updates=(result,)))
        records.save(make.make_assessment(at=make.START + timedelta(days=3)))
        found = history.explain_updates("web-1", "openssl")
        assert [each.reason for each in found] == [AVAILABLE_REASON, "no time left on day 2", "no time left on day 1"]
        assert [each.is_from_assessment for each in found] == [True, False, False]
        assert [each.run_id for each in found] == [make.RUN_ID, "run-2", "run-1"]
        assert len(history.explain_updates("web-1", "openssl", runs=1)) == 2

    def test_runs_that_only_assess_do_not_push_reasons_out(self, records: SqlRecords, history: History) -> None:
        late = make.make_update_result(state=UpdateState.NOT_ATTEMPTED, reason="no time left")
        records.save(make.make_outcome(run_id="patched", ended_at=make.START, updates=(late,)))
        seen = make.make_update_result(state=UpdateState.PENDING, reason="the run only assessed the machine")
        for day in range(1, 7):
            records.save(make.make_run(id=f"looked-{day}", kind="assess"))
            ended = make.START + timedelta(days=day)
            records.save(make.make_outcome(run_id=f"looked-{day}", ended_at=ended, updates=(seen,)))
        assert [each.reason for each in history.explain_updates("web-1", "openssl")] == ["no time left"]

    def test_every_explanation_has_a_reason(self, records: SqlRecords, history: History) -> None:
        held = make.make_update(name="postgresql-15", held=True)
        pinned = make.make_update(name="nginx")
        esm = make.make_update(name="libfoo", blocked="UA_ESM_REQUIRED: attach Ubuntu Pro")
        packages = make.make_package_state(updates=(held, pinned, esm), held=("nginx",))
        records.save(make.make_assessment(packages=packages))
        reasons = {each.update.name: each.reason for each in history.explain_updates("web-1")}
        assert "hold" in reasons["postgresql-15"]
        assert "hold" in reasons["nginx"]
        assert "attach Ubuntu Pro" in reasons["libfoo"]

    def test_results_without_a_reason_say_what_is_known(self, records: SqlRecords, history: History) -> None:
        installed = make.make_update_result()
        failed = make.make_update_result(update=make.make_kernel_update(), state=UpdateState.FAILED)
        records.save(make.make_outcome(updates=(installed, failed)))
        assert [each.reason for each in history.explain_updates("web-1")] == [
            "the package database has 3.0.16-1~deb12u1",
            "Failed; no reason was recorded",
        ]

    def test_masks_match_ids_and_what_masks_of_requests_match(self, records: SqlRecords, history: History) -> None:
        updates = (
            make.make_update(name="openssl"),
            make.make_update(name="Rollup", kb="KB5053598", id="guid-1", title="Cumulative Update for Windows"),
        )
        records.save(make.make_assessment(packages=make.make_package_state(updates=updates)))
        matched = {"open*": ["openssl"], "curl": []}
        matched |= {mask: ["Rollup"] for mask in ("KB50*", "guid-1", "5053598", "kb5053598", "*cumulative*")}
        for mask, names in matched.items():
            assert [each.update.name for each in history.explain_updates("web-1", mask)] == names


class TestRetention:
    def test_old_runs_go_with_all_that_is_theirs(self, records: SqlRecords, history: History) -> None:
        later = make.START + timedelta(days=100)
        records.save(make.make_report())
        records.append_entry(make.make_journal_entry())
        records.save(make.make_job_output())
        records.save(make.make_report(run=make.make_run(id="new", started_at=later), outcomes=(), assessments=()))
        records.save(make.make_assessment(run_id="new", at=later))
        done = prune_history(records, make.START + timedelta(days=1))
        assert done == PruneResult(runs=1, assessments=1)
        assert [run.id for run in history.read_runs()] == ["new"]
        assert records.read_entries(make.RUN_ID) == ()
        with records.database.begin_read("count") as connection:
            for table in ("outcomes", "update_results", "job_outputs"):
                assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0

    def test_the_newest_word_on_a_machine_and_what_was_learned_stay(
        self, records: SqlRecords, history: History
    ) -> None:
        records.save(make.make_outcome())
        records.save(make.make_run())
        oldest = make.make_assessment(at=make.at(0))
        good, bad = make.make_assessment(at=make.at(10)), make.make_failed_assessment(at=make.at(20))
        for assessment in (oldest, good, bad):
            records.save(assessment)
        assert prune_history(records, make.START + timedelta(days=1)) == PruneResult(runs=1, assessments=1)
        assert history.read_latest_assessments() == {"web-1": bad}
        assert history.read_latest_assessments(answered=True) == {"web-1": good}
        assert records.read_measure("web-1", "reboot_seconds") == 50.0

    def test_nothing_old_nothing_gone(self, records: SqlRecords, history: History) -> None:
        records.save(make.make_report())
        assert prune_history(records, make.START) == PruneResult(0, 0)
        assert history.read_report(make.RUN_ID) == make.make_report()


def test_pending_rows_are_those_of_the_newest_answer(records: SqlRecords) -> None:
    newest = make.make_assessment(at=make.at(900), packages=make.make_package_state(updates=(make.make_update(),)))
    for assessment in (make.make_assessment(), newest, newest, make.make_assessment(at=make.at(100))):
        records.save(assessment)
    records.save(make.make_failed_assessment(at=make.at(2000)))
    with records.database.begin_read("look") as connection:
        names = connection.exec_driver_sql("SELECT machine, name FROM assessment_updates").tuples().all()
    assert list(names) == [("web-1", "openssl")]


def test_result_rows_follow_the_outcome_that_replaces_another(records: SqlRecords) -> None:
    records.save(make.make_outcome())
    failed = make.make_update_result(state=UpdateState.FAILED, reason="dpkg: exit code 1")
    records.save(make.make_outcome(updates=(failed,)))
    with records.database.begin_read("look") as connection:
        found = connection.exec_driver_sql("SELECT name, state, reason FROM update_results").tuples().all()
    assert list(found) == [("openssl", "Failed", "dpkg: exit code 1")]
