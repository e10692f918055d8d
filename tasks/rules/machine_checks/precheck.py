"""The checks before an installation: clock, disk, packages and pending reboot. Pure."""

from collections.abc import Sequence

from tasks.model import Facts, Finding, PackageState, RebootNeed, Update
from tasks.rules.machine_checks.clock import check_clock
from tasks.rules.machine_checks.disk import check_disk_space
from tasks.rules.machine_checks.packages import PENDING_REBOOT_CHECK, check_packages, check_vendor_changes
from tasks.states import FindingLevel, YesNoUnknown


def check_machine_state(
    facts: Facts,
    packages: PackageState,
    chosen: Sequence[Update],
    *,
    repair: bool = False,
    reboot_first: bool = False,
    updaters_paused: bool = False,
) -> list[Finding]:
    """Return findings about a machine's state before the chosen updates are installed. Pure.

    Args:
        facts: facts of the machine.
        packages: package state of the machine.
        chosen: the updates to install.
        repair: whether the run may finish an interrupted transaction.
        reboot_first: whether the run executes a pending reboot before the installation.
        updaters_paused: whether the run pauses the system's own updaters before the installation.
    """
    download = sum(update.size_bytes or 0 for update in chosen)
    of_packages = check_packages(packages, repair_allowed=repair, updaters_paused=updaters_paused)
    return [
        check_clock(facts.clock_skew_seconds),
        *check_disk_space(facts, download_bytes=download, updates=chosen),
        *check_vendor_changes(chosen),
        *(
            finding for finding in of_packages if finding.check != PENDING_REBOOT_CHECK
        ),  # _check_pending_reboot reports it, with the action of this run
        _check_pending_reboot(packages.reboot, first=reboot_first),
    ]


def _check_pending_reboot(need: RebootNeed, *, first: bool) -> Finding:
    reasons = "; ".join(need.reasons)
    match need.answer:
        case YesNoUnknown.NO:
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.GOOD, "no reboot is pending")
        case YesNoUnknown.YES if first:
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.GOOD, f"the pending reboot is done first: {reasons}")
        case YesNoUnknown.YES:
            remedy = "Reboot it, or allow fleetpatch to do pending reboots first."
            return Finding(PENDING_REBOOT_CHECK, FindingLevel.WARN, f"a reboot was pending already: {reasons}", remedy)
        case _:
            return Finding(
                PENDING_REBOOT_CHECK,
                FindingLevel.GOOD,
                f"the machine can't tell whether a reboot is pending: {reasons}",
            )
