"""Hotpatches of Windows Server: fixes in memory without a reboot, between baselines that need one. Pure.

Only the state is read here; `fleetpatch hotpatch` changes it. A licence is never forged.
Baselines are planned for January, April, July and October. Microsoft may replace any hotpatch by another baseline, so
the calendar is a forecast: whether an update needs a reboot is what the agent says of it, and afterwards what the
machine says.

The prerequisites of an enrolment are those of Microsoft's documents:

- Windows Server 2022 Datacenter: Azure Edition, which includes hotpatches. Registry values enrol it.
- Windows Server 2025 Datacenter: Azure Edition, which includes them too.
- Windows Server 2025 Standard or Datacenter from build 26100.1742 on, connected to Azure Arc, with its licence.
- Virtualization-based security that runs, for which the machine needs UEFI with Secure Boot.
- The last baseline, installed and booted: a hotpatch changes that one.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import Finding, HotpatchEnrolment, LivePatching
from tasks.domain.states import FindingLevel
from tasks.machines.managers.windows_update.offered_updates import is_cumulative_title, is_hotpatch_title
from tasks.machines.managers.windows_update.records import Record, SystemRecord, Text
from tasks.machines.managers.windows_update.update_history import HistoryEntry
from tasks.rules.hotpatch import BASELINE_MONTHS, find_last_baseline, find_next_baseline, find_release_month

PROVIDER: Final = "hotpatch"

BUILD_2022: Final = 20348
BUILD_2025: Final = 26100
VBS_RUNNING: Final = 2
_MAX_PATCHES: Final = 20


class HotpatchRecord(Record):
    """What the machine knows of hotpatches: record "hotpatch". None stands for a value that it does not have."""

    enrolled: Text = ""  # name of the enrolment package that tells Windows Update to offer hotpatches, or ""
    vbs_configured: int | None = None  # EnableVirtualizationBasedSecurity
    vbs_status: int | None = None  # of Win32_DeviceGuard: 0 off, 1 not running, 2 running
    secure_boot: int | None = None  # UEFISecureBootEnabled
    table_size: int | None = None  # HotPatchTableSize
    licence: int | None = None  # "Subscription" of the feature Hotpatch at Azure Arc's agent
    arc: bool = False  # whether that agent runs


def find_hotpatching(
    record: HotpatchRecord | None, system: SystemRecord, history: Sequence[HistoryEntry]
) -> LivePatching | None:
    """Return the state of hotpatches; None for a machine that can't get any."""
    if record is None or not (record.enrolled or is_hotpatch_eligible(record, system)):
        return None
    state = "not enrolled"
    if record.enrolled:
        state = f"enrolled, next planned baseline (with a reboot) on {find_next_baseline(system.today):%Y-%m-%d}"
    baseline = find_last_baseline(system.today)
    hotpatches = [
        entry for entry in history if entry.is_installation and is_hotpatch_title(entry.title) and entry.day >= baseline
    ]
    titles = [entry.title for entry in sorted(hotpatches, key=lambda entry: entry.seconds)]
    return LivePatching(
        PROVIDER,
        state,
        kernel=system.build if system.ubr is None else f"{system.build}.{system.ubr}",
        patches=tuple(dict.fromkeys(titles))[-_MAX_PATCHES:],
        problem=_find_problem(record, system) if record.enrolled else "",
    )


def is_hotpatch_eligible(record: HotpatchRecord, system: SystemRecord) -> bool:
    """Return whether the edition, the version and the licence of a machine are ones for hotpatches."""
    if system.is_client or system.build_number < BUILD_2022:
        return False
    return system.is_azure_edition or (system.build_number >= BUILD_2025 and record.arc and bool(record.licence))


def _find_problem(record: HotpatchRecord, system: SystemRecord) -> str:
    problems = []
    if record.vbs_status is not None and record.vbs_status != VBS_RUNNING:
        vbs_state = "is set, but does not run" if record.vbs_configured else "is off"
        problems.append(f"virtualization-based security {vbs_state}")
    if record.secure_boot == 0:
        problems.append("Secure Boot is off")
    if record.table_size == 0:
        problems.append("HotPatchTableSize is 0")
    if not system.is_azure_edition and not record.licence:
        problems.append("no licence of Azure Arc for hotpatches is found")
    return "; ".join(problems)


_FIRST_RELEASED_UBR: Final = 1742
_ARC_EDITIONS: Final = ("serverstandard", "serverdatacenter")
_GOOD, _WARN, _BLOCK = FindingLevel.GOOD, FindingLevel.WARN, FindingLevel.BLOCK
_VBS_REMEDY: Final = (
    "fleetpatch hotpatch enroll sets the value that Microsoft documents (EnableVirtualizationBasedSecurity = 1). "
    "Then restart the machine."
)


