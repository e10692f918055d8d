"""Hotpatches of Windows Server: fixes in memory without a reboot, between baselines that need one. Pure.

Only the state is read. fleetpatch never enrols a machine, because a licence may belong to that.
Baselines are planned for January, April, July and October. Microsoft may replace any hotpatch by another baseline, so
the calendar is a forecast: whether an update needs a reboot is what the agent says of it, and afterwards what the
machine says.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final

from tasks.managers.windows_update.records import HistoryEntry, Record, SystemRecord, Text
from tasks.managers.windows_update.transaction_order import is_hotpatch
from tasks.model import LivePatching

PROVIDER: Final = "hotpatch"
BASELINE_MONTHS: Final = (1, 4, 7, 10)

_BUILD_2022: Final = 20348
_BUILD_2025: Final = 26100
_AZURE_EDITION: Final = "serverturbine"  # EditionID of "Datacenter: Azure Edition"; "Cor" follows for Server Core
_VBS_RUNNING: Final = 2
_TUESDAY: Final = 1
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


def find_next_baseline(today: date) -> date:
    """Return the day of the next planned baseline: the second Tuesday of a quarter's first month."""
    year, months = today.year, [month for month in BASELINE_MONTHS if month >= today.month]
    for month in months:
        day = find_second_tuesday(year, month)
        if day >= today:
            return day
    return find_second_tuesday(year + 1, BASELINE_MONTHS[0])


def find_second_tuesday(year: int, month: int) -> date:
    """Return the day on which Microsoft publishes the updates of a month."""
    first = date(year, month, 1)
    return first.replace(day=1 + (_TUESDAY - first.weekday()) % 7 + 7)


def is_eligible(record: HotpatchRecord, system: SystemRecord) -> bool:
    """Return whether the edition, the version and the licence of a machine are ones for hotpatches."""
    build = int(system.build) if system.build.isascii() and system.build.isdigit() else 0
    if system.installation_type.lower() == "client" or build < _BUILD_2022:
        return False
    is_azure_edition = system.edition.lower().startswith(_AZURE_EDITION)
    return is_azure_edition or (build >= _BUILD_2025 and record.arc and bool(record.licence))


def _find_problem(record: HotpatchRecord, system: SystemRecord) -> str:
    problems = []
    if record.vbs_status is not None and record.vbs_status != _VBS_RUNNING:
        what = "is set, but does not run" if record.vbs_configured else "is off"
        problems.append(f"virtualization-based security {what}")
    if record.secure_boot == 0:
        problems.append("Secure Boot is off")
    if record.table_size == 0:
        problems.append("HotPatchTableSize is 0")
    is_azure_edition = system.edition.lower().startswith(_AZURE_EDITION)
    if not is_azure_edition and not record.licence:
        problems.append("no licence of Azure Arc for hotpatches is found")
    return "; ".join(problems)


def _find_patches(history: Sequence[HistoryEntry], system: SystemRecord) -> tuple[str, ...]:
    """Return the hotpatches that the agent installed since the last planned baseline, the newest last."""
    since = _find_last_baseline(datetime.fromtimestamp(system.at, UTC).date())
    start = datetime(since.year, since.month, since.day, tzinfo=UTC).timestamp()
    found = [each for each in history if each.is_installation and is_hotpatch(each.title) and (each.at or 0) >= start]
    titles = [each.title for each in sorted(found, key=lambda entry: entry.at or 0)]
    return tuple(dict.fromkeys(titles))[-_MAX_PATCHES:]


def _find_last_baseline(today: date) -> date:
    days = [find_second_tuesday(year, month) for year in (today.year - 1, today.year) for month in BASELINE_MONTHS]
    return max(day for day in days if day <= today)


def find_release_month(today: date) -> int:
    """Return the month of the newest monthly updates: until its second Tuesday, a month has those of the one before."""
    is_out = today >= find_second_tuesday(today.year, today.month)
    return today.month if is_out else (today.month - 2) % 12 + 1
