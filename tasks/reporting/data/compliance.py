"""Computes the compliance of a machine in a report. Pure."""

from tasks.model import Assessment, Outcome
from tasks.rules.machine_checks.packages import PACKAGES_CHECK
from tasks.rules.updates.counts import UpdateCounts
from tasks.states import Compliance, FindingLevel, OperationState


def compute_compliance(outcome: Outcome | None, assessment: Assessment | None, found: UpdateCounts) -> Compliance:
    """Return NonCompliant if critical or security updates are missing or packages are broken.

    Return NotAssessed if the machine's updates are not known or some are unclassified, and Compliant otherwise.

    Args:
        outcome: the machine's outcome, or None.
        assessment: the machine's assessment, or None.
        found: counts of its updates.
    """
    if found.urgent or _has_broken_packages(outcome, assessment):
        return Compliance.NON_COMPLIANT
    is_assessed = assessment is not None and assessment.packages is not None
    if not (found.total or is_assessed or (outcome and outcome.state is OperationState.SUCCEEDED)):
        return Compliance.NOT_ASSESSED
    return Compliance.NOT_ASSESSED if found.unclassified else Compliance.COMPLIANT


def _has_broken_packages(outcome: Outcome | None, assessment: Assessment | None) -> bool:
    """Return whether packages are broken: by validation after an installation, otherwise by the assessment."""
    findings = outcome.findings if outcome else ()
    if any(each.check == PACKAGES_CHECK and each.level is FindingLevel.BLOCK for each in findings):
        return True
    if outcome is not None and outcome.install is not None:
        return False
    return assessment is not None and assessment.packages is not None and bool(assessment.packages.problems)
