import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.model import Outcome
from tasks.records.learning import measures_from, weighted_mean
from tasks.states import RebootState
from tests.support import builders as make


def _outcome(*transactions: object, **changes: object) -> Outcome:
    return make.make_outcome(install=make.make_install_result(transactions=transactions), **changes)


class TestWeightedMean:
    def test_no_samples_no_mean(self) -> None:
        assert weighted_mean([]) is None

    def test_each_new_sample_weighs_three_tenths(self) -> None:
        assert weighted_mean([100.0]) == 100.0
        assert weighted_mean([100.0, 200.0]) == pytest.approx(130.0)
        assert weighted_mean([100.0, 200.0, 0.0]) == pytest.approx(91.0)

    @given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30))
    def test_it_lies_between_the_smallest_and_the_largest(self, values: list[float]) -> None:
        mean = weighted_mean(values)
        assert mean is not None
        assert min(values) * 0.999999 <= mean <= max(values) * 1.000001


class TestMeasures:
    def test_a_patched_machine_measures_installation_and_reboot(self) -> None:
        assert measures_from(make.make_outcome()) == {
            "install_seconds_per_update": 40.0,
            "transaction_seconds": 80.0,
            "reboot_seconds": 50.0,
        }

    def test_transactions_are_taken_together(self) -> None:
        one = make.make_transaction(updates=("a",), started_at=make.at(0), ended_at=make.at(10))
        nine = make.make_transaction(number=1, updates=tuple("bcdefghij"), started_at=make.at(10), ended_at=make.at(60))
        measured = measures_from(_outcome(one, nine, reboot_result=None))
        assert measured == {"install_seconds_per_update": 6.0, "transaction_seconds": 30.0}

    def test_what_failed_or_has_no_times_or_is_a_repair_says_nothing(self) -> None:
        outcome = _outcome(
            make.make_transaction(exit_code=100),
            make.make_transaction(exit_code=None, ended_at=None),
            make.make_transaction(started_at=None),
            make.make_transaction(updates=()),
            make.make_transaction(started_at=make.at(50), ended_at=make.at(20)),
            reboot_result=None,
        )
        assert measures_from(outcome) == {}

    @pytest.mark.parametrize("state", [state for state in RebootState if state is not RebootState.COMPLETED])
    def test_only_a_reboot_that_was_completed_counts(self, state: RebootState) -> None:
        assert "reboot_seconds" not in measures_from(
            make.make_outcome(reboot_result=make.make_reboot_result(state=state))
        )

    def test_a_reboot_with_half_its_times_does_not_count(self) -> None:
        reboot = make.make_reboot_result(down_seconds=None)
        assert "reboot_seconds" not in measures_from(make.make_outcome(reboot_result=reboot))

    @pytest.mark.parametrize("seconds", [0.0, float("inf"), float("nan"), -5.0])
    def test_a_figure_that_no_clock_gives_is_not_learned(self, seconds: float) -> None:
        reboot = make.make_reboot_result(down_seconds=0.0, up_seconds=seconds)
        assert "reboot_seconds" not in measures_from(make.make_outcome(reboot_result=reboot))

    def test_a_machine_that_did_not_answer_teaches_nothing(self) -> None:
        assert measures_from(make.make_failed_outcome()) == {}
