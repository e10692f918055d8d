"""zypper (SUSE Linux Enterprise and openSUSE) as a tool of RpmManager."""

from typing import Final

from tasks.domain.protocols.package_manager import Rates
from tasks.machines.managers.rpm.manager import RpmManager, RpmTool
from tasks.machines.managers.rpm.system_state import UPDATER_UNITS, build_rpm_updaters_script
from tasks.machines.managers.rpm.zypper.assessment import parse_assessment
from tasks.machines.managers.rpm.zypper.xml_answer import parse_simulation

_PACKAGE: Final = "tasks.machines.managers.rpm.zypper"

DEFAULT_RATES: Final = Rates(
    transaction_seconds=30.0,
    install_seconds_per_update=3.0,
    download_bytes_per_second=1e6,
    reboot_seconds=300.0,
    validate_seconds=30.0,
)
"""zypper calls rpm for each package. Azure's agent assumes 240 s per update, because it installs updates one by one."""

ZYPPER: Final = RpmTool(
    name="zypper",
    package=_PACKAGE,
    rates=DEFAULT_RATES,
    parse_assessment=parse_assessment,
    parse_simulation=parse_simulation,
    updater_units=UPDATER_UNITS,
    kernel_rule="purge-kernels",
    updaters_script=build_rpm_updaters_script(_PACKAGE),
)


class ZypperManager(RpmManager):
    """The PackageManager for zypper."""

    def __init__(self) -> None:
        super().__init__(ZYPPER)
