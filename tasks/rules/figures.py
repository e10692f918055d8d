"""The figures that people are told of plans and of work done: each is decided here, for every place that shows it.

Pure. Notifications, the approval's page, reports and the command differ in their form, never in a figure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.model import Outcome, Plan, Update
from tasks.states import URGENT, Answer

REBOOT_WORDS = {Answer.YES: "yes", Answer.NO: "no", Answer.UNKNOWN: "perhaps"}


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """What plans come to.

    Attributes:
        machines: those with something to install.
        urgent: critical and security updates among the ``updates`` that are chosen.
        cves: different CVEs that the chosen updates fix; None when no machine can tell.
        reboots: machines that will be rebooted, and ``perhaps`` those of which nobody can tell beforehand.
        slowest: the plan that takes longest; None when nothing is to be installed.
    """

    machines: int
    updates: int
    urgent: int
    cves: int | None
    reboots: int
    perhaps: int
    slowest: Plan | None


def plan_figures(plans: Iterable[Plan]) -> PlanFigures:
    """Return the figures of a run's plans."""
    found = tuple(plans)
    busy = [plan for plan in found if plan.chosen]
    chosen = [update for plan in busy for update in plan.chosen]
    answers = [reboot_of(plan) for plan in found]
    fixed = cves_of(chosen)
    return PlanFigures(
        machines=len(busy),
        updates=len(chosen),
        urgent=sum(update.classification in URGENT for update in chosen),
        cves=None if fixed is None else len(fixed),
        reboots=answers.count(Answer.YES),
        perhaps=answers.count(Answer.UNKNOWN),
        slowest=max(busy, key=lambda plan: plan.prediction.total, default=None),
    )


def reboot_of(plan: Plan) -> Answer:
    """Return whether a machine will be rebooted. Where nothing is installed no update can ask for it."""
    if plan.reboot_expected is Answer.UNKNOWN and not plan.chosen:
        return Answer.NO
    return plan.reboot_expected


def cves_of(updates: Sequence[Update]) -> tuple[str, ...] | None:
    """Return the CVEs that updates fix, each once; None when none of them can tell, which is not the same as none."""
    if updates and all(update.cves is None for update in updates):
        return None
    return tuple(sorted({cve for update in updates for cve in update.cves or ()}))


def least_seconds(plan: Plan) -> float:
    """Return the seconds that a machine takes when a reboot that may be needed is not."""
    without = plan.prediction.reboot if reboot_of(plan) is Answer.UNKNOWN else 0.0
    return plan.prediction.total - without


def worked_seconds(outcome: Outcome) -> float | None:
    """Return for how long a machine was worked on; None when it never was. Waiting for its wave is no work."""
    total, until = 0.0, None
    for step in sorted(outcome.steps, key=lambda each: each.started_at):
        begins = step.started_at if until is None else max(until, step.started_at)
        total += max(0.0, (step.ended_at - begins).total_seconds())
        until = step.ended_at if until is None else max(until, step.ended_at)
    return None if until is None else total
