"""Who else updates a Windows machine: Automatic Updates, ConfigMgr, Intune, Azure Update Manager, AWS. Pure.

Automatic Updates installs by itself with the policy AUOptions 4 (Azure calls that AutomaticByOS). NoAutoUpdate=1
switches it off: fleetpatch's script "updaters" sets that for a run, if the request says so. The others can't be paused
from here: what they install is decided on their servers.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.protocols.package_manager import UpdaterMeans
from tasks.machines.managers.windows_update.records import Record, SystemRecord, Text

AUTOMATIC_UPDATES: Final = "Automatic Updates"
"""The name of Windows' own updater, also in the records of the script that pauses it."""
UPDATER_MEANS: Final = UpdaterMeans(
    policy_on=("NoAutoUpdate=0", "AUOptions=4", "ScheduledInstallDay=0", "ScheduledInstallTime=3"),
    policy_off=("NoAutoUpdate=1",),
    policy_names=frozenset({AUTOMATIC_UPDATES}),
)
"""Automatic Updates installs every day at three; policies of a domain win with their next refresh."""
UPDATER_SERVICES: Final = ("wuauserv", "usosvc", "trustedinstaller", "waasmedicsvc", "ccmexec", "dosvc", "bits")
"""Services that update the system, or belong to those that do. No run restarts them."""

_ON_SCHEDULE: Final = "4"
_AS_SET_LOCALLY: Final = "5"
_CO_MANAGED_UPDATES: Final = 16  # the bit of CoManagementFlags for policies of Windows Update


class AgentsRecord(Record):
    """Agents of other products that may install updates: record "agents".

    Attributes:
        config_manager: its client's service runs.
        co_management: CoManagementFlags of ConfigMgr; None when it has none.
        mdm: the machine is enrolled in Intune or another MDM.
        mdm_updates: that MDM sets policies of Windows Update.
        azure_updates: Azure's extension for updates is installed.
        aws: the agent of AWS Systems Manager runs.
        aws_patches: the file exists in which its Patch Manager keeps what it has installed.
    """

    config_manager: bool = False
    co_management: int | None = None
    mdm: bool = False
    mdm_updates: bool = False
    azure_updates: bool = False
    aws: bool = False
    aws_patches: bool = False


class ServiceRecord(Record):
    """A service: record "service". ``start``: "Auto", "Manual" or "Disabled"."""

    name: Text
    status: Text = ""
    start: Text = ""


@dataclass(frozen=True, slots=True)
class OtherManagers:
    """What else may update the machine.

    Attributes:
        updaters: as PackageState.auto_updaters.
        unpausable: names of those among them that no run can pause.
        warnings: what the machine's owner must handle.
        remarks: what is there at each run.
    """

    updaters: tuple[tuple[str, float | None], ...] = ()
    unpausable: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def find_other_managers(
    policy: Mapping[str, str], agents: AgentsRecord | None, services: Sequence[ServiceRecord], system: SystemRecord
) -> OtherManagers:
    """Return what else may update the machine."""
    agents = agents or AgentsRecord()
    is_co_managed = agents.mdm and (agents.co_management or 0) & _CO_MANAGED_UPDATES
    all_products = {
        "ConfigMgr's client (ccmexec)": agents.config_manager,
        "policies of Intune or another MDM": agents.mdm_updates or is_co_managed,
        "Azure Update Manager's extension": agents.azure_updates,
        "AWS Systems Manager's Patch Manager": agents.aws and agents.aws_patches,
    }
    products = tuple(name for name, is_there in all_products.items() if is_there)
    updaters = (*_find_automatic_updates(policy, system), *((name, None) for name in products))
    warnings, remarks = list[str](), list[str]()
    if disabled := sorted(service.name for service in services if service.start.lower() == "disabled"):
        warnings.append(f"services that updates need are disabled: {', '.join(disabled)}")
    if agents.aws and not agents.aws_patches:  # many images have the agent, for other purposes
        remarks.append("the agent of AWS Systems Manager runs: its Patch Manager may install updates too")
    return OtherManagers(updaters, products, tuple(warnings), tuple(remarks))


def _find_automatic_updates(policy: Mapping[str, str], system: SystemRecord) -> tuple[tuple[str, float | None], ...]:
    """Return Automatic Updates with the seconds until it installs, if it does so by itself.

    Without a policy and a setting of its own, a server only downloads, and a client installs when it wants.
    """
    if policy.get("NoAutoUpdate") == "1":
        return ()
    option = policy.get("AUOptions") or policy.get("LocalAUOptions", "")
    if option == _ON_SCHEDULE:
        return ((AUTOMATIC_UPDATES, _find_seconds_until(policy, system)),)
    return ((AUTOMATIC_UPDATES, None),) if option == _AS_SET_LOCALLY or (not option and system.is_client) else ()


def _find_seconds_until(policy: Mapping[str, str], system: SystemRecord) -> float | None:
    """Return the seconds until the time of the policy: a day (0 every day, 1 Sunday, 7 Saturday) and an hour."""
    day, hour = policy.get("ScheduledInstallDay", "0"), policy.get("ScheduledInstallTime", "")
    if not re.fullmatch("[0-7]", day) or not re.fullmatch("[01]?[0-9]|2[0-3]", hour):
        return None
    now = datetime.fromtimestamp(system.at, UTC) + timedelta(minutes=system.offset_minutes)
    then = now.replace(hour=int(hour), minute=0, second=0, microsecond=0)
    times = (then + timedelta(days=count) for count in range(9))
    waits = (time - now for time in times if time > now and int(day) in {0, time.isoweekday() % 7 + 1})  # Sunday is 1
    return next((wait.total_seconds() for wait in waits), None)
