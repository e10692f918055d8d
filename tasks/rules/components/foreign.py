"""Tells what is foreign to the run of a component: it was so before, and the run neither did nor left it. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from tasks.domain.model import Finding, PackageState
from tasks.domain.states import FindingLevel, YesNoUnknown
from tasks.rules.machine_checks.findings import SETTINGS_CHECK
from tasks.rules.machine_checks.packages import (
    AUTO_UPDATER_CHECK,
    PACKAGES_CHECK,
    PENDING_REBOOT_CHECK,
    REPOSITORIES_CHECK,
    SELF_RESTART_CHECK,
)
from tasks.rules.machine_checks.precheck import NEXT_BOOT_CHECK
from tasks.rules.machine_checks.services import SERVICE_RESTART_CHECK

_FOREIGN_CHECKS: Final = frozenset(
    {AUTO_UPDATER_CHECK, NEXT_BOOT_CHECK, PACKAGES_CHECK, REPOSITORIES_CHECK, SELF_RESTART_CHECK, SETTINGS_CHECK}
)
"""They are about the packages of the system, which no run of a component changes."""


def is_reboot_foreign(before: PackageState) -> bool:
    """Return whether a machine asked for its reboot before the run already."""
    return before.reboot.answer is YesNoUnknown.YES


def remark_foreign(
    findings: Iterable[Finding], before: PackageState, after: PackageState | None
) -> tuple[Finding, ...]:
    """Return findings with the foreign warnings as remarks: they change no state.

    Args:
        findings: of a machine in the run of a component.
        before: its packages before the run.
        after: its packages now; None: as before.
    """
    foreign = set(_FOREIGN_CHECKS)
    if is_reboot_foreign(before):
        foreign.add(PENDING_REBOOT_CHECK)
    if after is None or set(after.services_to_restart) <= set(before.services_to_restart):
        foreign.add(SERVICE_RESTART_CHECK)
    return tuple(
        replace(finding, level=FindingLevel.REMARK)
        if finding.level is FindingLevel.WARN and finding.check in foreign
        else finding
        for finding in findings
    )
