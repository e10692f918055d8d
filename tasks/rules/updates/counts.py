"""Counts the updates of a machine by state, for lists without single updates. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.domain.model import Assessment, Update, UpdateResult
from tasks.domain.states import PRESENT_UPDATE_STATES, URGENT_CLASSIFICATIONS, Classification, UpdateState


@dataclass(frozen=True, slots=True)
class UpdateCounts:
    """The numbers of updates of a machine.

    Attributes:
        states: number of updates in each state.
        urgent: number of critical and security updates that are not installed.
        unclassified: number of updates without a classification that are not installed.
    """

    states: Mapping[UpdateState, int] = field(default_factory=dict)
    urgent: int = 0
    unclassified: int = 0

    @property
    def total(self) -> int:
        """Return the number of all updates."""
        return sum(self.states.values())

    def count_in(self, *states: UpdateState) -> int:
        """Return the number of updates in these states."""
        return sum(self.states.get(state, 0) for state in states)


def count_results(results: Iterable[UpdateResult]) -> UpdateCounts:
    """Return the counts of a machine's update results."""
    return _build_counts((result.update, result.state) for result in results)


def count_pending(assessment: Assessment) -> UpdateCounts:
    """Return the counts of the pending updates of an assessment."""
    updates = assessment.packages.updates if assessment.packages else ()
    return _build_counts((update, UpdateState.PENDING) for update in updates)


def _build_counts(updates_with_states: Iterable[tuple[Update, UpdateState]]) -> UpdateCounts:
    states: Counter[UpdateState] = Counter()
    urgent = unclassified = 0
    for update, state in updates_with_states:
        states[state] += 1
        if state not in PRESENT_UPDATE_STATES:
            urgent += update.classification in URGENT_CLASSIFICATIONS
            unclassified += update.classification is Classification.UNCLASSIFIED
    return UpdateCounts(states, urgent, unclassified)
