from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.compliance import find_ended_support, judge_compliance
from tasks.domain.states import Compliance

DAYS = st.dates(date(2000, 1, 1), date(2999, 12, 31))


@given(DAYS, DAYS)
def test_a_machine_is_not_assessed_from_the_first_day_without_support(end: date, today: date) -> None:
    problems = find_ended_support("Fedora Linux 39", end.isoformat(), today)
    compliance = judge_compliance(urgent=0, unclassified=0, broken=False, problems=problems)
    assert compliance is (Compliance.NOT_ASSESSED if today >= end else Compliance.COMPLIANT)


@given(DAYS)
def test_of_a_system_that_does_not_tell_it_nothing_is_claimed(today: date) -> None:
    assert find_ended_support("Debian GNU/Linux 9", "", today) == ()


def test_the_day_is_told() -> None:
    (problem,) = find_ended_support("Amazon Linux 2", "2026-06-30", date(2026, 7, 1))
    assert str(problem) == "the support of Amazon Linux 2 has ended on 2026-06-30 (SUPPORT_END in its os-release)"
