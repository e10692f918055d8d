"""yum 3 (RHEL 7 and its relatives, Amazon Linux 2) as a tool of RpmManager. Its answers are parsed as dnf 4's."""

from typing import Final

from tasks.domain.protocols.package_manager import Rates
from tasks.machines.managers.rpm.dnf.output_parsers import parse_simulation
from tasks.machines.managers.rpm.manager import RpmManager, RpmTool
from tasks.machines.managers.rpm.system_state import UPDATER_UNITS, build_rpm_updaters_script
from tasks.machines.managers.rpm.yum.assessment import parse_assessment

_PACKAGE: Final = "tasks.machines.managers.rpm.yum"

YUM: Final = RpmTool(
    name="yum",
    package=_PACKAGE,
    rates=Rates(
        transaction_seconds=40.0,
        install_seconds_per_update=4.0,
        download_bytes_per_second=1e6,
        reboot_seconds=300.0,
        validate_seconds=30.0,
    ),
    parse_assessment=parse_assessment,
    parse_simulation=parse_simulation,
    updater_units=UPDATER_UNITS,
    updaters_script=build_rpm_updaters_script(_PACKAGE),
)
"""yum 3 resolves dependencies slower than dnf does."""


class YumManager(RpmManager):
    """The PackageManager for yum 3."""

    def __init__(self) -> None:
        super().__init__(YUM)
