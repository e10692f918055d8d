"""Explains why an update is in its state on a machine, from one assessment or outcome. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from tasks.model import Assessment, Outcome, Update, UpdateResult
from tasks.states import UpdateState

AVAILABLE_REASON = "a newer version is available"
"""The reason of an update that is pending where nothing is known to stand in its way."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was seen of, or done to, one update on one machine, and why.

    Attributes:
        at: when it was so.
        run_id: the run that it comes from; "" for an assessment outside of any.
        reason: in words; never empty.
        is_from_assessment: whether it is about what was pending, and not about what a run did.
    """

    machine: str
    update: Update
    at: datetime | None
    run_id: str
    state: UpdateState
    reason: str
    is_from_assessment: bool = False


def has_matching_name(mask: str, update: Update) -> bool:
    """Return whether the name, the id or the KB number of an update matches a mask."""
    return any(fnmatchcase(name, mask) for name in (update.name, update.id, update.kb) if name)


def explain_assessment(assessment: Assessment) -> Iterator[Explanation]:
    """Yield why each update that an assessment found is pending."""
    packages = assessment.packages
    if packages is None:
        return
    for update in packages.updates:
        reason = AVAILABLE_REASON
        if update.held or update.name in packages.held:
            reason = "held on the machine by its administrator"
        elif update.blocked:
            reason = f"the machine can't install it as it stands: {update.blocked}"
        yield Explanation(
            assessment.machine,
            update,
            assessment.at,
            assessment.run_id,
            UpdateState.PENDING,
            reason,
            is_from_assessment=True,
        )


def explain_outcome(outcome: Outcome) -> Iterator[Explanation]:
    """Yield what a run did with each update, and why."""
    at = outcome.ended_at or outcome.started_at
    for result in outcome.updates:
        reason = result.reason or _describe_result(result)
        yield Explanation(outcome.machine, result.update, at, outcome.run_id, result.state, reason)


def _describe_result(result: UpdateResult) -> str:
    """Return a reason for a result that carries none."""
    if result.state is UpdateState.INSTALLED:
        return f"the package database has {result.version_after or result.update.available}"
    return f"{result.state.value}; no reason was recorded"
