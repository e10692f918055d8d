"""Whether a machine of a report is compliant. Pure."""

from tasks.model import Assessment, Outcome
from tasks.rules.machine_checks.packages import PACKAGES_CHECK
from tasks.rules.updates.counts import UpdateCounts
from tasks.states import Compliance, FindingLevel, OperationState


def compute_compliance(outcome: Outcome | None, assessment: Assessment | None, found: UpdateCounts) -> Compliance:
    """Return NonCompliant while critical or security updates are missing or packages are broken.

    Args:
        outcome: what became of the machine, if anything did.
        assessment: what was pending on it, if that is known.
        found: numbers of its updates.
    """
    if found.urgent or _has_broken_packages(outcome, assessment):
        return Compliance.NON_COMPLIANT
    is_assessed = assessment is not None and assessment.packages is not None
    if not (found.total or is_assessed or (outcome and outcome.state is OperationState.SUCCEEDED)):
        return Compliance.NOT_ASSESSED
    return Compliance.NOT_ASSESSED if found.unclassified else Compliance.COMPLIANT


def _has_broken_packages(outcome: Outcome | None, assessment: Assessment | None) -> bool:
    """Whether packages are broken: after an installation as its validation saw them, else as they were assessed."""
    findings = outcome.findings if outcome else ()
    if any(each.check == PACKAGES_CHECK and each.level is FindingLevel.BLOCK for each in findings):
        return True
    if outcome is not None and outcome.install is not None:
        return False
    return assessment is not None and assessment.packages is not None and bool(assessment.packages.problems)
