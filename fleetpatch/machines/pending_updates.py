"""Lists what a machine lacks, since when, and why no run has installed it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tasks.domain.model import Update
from tasks.domain.states import SUCCESSFUL_UPDATE_STATES, URGENT_CLASSIFICATIONS, Classification
from tasks.records.queries.explanations import Explanation


@dataclass(frozen=True, slots=True)
class ExplainedUpdate:
    """An update that a machine lacks.

    Attributes:
        since: since when an assessment has found it pending; None if that is not known.
        reason: why it is not installed, by the newest run that considered it; else by the assessment.
        state: what that run says of it; "" without such a run.
        run_id: that run; "" for none.
    """

    update: Update
    since: datetime | None
    reason: str
    state: str
    run_id: str


def list_pending_updates(
    explanations: Iterable[Explanation], missing_since: Mapping[tuple[str, str], datetime]
) -> tuple[ExplainedUpdate, ...]:
    """Return what a machine lacks, critical and security updates first.

    Args:
        explanations: of the machine, as History.explain_updates returns them: pending updates, then runs, newest first.
        missing_since: since when it lacks a fix, by the machine's and the update's name.
    """
    pending: list[Explanation] = []
    by_update: dict[str, Explanation] = {}
    for explanation in explanations:
        if explanation.is_from_assessment:
            pending.append(explanation)
        else:
            by_update.setdefault(explanation.update.id, explanation)
    patches = (_build_pending(update, by_update.get(update.update.id), missing_since) for update in pending)
    return tuple(sorted(patches, key=_get_rank))


def _build_pending(
    pending: Explanation, result: Explanation | None, missing_since: Mapping[tuple[str, str], datetime]
) -> ExplainedUpdate:
    update = pending.update
    since = missing_since.get((pending.machine, update.name))
    # A hold or a block that the machine reports now says more than what a run found earlier. And once a run has
    # installed an update, what is pending again came later.
    if result is None or result.state in SUCCESSFUL_UPDATE_STATES or update.remark:
        return ExplainedUpdate(update, since, pending.reason, "", "")
    return ExplainedUpdate(update, since, result.reason, result.state.value, result.run_id)


def _get_rank(pending: ExplainedUpdate) -> tuple[int, str]:
    update = pending.update
    rank = 0 if update.classification is Classification.CRITICAL else 1
    return (rank if update.classification in URGENT_CLASSIFICATIONS else 2), update.name
