"""Whether a Windows machine is enrolled for hotpatches, and its prerequisites, each with its remedy. Pure.

The prerequisites are those of Microsoft's documents:

- Windows Server 2022 Datacenter: Azure Edition, which includes hotpatches. Registry values enrol it.
- Windows Server 2025 Datacenter: Azure Edition, which includes them too.
- Windows Server 2025 Standard or Datacenter from build 26100.1742 on, connected to Azure Arc, with its licence.
- Virtualization-based security that runs, for which the machine needs UEFI with Secure Boot.
- The last baseline, installed and booted: a hotpatch changes that one.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final

from tasks.domain.model import Finding, HotpatchEnrolment
from tasks.domain.states import FindingLevel
from tasks.machines.managers.windows_update.hotpatch import (
    BUILD_2022,
    BUILD_2025,
    VBS_RUNNING,
    HotpatchRecord,
    find_build,
    is_azure_edition,
)
from tasks.machines.managers.windows_update.records import HistoryEntry, SystemRecord
from tasks.machines.managers.windows_update.transaction_order import is_cumulative_title, is_hotpatch
from tasks.rules.hotpatch.baselines import find_last_baseline

PROVIDER: Final = "hotpatch"
_FIRST_RELEASED_UBR: Final = 1742
_ARC_EDITIONS: Final = ("serverstandard", "serverdatacenter")
_GOOD, _WARN, _BLOCK = FindingLevel.GOOD, FindingLevel.WARN, FindingLevel.BLOCK
_VBS_REMEDY: Final = (
    "fleetpatch hotpatch enroll sets the value that Microsoft documents (EnableVirtualizationBasedSecurity = 1). "
    "Then restart the machine."
)


def find_enrolment(
    record: HotpatchRecord | None, system: SystemRecord, history: Sequence[HistoryEntry]
) -> HotpatchEnrolment | None:
    """Return what a machine says of its enrolment; None for a version of Windows without hotpatches for servers.

    Args:
        record: None when the script did not send it.
        system: the build and the edition.
        history: what the agent has installed.
    """
    build = find_build(system)
    if record is None or build < BUILD_2022 or system.installation_type.lower() == "client":
        return None
    edition = _check_edition(system, build)
    if edition.level is _BLOCK:
        return HotpatchEnrolment(PROVIDER, product=system.build, prerequisites=(edition,))
    findings = (
        edition,
        *_check_licence(record, system),
        _check_vbs(record),
        *_check_boot(record, system, build),
        *_check_baseline(system, history),
    )
    if is_azure_edition(system):
        # with 2025 hotpatches belong to the system itself; with 2022 the package enrols it
        is_enrolled = build >= BUILD_2025 or bool(record.enrolled)
        receives = is_enrolled and record.vbs_status == VBS_RUNNING
        return HotpatchEnrolment(PROVIDER, "registry", is_enrolled, receives, system.build, findings)
    is_licensed = bool(record.licence) if record.arc else None
    receives = bool(record.licence) and bool(record.enrolled)
    return HotpatchEnrolment(PROVIDER, "arc", is_licensed, receives, system.build, findings)


def _check_edition(system: SystemRecord, build: int) -> Finding:
    if is_azure_edition(system):
        return Finding("edition", _GOOD, "Datacenter: Azure Edition")
    if build < BUILD_2025:
        message = f"{system.edition or 'this edition'} gets hotpatches from Windows Server 2025 on"
        return Finding("edition", _BLOCK, message, "Use Datacenter: Azure Edition, or upgrade to Windows Server 2025.")
    if not system.edition.lower().startswith(_ARC_EDITIONS):
        remedy = "Use Standard, Datacenter, or Datacenter: Azure Edition."
        return Finding("edition", _BLOCK, f"there are no hotpatches for the edition {system.edition}", remedy)
    if build == BUILD_2025 and system.ubr is not None and system.ubr < _FIRST_RELEASED_UBR:
        message = f"build {system.build}.{system.ubr} is one from before the release"
        return Finding("edition", _BLOCK, message, f"Install build {BUILD_2025}.{_FIRST_RELEASED_UBR} or later.")
    return Finding("edition", _GOOD, f"Windows Server 2025, {system.edition}")


def _check_licence(record: HotpatchRecord, system: SystemRecord) -> tuple[Finding, ...]:
    if is_azure_edition(system):
        return ()
    if not record.arc:
        remedy = "Connect it: azcmagent connect. Hotpatches of this edition come through Azure Arc."
        return (Finding("licence", _BLOCK, "Azure Arc's agent does not run", remedy),)
    if not record.licence:
        remedy = "fleetpatch hotpatch enroll with --arc asks Azure Arc for it, or people do in the portal."
        return (Finding("licence", _BLOCK, "Azure Arc's agent has no licence for hotpatches", remedy),)
    return (Finding("licence", _GOOD, "Azure Arc's agent has the licence"),)


def _check_vbs(record: HotpatchRecord) -> Finding:
    if record.vbs_status == VBS_RUNNING:
        return Finding("vbs", _GOOD, "virtualization-based security runs")
    if record.vbs_status is None:
        message = "the machine does not tell whether virtualization-based security runs"
        return Finding("vbs", _WARN, message, "On the machine, look at msinfo32.")
    if record.vbs_configured:
        remedy = "Restart the machine. If that does not help, look at its firmware, and at nested virtualization."
        return Finding("vbs", _BLOCK, "virtualization-based security is set, but does not run", remedy)
    return Finding("vbs", _BLOCK, "virtualization-based security is off", _VBS_REMEDY)


def _check_boot(record: HotpatchRecord, system: SystemRecord, build: int) -> tuple[Finding, ...]:
    findings = []
    if record.secure_boot == 0:
        remedy = "Switch it on in the firmware; a virtual machine of Hyper-V must be one of generation 2."
        findings.append(Finding("secure boot", _BLOCK, "Secure Boot is off", remedy))
    if is_azure_edition(system) and build < BUILD_2025 and not record.table_size:
        remedy = "fleetpatch hotpatch enroll sets the value that Microsoft documents (HotPatchTableSize = 0x1000)."
        findings.append(Finding("table size", _BLOCK, "HotPatchTableSize is not set", remedy))
    return tuple(findings)


def _check_baseline(system: SystemRecord, history: Sequence[HistoryEntry]) -> tuple[Finding, ...]:
    """Return whether the last planned baseline is installed, by the agent's own history, as far as that tells."""
    day = find_last_baseline(datetime.fromtimestamp(system.at, UTC).date())
    done = [entry for entry in history if entry.is_installation]
    installed = [entry for entry in done if is_cumulative_title(entry.title) or is_hotpatch(entry.title)]
    if any(_find_day(entry) >= day for entry in installed):
        return (Finding("baseline", _GOOD, f"updates of the baseline of {day:%Y-%m-%d} or later are installed"),)
    if not installed:
        return ()
    message = f"the agent's history has no cumulative update since the baseline of {day:%Y-%m-%d}"
    return (Finding("baseline", _WARN, message, "Install the newest cumulative update, and restart the machine."),)


def _find_day(entry: HistoryEntry) -> date:
    return datetime.fromtimestamp(entry.at or 0, UTC).date()
