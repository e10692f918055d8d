"""dnf 4, dnf 5, yum 3 and zypper as tools of RpmManager: what they answer, and how fast they are.

Azure's agent assumes 90 s per update (240 s with zypper), because it installs updates one by one; in a batch the time
is much shorter. Its 5 minutes for a reboot are used here too. yum 3 resolves dependencies slower than dnf does. zypper
calls rpm for each package.
"""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from tasks.domain.model import PackageState
from tasks.domain.protocols.package_manager import Rates
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.rpm.advisories import parse_advisories, parse_dnf5_advisories
from tasks.machines.managers.rpm.dnf.assessment import DnfAnswers, build_dnf_assessment
from tasks.machines.managers.rpm.dnf.holds import parse_dnf5_holds, parse_holds
from tasks.machines.managers.rpm.dnf.output_parsers import parse_dnf_simulation
from tasks.machines.managers.rpm.manager import RpmTool
from tasks.machines.managers.rpm.zypper.assessment import parse_zypper_assessment
from tasks.machines.managers.rpm.zypper.xml_answer import parse_zypper_simulation
from tasks.machines.managers.script_output import parse_sections

_DNF_RATES: Final = Rates(
    transaction_seconds=20.0,
    install_seconds_per_update=3.0,
    download_bytes_per_second=1e6,
    reboot_seconds=300.0,
    validate_seconds=30.0,
)
_YUM_JOURNAL_FORMAT: Final = "%Y-%m-%d.%H:%M.%S"
_YUM_ANSWERS: Final = DnfAnswers("yum", partial(parse_advisories, knows_epochs=True), parse_holds)


def parse_yum_assessment(result: ScriptResult) -> PackageState:
    """Return the package state from yum 3's answers, written in the form of dnf 4's. Errors: see build_assessment."""
    state = build_dnf_assessment(result, answers=_YUM_ANSWERS)
    sections = parse_sections(result, "rpm_assess", "unfinished_transactions")
    times = [line for line in sections["unfinished_transactions"].text.splitlines() if _is_journal_time(line)]
    if state.at_work or not times:  # at work: what a running transaction has not done yet
        return state
    warning = (
        f"yum did not end {len(times)} of its transactions, the last one of {max(times)}. What they left undone is "
        "pending again. yum-complete-transaction --cleanup-only makes yum forget them; do not complete them: they "
        "could install older versions"
    )
    return replace(state, warnings=(*state.warnings, warning))


def _is_journal_time(text: str) -> bool:
    try:
        datetime.strptime(text, _YUM_JOURNAL_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


DNF: Final = RpmTool(
    name="dnf",
    rates=_DNF_RATES,
    parse_assessment=partial(build_dnf_assessment, answers=DnfAnswers("dnf", parse_advisories, parse_holds)),
    parse_simulation=parse_dnf_simulation,
)
"""RHEL 8 and 9 and their relatives, Amazon Linux 2023."""

DNF5: Final = RpmTool(
    name="dnf5",
    rates=_DNF_RATES,
    parse_assessment=partial(build_dnf_assessment, answers=DnfAnswers("dnf5", parse_dnf5_advisories, parse_dnf5_holds)),
    parse_simulation=parse_dnf_simulation,
    lock_files=("/run/dnf/rpmtransaction.lock",),
)
"""Fedora 41 and later."""

YUM: Final = RpmTool(
    name="yum",
    rates=replace(_DNF_RATES, transaction_seconds=40.0, install_seconds_per_update=4.0),
    parse_assessment=parse_yum_assessment,
    parse_simulation=parse_dnf_simulation,
)
"""RHEL 7 and its relatives, Amazon Linux 2."""

ZYPPER: Final = RpmTool(
    name="zypper",
    rates=replace(_DNF_RATES, transaction_seconds=30.0),
    parse_assessment=parse_zypper_assessment,
    parse_simulation=parse_zypper_simulation,
    kernel_rule="purge-kernels",
)
"""SUSE Linux Enterprise and openSUSE."""
