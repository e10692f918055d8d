"""What every Records does, whatever is behind it. Runs over the fake, SQLite and PostgreSQL."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.errors import RecordsError, RecordsUnavailable
from tasks.domain.model import JobOutput, RebootNeed
from tasks.domain.protocols.records import JournalMark, Records
from tasks.domain.states import OperationState, Step, UpdateState, YesNoUnknown
from tasks.records.measures import compute_measures
from tasks.records.queries.history import History
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import BOTH, opened
from tests.support import builders as make
from tests.support.fake_records import FakeHistory, FakeRecords

HOSTILE = "bell\x07 nul\x00 lone\ud800 mask%_* quote'\" emoji😀 \u202eright-to-left\r\n"
AnyRecords = FakeRecords | SqlRecords


@pytest.fixture(params=["fake", *BOTH])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyRecords]:
    if request.param == "fake":
        yield FakeRecords()
        return
    with opened(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=BOTH)
def sql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as made:
        yield made


def test_it_is_a_records(records: AnyRecords) -> None:
    seam: Records = records  # mypy checks the signatures
    assert seam.read_entries("nothing-yet") == ()


def test_the_first_sight_of_a_version_is_the_earliest_of_any_machine(records: AnyRecords) -> None:
    long = make.make_update(name="n" * 400, available="1", published=None)
    fix = make.make_update(name="curl", available="9", security_version="8", older_versions=("8", "7"))
    keys = frozenset({(long.name, "1"), ("curl", "9"), ("curl", "8"), ("curl", "7")})
    assert records.read_first_seen(keys) == {}
    for machine, day in (("ahead", 9), ("first", 1), ("second", 3)):
        packages = make.make_package_state(updates=(long, fix))
        at = make.START + timedelta(days=day)
        records.save(make.make_assessment(machine=machine, at=at, run_id=machine, packages=packages))
    records.save(replace(make.make_assessment(at=make.START), packages=None))
    assert records.read_first_seen({*keys, ("curl", "6")}) == dict.fromkeys(keys, make.START + timedelta(days=1))


class TestJournal:
    def test_entries_come_back_as_they_were_oldest_first(self, records: AnyRecords) -> None:
        first = make.make_journal_entry(detail={"updates": ["a", "b"], "nested": {"x": None, "y": 1.5}, "ok": True})
        second = make.make_journal_entry(mark=JournalMark.AFTER, at=make.at(140), detail={})
        # Its clock may have been set back: what counts is the order in which they were written.
        third = make.make_journal_entry(step=Step.REBOOT, act="reboot", key="boot-1", at=make.at(-500))
        for entry in (first, second, third):
            records.append_entry(entry)
        assert records.read_entries(make.RUN_ID) == (first, second, third)

    def test_entries_are_of_one_run_and_of_one_machine_when_asked(self, records: AnyRecords) -> None:
        mine = make.make_journal_entry()
        for entry in (mine, make.make_journal_entry(machine="web-2"), make.make_journal_entry(run_id="other")):
            records.append_entry(entry)
        assert records.read_entries(make.RUN_ID, "web-1") == (mine,)
        assert [entry.machine for entry in records.read_entries(make.RUN_ID)] == ["web-1", "web-2"]
        assert records.read_entries(make.RUN_ID, "WEB-1") == ()

    def test_an_entry_that_is_sent_again_is_stored_once(self, records: AnyRecords) -> None:
        entry, other = make.make_journal_entry(), make.make_journal_entry(key="other")
        for each in (entry, other, make.make_journal_entry()):  # equal is the same; it need not be the same object
            records.append_entry(each)
        assert records.read_entries(make.RUN_ID) == (entry, other)

    def test_entries_that_differ_in_anything_are_two(self, records: AnyRecords) -> None:
        entry = make.make_journal_entry()
        others = [
            replace(entry, at=entry.at + timedelta(microseconds=1)),
            replace(entry, detail={"updates": 3}),
            replace(entry, mark=JournalMark.AFTER),
            replace(entry, key=entry.key + " "),
        ]
        for each in (entry, *others):
            records.append_entry(each)
        assert records.read_entries(make.RUN_ID) == (entry, *others)

    def test_it_takes_whatever_a_machine_says(self, records: AnyRecords) -> None:
        entry = make.make_journal_entry(key=HOSTILE, detail={HOSTILE: [HOSTILE]})
        long = make.make_journal_entry(key="k" * 20_000, act="x" * 5_000)
        records.append_entry(entry)
        records.append_entry(long)
        assert records.read_entries(make.RUN_ID, make.MACHINE) == (entry, long)

    def test_many_threads_lose_nothing(self, records: AnyRecords) -> None:
        start = threading.Barrier(24)

        def work(number: int) -> None:
            start.wait()
            for turn in range(5):
                records.append_entry(make.make_journal_entry(machine=f"m{number}", key=str(turn)))

        with ThreadPoolExecutor(24) as pool:
            for done in [pool.submit(work, number) for number in range(24)]:
                done.result()
        for number in range(24):
            assert [entry.key for entry in records.read_entries(make.RUN_ID, f"m{number}")] == ["0", "1", "2", "3", "4"]


class TestLearning:
    def _save_reboot(self, records: AnyRecords, run: int, seconds: float) -> None:
        reboot = make.make_reboot_result(down_seconds=0.0, up_seconds=seconds)
        ended = make.START + timedelta(days=run)
        records.save(make.make_outcome(run_id=f"run-{run}", reboot_result=reboot, install=None, ended_at=ended))

    def test_nothing_is_known_of_a_machine_that_never_ran(self, records: AnyRecords) -> None:
        assert records.read_measure("web-1", "reboot_seconds") is None

    def test_the_first_run_sets_the_mean_and_later_ones_move_it(self, records: AnyRecords) -> None:
        self._save_reboot(records, 1, 100.0)
        assert records.read_measure("web-1", "reboot_seconds") == 100.0
        self._save_reboot(records, 2, 200.0)
        assert records.read_measure("web-1", "reboot_seconds") == pytest.approx(130.0)
        assert records.read_measure("web-2", "reboot_seconds") is None
        assert records.read_measure("web-1", "transaction_seconds") is None

    def test_the_last_assessment_is_the_newest_with_an_answer(self, records: AnyRecords) -> None:
        assert records.read_last_assessment("web-1") is None
        need = RebootNeed(YesNoUnknown.YES, ("a kernel",), "a live patch", make.START - timedelta(days=9))
        packages = make.make_package_state(reboot=need)
        for days, machine, found in (
            (2, "web-1", packages),
            (1, "web-1", make.make_package_state()),
            (3, "web-1", None),
        ):
            at = make.START + timedelta(days=days)
            error = None if found else make.make_error()
            records.save(make.make_assessment(machine=machine, at=at, packages=found, error=error))
        records.save(make.make_assessment(machine="web-2", at=make.START + timedelta(days=4)))
        last = records.read_last_assessment("web-1")
        assert last is not None
        assert last.packages is not None
        assert (last.at, last.packages.reboot) == (make.START + timedelta(days=2), need)

    def test_an_outcome_saved_again_counts_once_with_its_last_value(self, records: AnyRecords) -> None:
        self._save_reboot(records, 1, 100.0)
        self._save_reboot(records, 2, 200.0)
        for _ in range(3):
            self._save_reboot(records, 2, 300.0)
        assert records.read_measure("web-1", "reboot_seconds") == pytest.approx(160.0)

    def test_runs_count_in_the_order_of_time_not_of_saving(self, records: AnyRecords) -> None:
        self._save_reboot(records, 2, 200.0)
        self._save_reboot(records, 1, 100.0)
        assert records.read_measure("web-1", "reboot_seconds") == pytest.approx(130.0)

    def test_all_measures_of_an_installation_are_learned(self, records: AnyRecords) -> None:
        records.save(make.make_outcome())
        learned = {measure: records.read_measure("web-1", measure) for measure in compute_measures(make.make_outcome())}
        assert learned == compute_measures(make.make_outcome())
        assert len(learned) == 3

    def test_very_old_runs_are_forgotten_alike(self, records: AnyRecords) -> None:
        self._save_reboot(records, 0, 1e9)
        for run in range(1, 26):
            self._save_reboot(records, run, 60.0)
        assert records.read_measure("web-1", "reboot_seconds") == pytest.approx(60.0)


class TestSaving:
    """Everything that is saved comes back equal."""

    def test_a_report_comes_back_whole(self, sql: SqlRecords) -> None:
        report = make.make_report()
        sql.save(report)
        assert History(sql).read_report(make.RUN_ID) == report

    def test_a_large_report_comes_back_whole(self, sql: SqlRecords) -> None:
        outcomes = tuple(make.make_failed_outcome(machine=f"m{number:03}") for number in range(250))
        report = make.make_report(outcomes=outcomes, assessments=())
        sql.save(report)
        assert History(sql).read_report(make.RUN_ID) == report

    def test_a_report_that_can_not_be_stored_whole_leaves_its_run_as_it_was(self, sql: SqlRecords) -> None:
        sql.save(make.make_run(state=OperationState.IN_PROGRESS))
        naive = make.make_outcome(ended_at=make.START.replace(tzinfo=None))
        with pytest.raises(RecordsError, match="has no zone"):
            sql.save(make.make_report(outcomes=(naive,)))
        assert History(sql).find_run(make.RUN_ID).state is OperationState.IN_PROGRESS

    def test_parts_make_a_report_as_well(self, sql: SqlRecords) -> None:
        report = make.make_report()
        sql.save(report.run)
        for outcome in reversed(report.outcomes):
            sql.save(outcome)
        for assessment in report.assessments:
            sql.save(assessment)
        loaded = History(sql).read_report(make.RUN_ID)
        assert (loaded.run, loaded.outcomes, loaded.assessments) == (report.run, report.outcomes, report.assessments)
        assert loaded.waves == (replace(report.waves[0], canary=False),)
        assert loaded.plans == ()

    def test_a_report_is_there_before_anything_is_done_and_as_it_grows(self, sql: SqlRecords) -> None:
        whole = make.make_report()
        begun = replace(whole.run, state=OperationState.IN_PROGRESS, ended_at=None, message="")
        early = replace(whole, run=begun, outcomes=())
        history = History(sql)
        sql.save(early)
        sql.save(early)
        assert history.read_report(make.RUN_ID) == early
        sql.save(whole.outcomes[0])
        assert history.read_report(make.RUN_ID) == replace(early, outcomes=whole.outcomes[:1])
        sql.save(early)  # whoever takes it up saves it again, and harms nothing
        assert history.read_report(make.RUN_ID) == replace(early, outcomes=whole.outcomes[:1])
        sql.save(whole)
        assert history.read_report(make.RUN_ID) == whole

    def test_saving_again_replaces(self, sql: SqlRecords) -> None:
        sql.save(make.make_run(state=OperationState.IN_PROGRESS, ended_at=None))
        sql.save(make.make_outcome(state=OperationState.IN_PROGRESS))
        sql.save(make.make_run())
        sql.save(make.make_outcome())
        sql.save(make.make_outcome())
        report = History(sql).read_report(make.RUN_ID)
        assert report.run == make.make_run()
        assert report.outcomes == (make.make_outcome(),)

    def test_an_outcome_needs_no_run_to_be_kept(self, sql: SqlRecords) -> None:
        sql.save(make.make_outcome())
        sql.append_entry(make.make_journal_entry())
        sql.save(make.make_run())
        assert History(sql).read_report(make.RUN_ID, make.MACHINE).outcomes == (make.make_outcome(),)

    def test_times_come_back_aware_and_at_the_same_instant(self, sql: SqlRecords) -> None:
        sql.save(make.make_run())
        run = History(sql).find_run(make.RUN_ID)
        assert run.started_at == make.START
        assert run.started_at.utcoffset() == timedelta(0)
        assert run.window is not None
        assert run.window.zone == "Europe/Berlin"

    def test_hostile_text_is_kept_to_the_letter(self, sql: SqlRecords) -> None:
        update = make.make_update(name=HOSTILE, available=HOSTILE, blocked=HOSTILE * 500, origins=(HOSTILE,))
        result = make.make_update_result(update=update, state=UpdateState.FAILED, reason=HOSTILE, version_after=None)
        outcome = make.make_outcome(reason=HOSTILE, updates=(result,), error=make.make_error(message=HOSTILE))
        assessment = make.make_assessment(packages=make.make_package_state(updates=(update,), problems=(HOSTILE,)))
        sql.save(make.make_run(scope=HOSTILE, request={HOSTILE: HOSTILE}))
        sql.save(outcome)
        sql.save(assessment)
        history = History(sql)
        assert history.read_report(make.RUN_ID, make.MACHINE).outcomes == (outcome,)
        assert history.read_latest_assessments() == {make.MACHINE: assessment}
        assert history.find_run(make.RUN_ID).request == {HOSTILE: HOSTILE}
        assert [each.reason for each in history.explain_updates(make.MACHINE, "*emoji*")][1:] == [HOSTILE]

    def test_names_longer_than_any_index_takes_stay_apart(self, sql: SqlRecords) -> None:
        one, two = "n" * 9_000 + "1", "n" * 9_000 + "2"
        sql.save(make.make_run())
        for name in (one, two):
            sql.save(make.make_outcome(machine=name))
        assert History(sql).read_report(make.RUN_ID, two).outcomes == (make.make_outcome(machine=two),)

    @pytest.mark.parametrize("text", ["", HOSTILE, "line of apt output\n" * 600_000], ids=["empty", "hostile", "11 MB"])
    def test_job_output_comes_back_as_it_was(self, sql: SqlRecords, text: str) -> None:
        output = make.make_job_output(text=text)
        sql.save(make.make_run())
        sql.save(make.make_job_output(text="first"))
        sql.save(output)
        assert History(sql).open_job_logs(make.RUN_ID)[make.MACHINE] == text

    def test_each_job_has_its_output(self, sql: SqlRecords) -> None:
        sql.save(make.make_run())
        outputs = tuple(JobOutput(make.RUN_ID, make.MACHINE, f"job-{n}", str(n)) for n in range(3))
        for output in reversed(outputs):
            sql.save(output)
        assert History(sql).open_job_logs(make.RUN_ID)[make.MACHINE] == "0\n1\n2"

    def test_outputs_come_in_the_order_in_which_the_jobs_began(self, sql: SqlRecords) -> None:
        sql.save(make.make_run())
        begun = ("run-stage-0", "run-install-2", "run-install-10", "run-repair-0", "run-restart-0")
        for number, job in enumerate(begun):
            sql.append_entry(make.make_journal_entry(key=job, at=make.at(number)))
            sql.save(JobOutput(make.RUN_ID, make.MACHINE, job, job))
        assert History(sql).open_job_logs(make.RUN_ID)[make.MACHINE] == "\n".join(begun)

    def test_threads_that_save_the_same_outcome_leave_one(self, sql: SqlRecords) -> None:
        outcome = make.make_outcome()
        sql.save(make.make_run())
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(sql.save, outcome) for _ in range(32)]:
                done.result()
        assert History(sql).read_report(make.RUN_ID).outcomes == (outcome,)
        assert len(History(sql).explain_updates(make.MACHINE)) == len(outcome.updates)


class TestTakingUp:
    """What a run left behind, for whoever takes it up. The real history and the fake's tell the same."""

    def _history(self, records: AnyRecords) -> FakeHistory | History:
        return FakeHistory(records) if isinstance(records, FakeRecords) else History(records)

    def test_what_is_unfinished_follows_from_waves_and_plans(self, records: AnyRecords) -> None:
        waves = (make.make_wave(number=1, machines=("c", "b")), make.make_wave(number=0, machines=("z",), canary=True))
        plans = tuple(make.make_plan(machine=name) for name in ("b", "extra", "z"))
        run = make.make_run(state=OperationState.IN_PROGRESS)
        history = self._history(records)
        records.save(make.make_report(run=run, outcomes=(), assessments=(), waves=waves, plans=plans))
        assert history.find_unfinished_machines(make.RUN_ID) == ("z", "c", "b", "extra")
        records.save(make.make_outcome(machine="z"))
        records.save(make.make_outcome(machine="c", run_id="another run"))
        records.save(make.make_failed_outcome(machine="b"))
        assert history.find_unfinished_machines(make.RUN_ID) == ("c", "extra")
        assert history.read_report(make.RUN_ID).waves == waves
        for name in ("c", "extra"):
            records.save(make.make_outcome(machine=name))
        assert history.find_unfinished_machines(make.RUN_ID) == ()

    def test_of_a_run_that_died_before_it_had_waves_nothing_is_known_to_be_unfinished(
        self, records: AnyRecords
    ) -> None:
        records.save(make.make_run(state=OperationState.IN_PROGRESS))
        records.save(make.make_assessment())
        assert self._history(records).find_unfinished_machines(make.RUN_ID) == ()
        assert self._history(records).read_report(make.RUN_ID).assessments == (make.make_assessment(),)

    @pytest.mark.parametrize("seconds", [600, -600], ids=["later", "clock-set-back"])
    def test_the_plans_assessment_survives_the_validations(self, records: AnyRecords, seconds: int) -> None:
        first = make.make_assessment()
        second = make.make_assessment(at=first.at + timedelta(seconds=seconds), packages=make.make_package_state())
        records.save(make.make_run(state=OperationState.IN_PROGRESS))
        records.save(make.make_assessment(at=first.at - timedelta(days=1), run_id="another run"))
        records.save(make.make_assessment(machine="another machine"))
        history = self._history(records)
        for assessment in (first, second, first):  # the report saves the first one again
            records.save(assessment)
            assert history.read_planned_assessment(make.RUN_ID, make.MACHINE) == first
        mine = [each for each in history.read_report(make.RUN_ID).assessments if each.machine == make.MACHINE]
        assert mine == [first, second]

    def test_a_plan_names_the_assessment_that_it_was_made_from(self, records: AnyRecords) -> None:
        """A process died while it assessed; another one began anew, and planned from what it saw then."""
        before, anew = make.make_assessment(), make.make_assessment(at=make.at(900), packages=make.make_package_state())
        records.save(make.make_run(state=OperationState.IN_PROGRESS))
        history = self._history(records)
        for assessment in (before, anew):
            records.save(assessment)

        assert history.read_planned_assessment(make.RUN_ID, make.MACHINE, anew.at) == anew
        assert history.read_planned_assessment(make.RUN_ID, make.MACHINE, before.at) == before
        assert history.read_planned_assessment(make.RUN_ID, make.MACHINE, make.at(5000)) == before

    def test_a_plan_is_made_from_an_answer(self, records: AnyRecords) -> None:
        unanswered, answered = make.make_failed_assessment(), make.make_assessment(at=make.at(900))
        records.save(make.make_run(state=OperationState.IN_PROGRESS))
        history = self._history(records)
        assert history.read_planned_assessment(make.RUN_ID, make.MACHINE) is None
        records.save(unanswered)
        assert history.read_planned_assessment(make.RUN_ID, make.MACHINE) == unanswered
        records.save(answered)
        assert history.read_planned_assessment(make.RUN_ID, make.MACHINE) == answered

    def test_of_a_run_that_nobody_knows(self, records: AnyRecords) -> None:
        history = self._history(records)
        for ask in (
            history.find_unfinished_machines,
            history.read_report,
            lambda run_id: history.read_planned_assessment(run_id, make.MACHINE),
        ):
            with pytest.raises(RecordsError, match="there is no run 'nope'"):
                ask("nope")


class TestFaultsOfTheFake:
    def test_away_for_some_calls(self) -> None:
        records = FakeRecords(away=3)
        entry = make.make_journal_entry()
        for ask in (
            lambda: records.append_entry(entry),
            lambda: records.read_entries("x"),
            lambda: records.save(make.make_run()),
        ):
            with pytest.raises(RecordsUnavailable):
                ask()
        records.append_entry(entry)
        assert records.journal == [entry]
        assert records.runs == {}

    def test_an_answer_that_is_lost(self) -> None:
        records = FakeRecords(lose_answer_at=1)
        entry = make.make_journal_entry()
        with pytest.raises(RecordsUnavailable, match="answer lost"):
            records.append_entry(entry)
        records.append_entry(entry)
        assert records.read_entries(make.RUN_ID) == (entry,)
