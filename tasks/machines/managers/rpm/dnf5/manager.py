"""dnf 5 (Fedora 41 and later) as a tool of RpmManager. dnf 4 and dnf 5 share tasks.machines.managers.rpm.dnf."""

import re
from typing import Final

from tasks.domain.model import PackageState
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.rpm.advisories import parse_dnf5_advisories
from tasks.machines.managers.rpm.dnf.assessment import DnfAnswers, build_assessment
from tasks.machines.managers.rpm.dnf.manager import DEFAULT_RATES
from tasks.machines.managers.rpm.dnf.offers import Holds, parse_holds
from tasks.machines.managers.rpm.dnf.output_parsers import parse_simulation
from tasks.machines.managers.rpm.manager import RpmManager, RpmTool
from tasks.machines.managers.rpm.system_state import UPDATER_UNITS, build_rpm_updaters_script

_PACKAGE: Final = "tasks.machines.managers.rpm.dnf5"
_LOCK_PATTERN: Final = re.compile(r"""^\S+versionlock\.toml:\s*name\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def parse_dnf5_holds(text: str) -> Holds:
    """Read the names of versionlock.toml, and exclusions. What is locked is missing from dnf 5's answers."""
    return Holds(excluded=(*_LOCK_PATTERN.findall(text), *parse_holds(text).excluded))


DNF5_ANSWERS: Final = DnfAnswers("dnf5", parse_dnf5_advisories, parse_dnf5_holds)


def parse_assessment(result: ScriptResult) -> PackageState:
    """Return the package state from the script's result. Errors: see build_assessment."""
    return build_assessment(result, DNF5_ANSWERS)


DNF5: Final = RpmTool(
    name="dnf5",
    package=_PACKAGE,
    rates=DEFAULT_RATES,
    parse_assessment=parse_assessment,
    parse_simulation=parse_simulation,
    updater_units=UPDATER_UNITS,
    lock_files=("/run/dnf/rpmtransaction.lock",),
    updaters_script=build_rpm_updaters_script(_PACKAGE),
)


class Dnf5Manager(RpmManager):
    """The PackageManager for dnf 5."""

    def __init__(self) -> None:
        super().__init__(DNF5)
