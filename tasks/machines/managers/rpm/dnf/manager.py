"""dnf 4 (RHEL 8 and 9 and their relatives, Amazon Linux 2023) as a tool of RpmManager."""

from typing import Final

from tasks.domain.protocols.package_manager import Rates
from tasks.machines.managers.rpm.dnf.assessment import parse_assessment
from tasks.machines.managers.rpm.dnf.output_parsers import parse_simulation
from tasks.machines.managers.rpm.manager import RpmManager, RpmTool
from tasks.machines.managers.rpm.system_state import UPDATER_UNITS, build_rpm_updaters_script

DEFAULT_RATES: Final = Rates(
    transaction_seconds=20.0,
    install_seconds_per_update=3.0,
    download_bytes_per_second=1e6,
    reboot_seconds=300.0,
    validate_seconds=30.0,
)
"""Azure's agent assumes 90 s per update, because it installs updates one by one; in a batch the time is much shorter.
Its 5 minutes for a reboot are used here too."""

DNF: Final = RpmTool(
    name="dnf",
    package="tasks.machines.managers.rpm.dnf",
    rates=DEFAULT_RATES,
    parse_assessment=parse_assessment,
    parse_simulation=parse_simulation,
    updater_units=UPDATER_UNITS,
    updaters_script=build_rpm_updaters_script("tasks.machines.managers.rpm.dnf"),
)


class DnfManager(RpmManager):
    """The PackageManager for dnf 4."""

    def __init__(self) -> None:
        super().__init__(DNF)
