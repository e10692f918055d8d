"""The judgement whether a machine is compliant, and what may hide fixes from it, on which it depends."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import READ_LISTS_REMEDY, ReportTooLarge
from tasks.domain.states import Compliance

MAX_ANSWER_AGE: Final = timedelta(days=7)
"""A machine whose newest answer is older counts as not assessed, as in Azure Update Manager."""


@dataclass(frozen=True, slots=True)
class RepositoryProblem:
    """A package repository that was not read, or another reason why fixes are not seen, and the remedy."""

    repository: str  # its name, or "" for all of them
    message: str  # why, in the package manager's words
    remedy: str  # what to do
    hides_fixes: bool = True  # whether it could have security fixes, which are not seen now
    is_of_refresh: bool = True  # whether only the next refresh can take it back; else each read tells it anew

    def __str__(self) -> str:
        return f"{self.repository}: {self.message}" if self.repository else self.message


UNASKED_SOURCE: Final = RepositoryProblem(
    "", "whether there is a newer image is not known: its source was not asked", READ_LISTS_REMEDY
)
"""Of a system whose tool keeps nothing of a check that found nothing newer: only an earlier assessment can tell."""
UNASKED_AGENT: Final = RepositoryProblem(
    "", "Automatic Updates is not known to have asked the source of updates for 7 days", READ_LISTS_REMEDY
)
"""Of Windows, which does not count a search by a script: only an earlier assessment can tell."""

_LONGEST_SKEW: Final = timedelta(days=1)
_ENDED_SUPPORT_REMEDY: Final = "Move the machine to a release with support."
_OS_RELEASE_REMEDY: Final = f"{_ENDED_SUPPORT_REMEDY} If its support goes on, correct the day in its os-release."


def find_ended_support(
    system: str, support_end: str, today: date, *, source: str = "", more: str = ""
) -> tuple[RepositoryProblem, ...]:
    """Return a problem if the support of a system has ended. Its publisher makes no more fixes.

    Args:
        system: its name and version.
        support_end: the first day without support (os-release(5)), "YYYY-MM-DD"; "" when nothing tells it.
        today: the day.
        source: what tells the day; "": the system's os-release.
        more: what to add to the message.
    """
    if not support_end or today.isoformat() < support_end:
        return ()
    message = f"the support of {system} has ended on {support_end} ({source or 'SUPPORT_END in its os-release'}){more}"
    remedy = _ENDED_SUPPORT_REMEDY if source else _OS_RELEASE_REMEDY
    return (RepositoryProblem("", message, remedy, is_of_refresh=False),)


def find_clock_problem(skew_seconds: float, error_seconds: float) -> tuple[RepositoryProblem, ...]:
    """Return a problem if a machine's clock is a day wrong or more: no age that it tells is true."""
    if abs(skew_seconds) - error_seconds < _LONGEST_SKEW.total_seconds():
        return ()
    message = "the machine's clock is wrong by a day or more: how old its answers are is not known"
    return (RepositoryProblem("", message, "Let the machine's clock be set from a time server.", is_of_refresh=False),)


def merge_problems(
    now: Iterable[RepositoryProblem], earlier: Iterable[RepositoryProblem], *, was_asked: bool
) -> tuple[RepositoryProblem, ...]:
    """Return the problems of a read without a refresh, with those that only the next refresh can take back.

    Args:
        now: of this read. Of a repository that stands in both, the refresh told the cause.
        earlier: of the read before.
        was_asked: whether a refresh has asked the source lately, so that it does not count as unasked.
    """
    unasked, earlier = {UNASKED_SOURCE, UNASKED_AGENT}, tuple(earlier)
    told_repositories = {problem.repository for problem in earlier if problem.repository and problem.is_of_refresh}
    lasting = [problem for problem in earlier if problem.is_of_refresh and problem not in unasked]
    new = (
        problem
        for problem in now
        if problem.repository not in told_repositories and not (was_asked and problem in unasked)
    )
    return tuple(dict.fromkeys((*lasting, *new)))


def judge_compliance(
    *,
    urgent: int,
    unclassified: int,
    broken: bool,
    problems: Iterable[RepositoryProblem],
    waiting: bool | None = None,
) -> Compliance:
    """Return whether a machine whose package state is known is compliant. All that shows compliance asks here.

    ``urgent`` critical and security updates are pending, ``unclassified`` pending ones may be security updates.
    ``waiting``: whether such updates are installed and not in effect; False: perhaps. None: nothing is known to wait.
    """
    if urgent or broken or waiting:
        return Compliance.NON_COMPLIANT
    if unclassified or waiting is not None or any(problem.hides_fixes for problem in problems):
        return Compliance.NOT_ASSESSED
    return Compliance.COMPLIANT


def is_answer_current(answered_at: datetime | None, now: datetime, error_kind: str = "") -> bool:
    """Return whether a machine's newest answer says what the machine is now. None: it has never answered.

    ``error_kind`` is the class of the error of its newest assessment, "" for none. A refused report ends earlier
    answers.
    """
    was_refused = error_kind == ReportTooLarge.__name__
    return answered_at is not None and not was_refused and now - answered_at <= MAX_ANSWER_AGE


def judge_present_compliance(
    known: Compliance, answered_at: datetime | None, now: datetime, error_kind: str = ""
) -> Compliance:
    """Return whether a machine is compliant now. All that shows the state of machines asks here.

    A try that got no answer does not hide what the machine lacks, and does not say that it still lacks nothing.
    ``known`` is by its newest answer. For the rest see ``is_answer_current``.
    """
    if not is_answer_current(answered_at, now, error_kind) or (error_kind and known is Compliance.COMPLIANT):
        return Compliance.NOT_ASSESSED
    return known
