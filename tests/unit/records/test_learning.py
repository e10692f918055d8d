import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Outcome
from tasks.domain.protocols.package_manager import Rates
from tasks.domain.states import RebootState
from tasks.machines.managers.apt.manager import DEFAULT_RATES as APT
from tasks.records.measures import compute_measures, compute_weighted_mean
from tasks.rules.updates.transaction_planning import learn_rates
from tests.support import builders as make
from tests.support.fake_manager import FakeManager


def _outcome(*transactions: object, **changes: object) -> Outcome:
    return make.make_outcome(install=make.make_install_result(transactions=transactions), **changes)


class TestWeightedMean:
    def test_no_samples_no_mean(self) -> None:
        assert compute_weighted_mean([]) is None

    def test_each_new_sample_weighs_three_tenths(self) -> None:
        assert compute_weighted_mean([100.0]) == 100.0
        assert compute_weighted_mean([100.0, 200.0]) == pytest.approx(130.0)
        assert compute_weighted_mean([100.0, 200.0, 0.0]) == pytest.approx(91.0)

    @given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30))
    def test_it_lies_between_the_smallest_and_the_largest(self, values: list[float]) -> None:
        mean = compute_weighted_mean(values)
        assert mean is not None
        assert min(values) * 0.999999 <= mean <= max(values) * 1.000001


class TestMeasures:
    def test_a_patched_machine_measures_installation_and_reboot(self) -> None:
        measured = compute_measures(make.make_outcome())
        assert set(measured) == {"install_seconds_per_update", "transaction_seconds", "reboot_seconds"}
        assert measured["reboot_seconds"] == 50.0

    @pytest.mark.parametrize("rates", [APT, FakeManager.default_rates])
    def test_what_was_measured_predicts_itself(self, rates: Rates) -> None:
        one = make.make_transaction(updates=("a",), started_at=make.at(0), ended_at=make.at(10))
        nine = make.make_transaction(number=1, updates=tuple("bcdefghij"), started_at=make.at(10), ended_at=make.at(60))
        for parts, seconds in {(one,): 10.0, (nine,): 50.0, (one, nine): 60.0}.items():
            install = make.make_install_result(transactions=parts, overhead_updates=rates.overhead_updates)
            learned = learn_rates(rates, compute_measures(make.make_outcome(install=install)).get)
            assert sum(learned.predict_install_seconds(len(part.updates)) for part in parts) == pytest.approx(seconds)
            assert learned.overhead_updates == pytest.approx(rates.overhead_updates)

    def test_a_slow_machine_teaches_slowness_in_both_parts(self) -> None:
        fast, slow = (
            compute_measures(_outcome(make.make_transaction(ended_at=make.at(60 + seconds)))) for seconds in (10, 100)
        )
        for measure in ("install_seconds_per_update", "transaction_seconds"):
            assert slow[measure] == pytest.approx(10 * fast[measure])

    def test_an_outcome_of_an_earlier_version_teaches_too(self) -> None:
        measured = compute_measures(make.make_outcome(install=make.make_install_result(overhead_updates=None)))
        assert measured["transaction_seconds"] + 2 * measured["install_seconds_per_update"] == pytest.approx(80.0)

    def test_what_failed_or_has_no_times_or_is_a_repair_says_nothing(self) -> None:
        outcome = _outcome(
            make.make_transaction(exit_code=100),
            make.make_transaction(exit_code=None, ended_at=None),
            make.make_transaction(started_at=None),
            make.make_transaction(updates=()),
            make.make_transaction(started_at=make.at(50), ended_at=make.at(20)),
            reboot_result=None,
        )
        assert compute_measures(outcome) == {}

    @pytest.mark.parametrize("state", [state for state in RebootState if state is not RebootState.COMPLETED])
    def test_only_a_reboot_that_was_completed_counts(self, state: RebootState) -> None:
        assert "reboot_seconds" not in compute_measures(
            make.make_outcome(reboot_result=make.make_reboot_result(state=state))
        )

    def test_a_reboot_with_half_its_times_does_not_count(self) -> None:
        reboot = make.make_reboot_result(down_seconds=None)
        assert "reboot_seconds" not in compute_measures(make.make_outcome(reboot_result=reboot))

    @pytest.mark.parametrize("seconds", [0.0, float("inf"), float("nan"), -5.0])
    def test_a_figure_that_no_clock_gives_is_not_learned(self, seconds: float) -> None:
        reboot = make.make_reboot_result(down_seconds=0.0, up_seconds=seconds)
        assert "reboot_seconds" not in compute_measures(make.make_outcome(reboot_result=reboot))

    def test_a_machine_that_did_not_answer_teaches_nothing(self) -> None:
        assert compute_measures(make.make_failed_outcome()) == {}

    def test_a_download_that_was_timed_teaches_its_rate(self) -> None:
        install = make.make_install_result(staged_bytes=30_000_000, staged_seconds=20.0)
        measured = compute_measures(make.make_outcome(install=install))
        assert measured["download_bytes_per_second"] == 1_500_000.0
        assert learn_rates(APT, measured.get).download_bytes_per_second == 1_500_000.0

    @pytest.mark.parametrize(
        ("staged_bytes", "seconds"),
        [
            (None, 10.0),  # not known
            (0, 10.0),  # all of it was there already
            (999_999, 10.0),  # mostly other work
            (5_000_000, None),
            (5_000_000, 0.0),
            (5_000_000, -1.0),  # the clock was set back
            (5_000_000, float("nan")),
            (5_000_000, float("inf")),
        ],
    )
    def test_a_download_that_tells_nothing_is_not_learned(
        self, staged_bytes: int | None, seconds: float | None
    ) -> None:
        install = make.make_install_result(staged_bytes=staged_bytes, staged_seconds=seconds)
        assert "download_bytes_per_second" not in compute_measures(make.make_outcome(install=install))

    def test_what_was_downloaded_counts_even_when_its_installation_failed(self) -> None:
        install = make.make_install_result(
            transactions=(make.make_transaction(exit_code=100),), staged_bytes=2_000_000, staged_seconds=4.0
        )
        measured = compute_measures(make.make_outcome(install=install, reboot_result=None))
        assert measured == {"download_bytes_per_second": 500_000.0}
