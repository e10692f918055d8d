"""Hotpatches of Windows Server: fixes in memory without a reboot, between baselines that need one. Pure.

Only the state is read here; `fleetpatch hotpatch` changes it. A licence is never forged.
Baselines are planned for January, April, July and October. Microsoft may replace any hotpatch by another baseline, so
the calendar is a forecast: whether an update needs a reboot is what the agent says of it, and afterwards what the
machine says.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tasks.domain.model import LivePatching
from tasks.machines.managers.windows_update.records import HistoryEntry, Record, SystemRecord, Text
from tasks.machines.managers.windows_update.transaction_order import is_hotpatch
from tasks.rules.hotpatch.baselines import find_last_baseline, find_next_baseline

PROVIDER: Final = "hotpatch"

BUILD_2022: Final = 20348
BUILD_2025: Final = 26100
_AZURE_EDITION: Final = "serverturbine"  # EditionID of "Datacenter: Azure Edition"; "Cor" follows for Server Core
VBS_RUNNING: Final = 2
_MAX_PATCHES: Final = 20


class HotpatchRecord(Record):
    """What the machine knows of hotpatches: record "hotpatch". None stands for a value that it does not have.

    Attributes:
        enrolled: name of the enrolment package that tells Windows Update to offer hotpatches, or "".
        vbs_configured: EnableVirtualizationBasedSecurity.
        vbs_status: of Win32_DeviceGuard: 0 off, 1 not running, 2 running.
        secure_boot: UEFISecureBootEnabled.
        table_size: HotPatchTableSize.
        licence: "Subscription" of the feature Hotpatch at Azure Arc's agent.
        arc: whether that agent runs.
    """

    enrolled: Text = ""
    vbs_configured: int | None = None
    vbs_status: int | None = None
    secure_boot: int | None = None
    table_size: int | None = None
    licence: int | None = None
    arc: bool = False


def find_hotpatching(
    record: HotpatchRecord | None, system: SystemRecord, history: Sequence[HistoryEntry]
) -> LivePatching | None:
    """Return the state of hotpatches; None for a machine that can't get any.

    Args:
        record: None when the script did not send it.
        system: the build and the edition.
        history: what the agent has installed.
    """
    if record is None or not (record.enrolled or is_eligible(record, system)):
        return None
    state = "not enrolled"
    if record.enrolled:
        today = datetime.fromtimestamp(system.at, UTC).date()
        state = f"enrolled, next planned baseline (with a reboot) on {find_next_baseline(today):%Y-%m-%d}"
    return LivePatching(
        PROVIDER,
        state,
        kernel=system.build if system.ubr is None else f"{system.build}.{system.ubr}",
        patches=_find_patches(history, system),
        problem=_find_problem(record, system) if record.enrolled else "",
    )


def is_eligible(record: HotpatchRecord, system: SystemRecord) -> bool:
    """Return whether the edition, the version and the licence of a machine are ones for hotpatches."""
    build = find_build(system)
    if system.installation_type.lower() == "client" or build < BUILD_2022:
        return False
    return is_azure_edition(system) or (build >= BUILD_2025 and record.arc and bool(record.licence))


def find_build(system: SystemRecord) -> int:
    """Return the build of Windows as a number; 0 when it is not known."""
    return int(system.build) if system.build.isascii() and system.build.isdigit() else 0


def is_azure_edition(system: SystemRecord) -> bool:
    """Return whether the edition is "Datacenter: Azure Edition", to which hotpatches belong."""
    return system.edition.lower().startswith(_AZURE_EDITION)


def _find_problem(record: HotpatchRecord, system: SystemRecord) -> str:
    problems = []
    if record.vbs_status is not None and record.vbs_status != VBS_RUNNING:
        vbs_state = "is set, but does not run" if record.vbs_configured else "is off"
        problems.append(f"virtualization-based security {vbs_state}")
    if record.secure_boot == 0:
        problems.append("Secure Boot is off")
    if record.table_size == 0:
        problems.append("HotPatchTableSize is 0")
    if not is_azure_edition(system) and not record.licence:
        problems.append("no licence of Azure Arc for hotpatches is found")
    return "; ".join(problems)


def _find_patches(history: Sequence[HistoryEntry], system: SystemRecord) -> tuple[str, ...]:
    """Return the hotpatches that the agent installed since the last planned baseline, the newest last."""
    since = find_last_baseline(datetime.fromtimestamp(system.at, UTC).date())
    start = datetime(since.year, since.month, since.day, tzinfo=UTC).timestamp()
    hotpatches = [
        each for each in history if each.is_installation and is_hotpatch(each.title) and (each.at or 0) >= start
    ]
    titles = [each.title for each in sorted(hotpatches, key=lambda entry: entry.at or 0)]
    return tuple(dict.fromkeys(titles))[-_MAX_PATCHES:]
