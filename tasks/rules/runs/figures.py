"""The figures of plans and outcomes for display. Each figure has one definition here.

Pure. Notifications, the approval page, reports and the command show the same figures in different forms.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime

from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.model import (
    Assessment,
    MachinePlan,
    Outcome,
    StepRecord,
    TransactionResult,
    Update,
    UpdateResult,
)
from tasks.domain.states import PRESENT_UPDATE_STATES, Classification, Step, UpdateState, YesNoUnknown

_MAX_NAMES = 5
REBOOT_LABELS = {YesNoUnknown.YES: "yes", YesNoUnknown.NO: "no", YesNoUnknown.UNKNOWN: "possible"}


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """The total figures of plans."""

    machines: int  # number of machines with updates to install
    updates: int
    urgent: int  # number of critical and security updates among the chosen ``updates``
    cves: int | None  # number of different CVEs that the chosen updates fix; None when unknown
    reboots: int  # number of machines that will be rebooted; ``possible_reboots``: of those that may be rebooted
    possible_reboots: int
    # The plan with the longest predicted duration; None when there is nothing to install.
    slowest_plan: MachinePlan | None


def compute_plan_figures(plans: Iterable[MachinePlan]) -> PlanFigures:
    """Return the total figures of a run's plans."""
    plans_read = tuple(plans)
    busy = [plan for plan in plans_read if plan.chosen]
    chosen = [update for plan in busy for update in plan.chosen]
    answers = [predict_reboot(plan) for plan in plans_read]
    fixed = collect_cves(chosen)
    return PlanFigures(
        machines=len(busy),
        updates=len(chosen),
        urgent=sum(update.classification.is_urgent for update in chosen),
        cves=None if fixed is None else len(fixed),
        reboots=answers.count(YesNoUnknown.YES),
        possible_reboots=answers.count(YesNoUnknown.UNKNOWN),
        slowest_plan=max(busy, key=lambda plan: plan.prediction.total_seconds, default=None),
    )


def predict_reboot(plan: MachinePlan) -> YesNoUnknown:
    """Return whether a machine will be rebooted. Without updates to install, UNKNOWN becomes NO."""
    if plan.reboot_expected is YesNoUnknown.UNKNOWN and not plan.chosen:
        return YesNoUnknown.NO
    return plan.reboot_expected


def explain_reboot(plan: MachinePlan) -> str:
    """Return why a machine will be rebooted, may be rebooted or will not, in words; "" when its updates say nothing.

    A reboot that is pending already is a note of the plan.
    """
    needing = [update for update in plan.chosen if update.requires_reboot or update.changes_boot]
    match predict_reboot(plan):
        case YesNoUnknown.YES:
            return _name_by_reason(needing)
        case YesNoUnknown.UNKNOWN:
            return _name_by_reason(u for u in plan.chosen if u.requires_reboot is None and u.reboot_reason)
        case YesNoUnknown.NO if needing:
            return f"the request allows none, although one is needed for {_name_by_reason(needing)}"
    names_by_reason = _name_by_reason(update for update in plan.chosen if update.reboot_reason)
    return f"{names_by_reason}; what the machine says after the installation decides" if names_by_reason else ""


def _name_by_reason(updates: Iterable[Update]) -> str:
    names: dict[str, list[str]] = {}
    for update in updates:
        names.setdefault(update.reboot_reason, []).append(update.name)
    groups = ((join_first_names(update_names, _MAX_NAMES), reason) for reason, update_names in names.items())
    return "; ".join(f"{listed} ({reason})" if reason else listed for listed, reason in groups)


def collect_cves(updates: Sequence[Update]) -> tuple[str, ...] | None:
    """Return the CVEs that updates fix, without duplicates; None when unknown for all updates."""
    if updates and all(update.cves is None for update in updates):
        return None
    return tuple(sorted({cve for update in updates for cve in update.cves or ()}))


def compute_min_seconds(plan: MachinePlan) -> float:
    """Return the predicted seconds of a machine without a reboot that is only possible."""
    without = plan.prediction.reboot if predict_reboot(plan) is YesNoUnknown.UNKNOWN else 0.0
    return plan.prediction.total_seconds - without


def compute_work_seconds(outcome: Outcome) -> float | None:
    """Return the total seconds of a machine's steps, without waits between them; None without steps."""
    total, until = 0.0, None
    for step in sorted(outcome.steps, key=lambda record: record.started_at):
        begins = step.started_at if until is None else max(until, step.started_at)
        total += max(0.0, (step.ended_at - begins).total_seconds())
        until = step.ended_at if until is None else max(until, step.ended_at)
    return None if until is None else total


EARLIER_PROCESS = "by an earlier process of the run"
"""The message of a step's record for the time before this process."""


def find_earlier_work(
    transactions: Iterable[TransactionResult], steps: Iterable[StepRecord], began: datetime
) -> tuple[datetime, datetime] | None:
    """Return from when until when transactions ran before this process began the step; None if none did.

    ``steps``: the records of earlier steps. What these contain is not counted again.
    """
    recorded = max((step.ended_at for step in steps if step.step is Step.INSTALL), default=None)
    spans = [
        (transaction.started_at, transaction.ended_at or transaction.started_at)
        for transaction in transactions
        if transaction.started_at is not None
        and transaction.started_at < began
        and (recorded is None or transaction.started_at > recorded)
    ]
    if not spans:
        return None
    return min(start for start, _ in spans), min(began, max(end for _, end in spans))


@dataclass(frozen=True, slots=True)
class UpdateCounts:
    """The numbers of updates of a machine."""

    states: Mapping[UpdateState, int] = field(default_factory=dict)
    urgent: int = 0  # number of critical and security updates that are not installed
    unclassified: int = 0  # number of updates without a classification that are not installed

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
            urgent += update.classification.is_urgent
            unclassified += update.classification is Classification.UNCLASSIFIED
    return UpdateCounts(states, urgent, unclassified)
