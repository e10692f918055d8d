"""What the state of a machine means for installing updates on it."""

from collections.abc import Sequence

from tasks.model import Facts, Finding, PackageState, RebootNeed, Update
from tasks.rules.checks import PENDING_REBOOT, clock_finding, disk_findings, package_findings, vendor_findings
from tasks.states import Answer, FindingLevel


def state_findings(
    facts: Facts,
    packages: PackageState,
    chosen: Sequence[Update],
    *,
    repair: bool = False,
    reboot_first: bool = False,
    updaters_rest: bool = False,
) -> list[Finding]:
    """Return what a machine's state means for installing the chosen updates. Pure.

    Args:
        facts: what the machine says of itself.
        packages: what its package manager says.
        chosen: what is to be installed.
        repair: whether an interrupted transaction may be finished.
        reboot_first: whether a pending reboot is taken before anything is installed.
        updaters_rest: whether updaters of the system's own are paused before that.
    """
    download = sum(update.size_bytes or 0 for update in chosen)
    of_packages = package_findings(packages, repair_allowed=repair, updaters_rest=updaters_rest)
    return [
        clock_finding(facts.clock_skew_seconds),
        *disk_findings(facts, download_bytes=download, updates=chosen),
        *vendor_findings(chosen),
        *(
            finding for finding in of_packages if finding.check != PENDING_REBOOT
        ),  # said once, with what is done about it
        _pending_reboot(packages.reboot, first=reboot_first),
    ]


def _pending_reboot(need: RebootNeed, *, first: bool) -> Finding:
    reasons = "; ".join(need.reasons)
    match need.answer:
        case Answer.NO:
            return Finding(PENDING_REBOOT, FindingLevel.GOOD, "no reboot is pending")
        case Answer.YES if first:
            return Finding(PENDING_REBOOT, FindingLevel.GOOD, f"a pending reboot is taken first: {reasons}")
        case Answer.YES:
            remedy = "Reboot it, or allow pending reboots to be taken first."
            return Finding(PENDING_REBOOT, FindingLevel.WARN, f"a reboot was pending already: {reasons}", remedy)
        case _:
            return Finding(
                PENDING_REBOOT, FindingLevel.GOOD, f"the machine can't tell whether a reboot is pending: {reasons}"
            )