def find_hotpatch_enrolment(
    record: HotpatchRecord | None, system: SystemRecord, history: Sequence[HistoryEntry]
) -> HotpatchEnrolment | None:
    """Return what a machine says of its enrolment; None for a version of Windows without hotpatches for servers."""
    build = system.build_number
    if record is None or build < BUILD_2022 or system.is_client:
        return None
    edition = _check_edition(system)
    if edition.level is _BLOCK:
        return HotpatchEnrolment(PROVIDER, product=system.build, prerequisites=(edition,))
    findings = (edition, *_check_prerequisites(record, system, history))
    if system.is_azure_edition:
        # with 2025 hotpatches belong to the system itself; with 2022 the package enrols it
        is_enrolled = build >= BUILD_2025 or bool(record.enrolled)
        receives = is_enrolled and record.vbs_status == VBS_RUNNING
        return HotpatchEnrolment(PROVIDER, "registry", is_enrolled, receives, system.build, findings)
    is_licensed = bool(record.licence) if record.arc else None
    receives = bool(record.licence) and bool(record.enrolled)
    return HotpatchEnrolment(PROVIDER, "arc", is_licensed, receives, system.build, findings)


def _check_edition(system: SystemRecord) -> Finding:
    build = system.build_number
    if system.is_azure_edition:
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


def _check_prerequisites(
    record: HotpatchRecord, system: SystemRecord, history: Sequence[HistoryEntry]
) -> Iterator[Finding]:
    """Yield what is said of licence, virtualization-based security, boot and baseline.

    Whether the last planned baseline is installed, the agent's own history tells, as far as it reaches.
    """
    if not system.is_azure_edition and not record.arc:
        remedy = "Connect it: azcmagent connect. Hotpatches of this edition come through Azure Arc."
        yield Finding("licence", _BLOCK, "Azure Arc's agent does not run", remedy)
    elif not system.is_azure_edition and not record.licence:
        remedy = "fleetpatch hotpatch enroll with --arc asks Azure Arc for it, or people do in the portal."
        yield Finding("licence", _BLOCK, "Azure Arc's agent has no licence for hotpatches", remedy)
    elif not system.is_azure_edition:
        yield Finding("licence", _GOOD, "Azure Arc's agent has the licence")
    yield _check_vbs(record)
    if record.secure_boot == 0:
        remedy = "Switch it on in the firmware; a virtual machine of Hyper-V must be one of generation 2."
        yield Finding("secure boot", _BLOCK, "Secure Boot is off", remedy)
    if system.is_azure_edition and system.build_number < BUILD_2025 and not record.table_size:
        remedy = "fleetpatch hotpatch enroll sets the value that Microsoft documents (HotPatchTableSize = 0x1000)."
        yield Finding("table size", _BLOCK, "HotPatchTableSize is not set", remedy)
    day = find_last_baseline(system.today)
    installed = [
        entry
        for entry in history
        if entry.is_installation and (is_cumulative_title(entry.title) or is_hotpatch_title(entry.title))
    ]
    if any(entry.day >= day for entry in installed):
        yield Finding("baseline", _GOOD, f"updates of the baseline of {day:%Y-%m-%d} or later are installed")
    elif installed:
        message = f"the agent's history has no cumulative update since the baseline of {day:%Y-%m-%d}"
        yield Finding("baseline", _WARN, message, "Install the newest cumulative update, and restart the machine.")


@dataclass(frozen=True, slots=True)
class HotpatchMonth:
    """What hotpatches can do on a machine today."""

    doubt: str  # why one may ask for a reboot all the same, or ""
    is_baseline: bool  # whether this month has a planned baseline, from its second Tuesday to the next month's
    next_baseline: str  # its date, as text


def find_hotpatch_month(record: HotpatchRecord | None, system: SystemRecord) -> HotpatchMonth:
    """Return what hotpatches can do on a machine on the day that its clock shows."""
    doubt = ""
    if record is None or not record.enrolled:
        doubt = "the machine is not enrolled for hotpatches"
    elif not is_hotpatch_eligible(record, system):
        doubt = "the machine's edition or licence is not one for hotpatches"
    else:
        doubt = _find_problem(record, system)
    is_baseline = find_release_month(system.today) in BASELINE_MONTHS
    return HotpatchMonth(doubt, is_baseline, f"{find_next_baseline(system.today):%Y-%m-%d}")
