"""What a read without a refresh keeps of the repositories' problems."""

from dataclasses import replace
from datetime import date, timedelta

from tasks.domain.compliance import (
    UNASKED_AGENT,
    UNASKED_SOURCE,
    RepositoryProblem,
    find_clock_problem,
    find_ended_support,
    merge_problems,
)
from tasks.machines.managers.repository_problems import find_old_copy_problem
from tasks.steps.machine.package_state import keep_repository_problems
from tests.support.builders import START, make_package_state

TODAY = date(2026, 11, 26)
SLOW = RepositoryProblem("vendor", "too slow", "Look at its server.")
ENDED = find_ended_support("Fedora 39", "2024-05-21", TODAY)


def test_only_a_refresh_takes_back_that_a_repository_was_not_read() -> None:
    assert merge_problems((), (SLOW,), was_asked=True) == (SLOW,)
    never = RepositoryProblem("vendor", "it was never read", "")
    assert merge_problems((never,), (SLOW,), was_asked=True) == (SLOW,)


def test_the_end_of_support_is_judged_anew() -> None:
    assert merge_problems((), ENDED, was_asked=True) == ()
    assert merge_problems(ENDED, (), was_asked=True) == merge_problems(ENDED, ENDED, was_asked=True) == ENDED


def test_a_source_that_was_asked_by_now_or_lately_is_not_unasked() -> None:
    for unasked in (UNASKED_SOURCE, UNASKED_AGENT):
        assert merge_problems((), (unasked,), was_asked=False) == ()
        assert merge_problems((unasked,), (), was_asked=True) == ()
        assert merge_problems((unasked,), (), was_asked=False) == (unasked,)
        assert merge_problems((unasked,), (unasked,), was_asked=False) == (unasked,)


def test_reads_without_a_refresh_do_not_prolong_what_the_last_refresh_has_asked() -> None:
    state = make_package_state(asked_at=START)
    for day in range(1, 10):
        read = make_package_state(repository_problems=(UNASKED_AGENT,))
        state = keep_repository_problems(read, state, START + timedelta(days=day))
        assert state.repository_problems == (() if day <= 7 else (UNASKED_AGENT,))


def test_a_copy_that_grows_old_is_told_whatever_was_told_before() -> None:
    """apt's lists, of all repositories: they were young at the last read."""
    old = find_old_copy_problem("", 0, 9 * 86_400)
    assert old
    assert merge_problems((old,), (), was_asked=True) == (old,)
    assert merge_problems((), (old,), was_asked=True) == ()
    named = replace(old, repository="vendor")
    assert merge_problems((named,), (SLOW,), was_asked=True) == (SLOW,)


def test_a_clock_that_is_days_wrong_hides_how_old_everything_is() -> None:
    for skew in (-90_000.0, 90_000.0):
        assert [problem.hides_fixes for problem in find_clock_problem(skew, 0.0)] == [True]
    assert find_clock_problem(90_000.0, 5_000.0) == find_clock_problem(600.0, 0.0) == ()
