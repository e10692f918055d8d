"""Whether a machine is healthy, from its assessments and its last run. Pure.

An assessment reads a machine and does not run its probes. So what is known is: whether the machine answers, which of
its services have failed, and how the validation of its last patch run ended (with its probes).
"""

from tasks.domain.model import Assessment, Outcome
from tasks.domain.states import OperationState, Step


def judge_health(*, answers: bool, assessment: Assessment | None, outcome: Outcome | None) -> bool | None:
    """Return whether a machine is healthy; None if that is unknown.

    - A machine that does not answer may only be off: its health is unknown, and ``last_seen`` tells the rest.
    - A machine whose last run failed at the reboot or the validation is not healthy until it was assessed again and
      none of its services has failed. Then it is unknown: only a run's pre-check tries its probes again.
    - A machine with a service that has failed since its last run is not healthy: the update may be the reason.

    Args:
        answers: whether its newest assessment has an answer.
        assessment: its newest assessment with an answer; None: it never answered.
        outcome: its last outcome in a run that changed machines; None: it has none.
    """
    if assessment is None or not answers:
        return False if outcome is not None and _failed_after_change(outcome) else None
    failed_services = frozenset(assessment.facts.services.failed) if assessment.facts is not None else frozenset()
    if outcome is None:
        return True
    if _failed_after_change(outcome):
        is_later = outcome.ended_at is not None and assessment.at > outcome.ended_at
        return None if is_later and not failed_services else False
    before = frozenset(outcome.facts.services.failed) if outcome.facts is not None else failed_services
    return not failed_services - before


def _failed_after_change(outcome: Outcome) -> bool:
    """Return whether a machine was changed, and then did not come back or failed its validation."""
    if outcome.state is not OperationState.FAILED:
        return False
    return any(
        record.step in {Step.REBOOT, Step.VALIDATE} and record.state is OperationState.FAILED
        for record in outcome.steps
    )
