"""Explains why an update has its state on a machine, from one assessment or outcome. Pure."""

from collections.abc import Iterator
from datetime import datetime

from inventory.data_class import dataclass
from tasks.domain.model import Assessment, Outcome, Update
from tasks.domain.states import UpdateState

AVAILABLE_REASON = "a newer version is available"
"""The reason of a pending update that nothing is known to block."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The state of one update on one machine, and the reason."""

    machine: str
    update: Update
    at: datetime | None  # the time of the state
    run_id: str  # the run that recorded the state; "" for an assessment outside a run
    state: UpdateState
    reason: str  # the reason in words; never empty
    # True: an assessment found the update pending. False: the state is the result of a run.
    is_from_assessment: bool = False


def explain_assessment(assessment: Assessment) -> Iterator[Explanation]:
    """Yield an explanation for each pending update of an assessment."""
    packages = assessment.packages
    if packages is None:
        return
    for update in packages.updates:
        reason = AVAILABLE_REASON
        if update.held or update.name in packages.held:
            reason = "a hold on the machine excludes it"
        elif update.blocked:
            reason = f"it can't be installed on this machine: {update.blocked}"
        elif update.needs_licence or update.given_up:
            reason = update.remark
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
    """Yield an explanation for the result of each update of an outcome."""
    at = outcome.ended_at or outcome.started_at
    for result in outcome.updates:
        reason = result.reason or f"{result.state.value}; no reason was recorded"
        if not result.reason and result.state is UpdateState.INSTALLED:
            reason = f"the package database has {result.version_after or result.update.available}"
        yield Explanation(outcome.machine, result.update, at, outcome.run_id, result.state, reason)
