"""What every Leases does, whatever is behind it. Runs over the fake, SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tasks.domain.errors import PatchError, RequestError
from tasks.domain.protocols.leases import LeaseHolder, LeaselessRun, LeaseRenewal, Leases, LeaseStatus, StopRequest
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import OperationState
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.contract.records_subjects import ANNE, BERT, Place
from tests.support import builders as make
from tests.support.fake_clock import START
from tests.support.fake_leases import FakeLeases
from tests.support.postgres import fresh_database

RUN = make.RUN_ID
OVER = [state for state in OperationState if state not in {OperationState.NOT_STARTED, OperationState.IN_PROGRESS}]


def _begun(place: Place, run_id: str = RUN, *, at: float = 0.0) -> None:
    place.records.save(
        make.make_run(id=run_id, state=OperationState.IN_PROGRESS, started_at=make.at(at), ended_at=None)
    )


def test_it_is_a_leases(place: Place) -> None:
    seam: Leases = place.leases  # mypy checks the signatures
    assert seam.find_leaseless_runs() == ()


class TestTaking:
    def test_it_is_held_for_that_long_and_by_one(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(59)
        with pytest.raises(LeaseHeld) as caught:
            place.leases.acquire(RUN, BERT, 60)
        error = caught.value
        assert isinstance(error, PatchError)
        assert (error.run_id, error.holder, error.until) == (RUN, ANNE, START + timedelta(seconds=60))
        assert str(error) == (
            f"run {RUN} is executed by anne on ctl-1 (pid 4711), whose lease lasts until 2026-03-10 01:01:00 UTC"
        )
        assert error.hint
        assert not error.transient
        assert place.leases.renew(RUN, ANNE, 60) == LeaseRenewal(is_kept=True)

    def test_when_its_time_is_over_somebody_else_may_take_it(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(60)
        place.leases.acquire(RUN, BERT, 60)
        assert place.leases.renew(RUN, BERT, 60).is_kept
        with pytest.raises(LeaseHeld) as caught:
            place.leases.acquire(RUN, ANNE, 60)
        assert caught.value.holder == BERT

    def test_a_holder_may_take_it_again_for_its_answer_may_have_been_lost(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(50)
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(50)
        with pytest.raises(LeaseHeld):
            place.leases.acquire(RUN, BERT, 60)

    def test_the_same_person_on_the_same_host_is_another_holder(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        with pytest.raises(LeaseHeld):
            place.leases.acquire(RUN, LeaseHolder("token-other", ANNE.host, ANNE.pid, ANNE.user), 60)

    def test_each_run_has_its_own(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.leases.acquire("other", BERT, 60)
        assert place.leases.renew(RUN, ANNE, 60).is_kept
        assert not place.leases.renew("other", ANNE, 60).is_kept

    def test_of_many_threads_one_gets_it(self, place: Place) -> None:
        holders = [LeaseHolder(f"token-{n}", "ctl", n, "anne") for n in range(12)]

        def won(holder: LeaseHolder) -> bool:
            try:
                place.leases.acquire(RUN, holder, 60)
            except LeaseHeld:
                return False
            return True

        for _ in range(5):
            with ThreadPoolExecutor(12) as pool:
                assert sum(pool.map(won, holders)) == 1
            place.clock.advance(60)

    def test_names_from_anywhere(self, place: Place) -> None:
        odd = LeaseHolder("t", "höst-😀", 2**22, "DOMAIN\\añ ne")
        place.leases.acquire(RUN, odd, 60)
        with pytest.raises(LeaseHeld) as caught:
            place.leases.acquire(RUN, ANNE, 60)
        assert caught.value.holder == odd


class TestRenewing:
    def test_it_lasts_from_now(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(50)
        assert place.leases.renew(RUN, ANNE, 60) == LeaseRenewal(is_kept=True, stop=None)
        place.clock.advance(59)
        with pytest.raises(LeaseHeld):
            place.leases.acquire(RUN, BERT, 60)

    def test_a_lease_that_is_over_is_kept_when_nobody_took_it(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(1000)
        assert place.leases.renew(RUN, ANNE, 60).is_kept
        with pytest.raises(LeaseHeld):
            place.leases.acquire(RUN, BERT, 60)

    def test_who_was_taken_over_hears_of_it_and_disturbs_nobody(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(60)
        place.leases.acquire(RUN, BERT, 60)
        assert not place.leases.renew(RUN, ANNE, 6000).is_kept
        place.leases.release(RUN, ANNE)
        place.clock.advance(59)
        with pytest.raises(LeaseHeld) as caught:
            place.leases.acquire(RUN, ANNE, 60)
        assert caught.value.holder == BERT
        assert caught.value.until == START + timedelta(seconds=120)

    def test_what_was_never_taken_can_not_be_kept(self, place: Place) -> None:
        assert not place.leases.renew(RUN, ANNE, 60).is_kept
        place.leases.acquire(RUN, BERT, 60)  # and the attempt took nothing


class TestGivingBack:
    def test_the_next_one_takes_it_at_once(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.leases.release(RUN, ANNE)
        place.leases.release(RUN, ANNE)
        place.leases.acquire(RUN, BERT, 60)

    def test_a_renewal_that_comes_late_does_not_bring_it_back(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.leases.release(RUN, ANNE)
        assert not place.leases.renew(RUN, ANNE, 60).is_kept
        place.leases.acquire(RUN, BERT, 60)

    def test_it_may_be_taken_again(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.leases.release(RUN, ANNE)
        place.leases.acquire(RUN, ANNE, 60)
        assert place.leases.renew(RUN, ANNE, 60).is_kept

    def test_what_is_not_there_can_be_given_back(self, place: Place) -> None:
        place.leases.release(RUN, ANNE)
        assert place.leases.find_lease(RUN) is None


class TestAbandoned:
    def test_a_run_that_is_held_is_not(self, place: Place) -> None:
        _begun(place)
        place.leases.acquire(RUN, ANNE, 60)
        assert place.leases.find_leaseless_runs() == ()
        place.clock.advance(59)
        assert place.leases.find_leaseless_runs() == ()

    def test_a_run_whose_lease_is_over_is_since_then(self, place: Place) -> None:
        _begun(place)
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(500)
        assert place.leases.find_leaseless_runs() == (LeaselessRun(RUN, ANNE, START + timedelta(seconds=60)),)
        place.leases.acquire(RUN, BERT, 60)
        assert place.leases.find_leaseless_runs() == ()

    def test_a_run_in_progress_that_was_given_back_is(self, place: Place) -> None:
        _begun(place)
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(10)
        place.leases.release(RUN, ANNE)
        place.clock.advance(10)
        assert place.leases.find_leaseless_runs() == (LeaselessRun(RUN, ANNE, START + timedelta(seconds=10)),)

    def test_a_run_that_was_never_held_is_since_its_start(self, place: Place) -> None:
        _begun(place, "later", at=20)
        _begun(place, "sooner", at=10)
        assert place.leases.find_leaseless_runs() == (
            LeaselessRun("sooner", None, make.at(10)),
            LeaselessRun("later", None, make.at(20)),
        )

    @pytest.mark.parametrize("state", OperationState)
    def test_only_runs_without_an_end_are(self, place: Place, state: OperationState) -> None:
        place.records.save(make.make_run(state=state))
        without_end = state in {OperationState.IN_PROGRESS, OperationState.UNKNOWN}
        assert bool(place.leases.find_leaseless_runs()) is without_end

    def test_a_lease_may_be_there_before_its_run(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        assert place.leases.find_leaseless_runs() == ()
        _begun(place)
        assert place.leases.find_leaseless_runs() == ()


class TestStopping:
    def test_the_holder_hears_of_it_at_every_renewal(self, place: Place) -> None:
        _begun(place)
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(5)
        asked = place.leases.request_stop(RUN, "bert", "wrong fleet\n'😀'")
        assert asked == StopRequest("bert", "wrong fleet\n'😀'", START + timedelta(seconds=5))
        for _ in range(2):
            assert place.leases.renew(RUN, ANNE, 60) == LeaseRenewal(is_kept=True, stop=asked)

    def test_the_first_request_stands(self, place: Place) -> None:
        _begun(place)
        first = place.leases.request_stop(RUN, "bert", "wrong fleet")
        place.clock.advance(5)
        assert place.leases.request_stop(RUN, "anne", "me too") == first
        view = place.leases.find_lease(RUN)
        assert view is not None
        assert view.stop == first

    def test_it_is_about_one_run(self, place: Place) -> None:
        for run_id in (RUN, "other"):
            _begun(place, run_id)
            place.leases.acquire(run_id, ANNE, 60)
        place.leases.request_stop("other", "bert", "")
        assert place.leases.renew(RUN, ANNE, 60).stop is None

    def test_who_takes_an_abandoned_run_up_hears_of_it(self, place: Place) -> None:
        _begun(place)
        place.leases.acquire(RUN, ANNE, 60)
        place.clock.advance(60)
        asked = place.leases.request_stop(RUN, "bert", "enough")
        place.leases.acquire(RUN, BERT, 60)
        assert place.leases.renew(RUN, BERT, 60).stop == asked

    @pytest.mark.parametrize("state", OVER)
    def test_a_run_that_is_over_can_not_be_stopped(self, place: Place, state: OperationState) -> None:
        place.records.save(make.make_run(state=state))
        with pytest.raises(RequestError, match=f"run {RUN} can't be stopped: it is over \\({state.value}\\)"):
            place.leases.request_stop(RUN, "bert", "")
        assert place.leases.find_lease(RUN) is None

    def test_a_run_that_nobody_knows_can_not_be_stopped(self, place: Place) -> None:
        _begun(place)
        with pytest.raises(RequestError, match=f"there is no run '{RUN[:6]}'"):
            place.leases.request_stop(RUN[:6], "bert", "")  # not by a beginning of its id: it may be another's


class TestLooking:
    def test_from_being_taken_to_being_over(self, place: Place) -> None:
        assert place.leases.find_lease(RUN) is None
        place.leases.acquire(RUN, ANNE, 60)
        until = START + timedelta(seconds=60)
        assert place.leases.find_lease(RUN) == LeaseStatus(RUN, ANNE, is_held=True, until=until)
        place.clock.advance(60)
        assert place.leases.find_lease(RUN) == LeaseStatus(RUN, ANNE, is_held=False, until=until)

    def test_given_back(self, place: Place) -> None:
        place.leases.acquire(RUN, ANNE, 60)
        place.leases.release(RUN, ANNE)
        assert place.leases.find_lease(RUN) == LeaseStatus(RUN, ANNE, is_held=False, until=START)

    def test_asked_to_stop_and_never_taken(self, place: Place) -> None:
        _begun(place)
        stop = place.leases.request_stop(RUN, "bert", "no")
        assert place.leases.find_lease(RUN) == LeaseStatus(RUN, None, is_held=False, until=None, stop=stop)


class TestClocks:
    def test_by_default_times_are_right(self, records: SqlRecords) -> None:
        before = datetime.now(UTC) - timedelta(seconds=5)
        records.leases.acquire(RUN, ANNE, 60)
        view = records.leases.find_lease(RUN)
        assert view is not None
        assert view.is_held
        assert view.until is not None
        assert before < view.until - timedelta(seconds=60) < datetime.now(UTC) + timedelta(seconds=5)

    @pytest.mark.postgres
    def test_postgresql_judges_by_its_own_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Hours:
            def now(self) -> datetime:
                raise AssertionError("the controller's clock was asked")

        monkeypatch.setattr("tasks.records.statements.SystemClock", Hours)
        with fresh_database() as url, open_records(url) as records:
            records.save(make.make_run(state=OperationState.IN_PROGRESS))
            records.leases.acquire(RUN, ANNE, 0.0)
            (found,) = records.leases.find_leaseless_runs()
            assert found.holder == ANNE
            records.leases.acquire(RUN, BERT, 60.0)
            assert records.leases.renew(RUN, BERT, 60.0).is_kept
            records.leases.request_stop(RUN, "anne", "")
            records.leases.release(RUN, BERT)


def test_what_is_forgotten_of_a_run_is_its_lease_too(records: SqlRecords) -> None:
    records.save(make.make_run(state=OperationState.IN_PROGRESS))
    records.leases.acquire(RUN, ANNE, 0.0)  # its process is gone: a run that one carries is kept
    records.leases.request_stop(RUN, "bert", "")
    prune_history(records, make.START + timedelta(days=1))
    assert records.leases.find_lease(RUN) is None


class TestFaultsOfTheFake:
    def test_away_for_some_calls(self) -> None:
        leases = FakeLeases(away=2)
        for _ in range(2):
            with pytest.raises(PatchError) as caught:
                leases.acquire(RUN, ANNE, 60)
            assert caught.value.transient
        leases.acquire(RUN, ANNE, 60)
        assert leases.calls == [("take", RUN)] * 3

    def test_an_answer_that_is_lost(self) -> None:
        leases = FakeLeases(lost_answers=1)
        with pytest.raises(PatchError, match="answer lost"):
            leases.acquire(RUN, ANNE, 60)
        with pytest.raises(LeaseHeld):
            leases.acquire(RUN, BERT, 60)

    def test_robbed(self) -> None:
        leases = FakeLeases()
        leases.acquire(RUN, ANNE, 60)
        leases.rob(RUN, BERT)
        assert not leases.renew(RUN, ANNE, 60).is_kept

    def test_somebody_acts_at_that_very_moment(self) -> None:
        leases = FakeLeases()
        leases.acquire(RUN, ANNE, 60)
        leases.before = lambda method: leases.rob(RUN, BERT) if method == "renew" else None
        assert not leases.renew(RUN, ANNE, 60).is_kept
