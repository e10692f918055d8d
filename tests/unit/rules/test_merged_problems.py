"""What a read without a refresh keeps of the repositories' problems."""

from datetime import date

from tasks.domain.compliance import UNASKED_SOURCE, RepositoryProblem, find_ended_support, merge_problems

TODAY = date(2026, 11, 26)
SLOW = RepositoryProblem("vendor", "too slow", "Look at its server.")
ENDED = find_ended_support("Fedora 39", "2024-05-21", TODAY)


def test_only_a_refresh_takes_back_that_a_repository_was_not_read() -> None:
    assert merge_problems((), (SLOW,)) == (SLOW,)
    assert merge_problems((RepositoryProblem("vendor", "it was never read", ""),), (SLOW,)) == (SLOW,)


def test_the_end_of_support_is_judged_anew() -> None:
    assert merge_problems((), ENDED) == ()
    assert merge_problems(ENDED, ()) == merge_problems(ENDED, ENDED) == ENDED


def test_a_source_that_was_asked_by_now_or_before_is_not_unasked() -> None:
    assert merge_problems((), (UNASKED_SOURCE,)) == ()
    assert merge_problems((UNASKED_SOURCE,), ()) == ()
    assert merge_problems((UNASKED_SOURCE,), (UNASKED_SOURCE,)) == (UNASKED_SOURCE,)
