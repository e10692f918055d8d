"""The PackageManager of all RPM families. What differs between them is an RpmTool. Scripts: scripts/.

Azure's agent assumes 90 s per update (240 s with zypper), because it installs updates one by one; in a batch the time
is much shorter. Its 5 minutes for a reboot are used here too. yum 3 resolves dependencies slower than dnf does. zypper
calls rpm for each package.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import (
    InstalledKernels,
    PackageNeeds,
    Rates,
    SimulationResult,
    Transaction,
    UpdaterMeans,
    WayBack,
)
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptResult, Transport
from tasks.machines.managers.manager_base import (
    LISTS_LOCK_TIMEOUT_SECONDS,
    PackageTool,
    accepts_licences,
    may_downgrade,
    parse_needs,
)
from tasks.machines.managers.rpm.advisories import parse_advisories, parse_dnf5_advisories
from tasks.machines.managers.rpm.dnf.assessment import build_dnf_assessment, parse_yum_assessment
from tasks.machines.managers.rpm.dnf.holds import parse_dnf5_holds, parse_holds
from tasks.machines.managers.rpm.dnf.transaction import parse_dnf_simulation
from tasks.machines.managers.rpm.kernels import parse_rpm_kernels
from tasks.machines.managers.rpm.packages import NAME_PATTERN, build_rpm_spec, parse_rpm_versions
from tasks.machines.managers.rpm.system_state import UPDATER_MEANS, build_rpm_updaters_script, parse_duplicate_packages
from tasks.machines.managers.rpm.zypper.assessment import parse_zypper_assessment
from tasks.machines.managers.rpm.zypper.xml_answer import parse_zypper_simulation
from tasks.machines.managers.script_output import get_text, parse_sections, require_native
from tasks.machines.managers.versions import RpmVersion

CHANGE_LOCK_FILES: Final = ("/var/lib/rpm/.rpm.lock",)
"""rpm locks it (fcntl) while a transaction changes packages, whatever program calls rpm."""


@dataclass(frozen=True, slots=True)
class RpmTool:
    """What distinguishes one RPM family's package manager from the others.

    Its package has the scripts ``package_queries`` (what an assessment asks the tool) and ``package_tool`` (how a job
    simulates, downloads and installs with it).

    Attributes:
        name: of the package manager: "dnf", "zypper".
        rates: how fast a machine is, before anything was measured on it.
        parse_assessment: turns the records of rpm_assess.sh into the package state.
        parse_simulation: turns the records of rpm_simulate.sh into the answer for that set of updates.
        lock_files: more files that the tool locks (fcntl) while it works, before rpm's own.
        kernel_rule: the tool's own command that tells which kernels it would remove; "": it has none.
        way_back: see PackageManager.
    """

    name: str
    rates: Rates
    parse_assessment: Callable[[ScriptResult], PackageState]
    parse_simulation: Callable[[ScriptResult, Sequence[Update]], SimulationResult]
    lock_files: tuple[str, ...] = ()
    kernel_rule: str = ""
    way_back: WayBack = WayBack(
        "it was never tried with this tool: `history undo` on the machine takes a whole transaction back, and removes "
        "what it has newly installed, whoever needs that since"
    )

    @property
    def package(self) -> str:
        """The Python package with its scripts."""
        return f"tasks.machines.managers.rpm.{self.name}"


class RpmManager(PackageTool):
    """The PackageManager for a tool that installs RPM packages."""

    def __init__(self, tool: RpmTool) -> None:
        self._tool = tool
        self.name = tool.name
        self.default_rates = tool.rates
        self.script_package = tool.package
        self.updater_means: UpdaterMeans | None = UPDATER_MEANS
        self.updaters_script: Script | None = build_rpm_updaters_script(tool.package)
        self.change_lock_files: tuple[str, ...] = CHANGE_LOCK_FILES
        self.way_back = tool.way_back
        self.lock_files: tuple[str, ...] = (*tool.lock_files, *CHANGE_LOCK_FILES)

    def _read_state(self, transport: Transport, params: dict[str, ScriptParameter], deadline: Deadline) -> PackageState:
        script = self._build_script("rpm_assess", {**params, "lock_wait_seconds": LISTS_LOCK_TIMEOUT_SECONDS})
        return self._tool.parse_assessment(transport.run_script(script, deadline=deadline))

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, keep: Collection[str] = (), deadline: Deadline
    ) -> SimulationResult:
        """See PackageManager."""
        if not updates:
            return SimulationResult(changes={}, download_bytes=0)
        params: dict[str, ScriptParameter] = {
            "packages": tuple(build_rpm_spec(update) for update in updates),
            "keep": tuple(name for name in sorted(keep) if NAME_PATTERN.fullmatch(name)),
            "accept_licences": accepts_licences(updates),
            "downgrades": may_downgrade(updates),
            "lock_wait_seconds": LISTS_LOCK_TIMEOUT_SECONDS,
        }
        result = transport.run_script(self._build_script("rpm_simulate", params), deadline=deadline)
        return self._tool.parse_simulation(result, updates)

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """Read from rpm's database: update id -> version. Of several kernels, the wanted one, else the newest.

        Of another package, two versions are there until its transaction ends. It is not completely installed then.
        """
        updates = [update for update in updates if ":" not in update.id]  # SUSE's patches are no packages
        if not updates:
            return {}
        for update in updates:
            if not NAME_PATTERN.fullmatch(update.name):
                raise RequestError(f"not an RPM package: {update.name!r}")
        names = tuple(dict.fromkeys(update.name for update in updates))
        script = self._build_script("rpm_installed", {"packages": names})
        result = transport.run_script(script, deadline=deadline)
        sections = parse_sections(result, script.name, "packages")
        native = require_native(result, script.name)
        versions = parse_rpm_versions(sections["packages"].text, native)
        unfinished = {package.id for package in parse_duplicate_packages(get_text(sections, "duplicates"), native)}
        return {
            update.id: update.available
            if update.available in versions[update.id]
            else max(versions[update.id], key=RpmVersion)
            for update in updates
            if versions.get(update.id) and update.id not in unfinished
        }

    def read_kernels(self, transport: Transport, *, deadline: Deadline) -> InstalledKernels:
        """Read rpm's kernel packages, and where the tool has a rule for them, which ones it would remove."""
        script = self._build_script("rpm_kernels", {"rule": self._tool.kernel_rule})
        return parse_rpm_kernels(transport.run_script(script, deadline=deadline), has_rule=bool(self._tool.kernel_rule))

    def read_needs(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> PackageNeeds:
        """Read what the tool notes of who has chosen packages, and what it would remove as needless."""
        script = self._build_script("rpm_needs", {"packages": tuple(update.name for update in updates)})
        return parse_needs(transport.run_script(script, deadline=deadline), script.name, updates)

    def _build_spec(self, update: Update) -> str:
        return build_rpm_spec(update)

    def _build_job(self, params: dict[str, ScriptParameter], transactions: Sequence[Transaction]) -> Script:
        params["accept_licences"] = accepts_licences(update for t in transactions for update in t.updates)
        for transaction in transactions:
            params[f"tx_{transaction.number}_names"] = tuple(update.id for update in transaction.updates)
        return replace(self._build_script("rpm_job", params), read_only=False)

    def _build_script(self, name: str, params: Mapping[str, ScriptParameter]) -> Script:
        return Script(name, params, package=self._tool.package)


_DNF_RATES: Final = Rates(
    transaction_seconds=20.0,
    install_seconds_per_update=3.0,
    download_bytes_per_second=1e6,
    reboot_seconds=300.0,
    validate_seconds=30.0,
)


_WAY_BACK: Final = WayBack(
    caution="the scripts of a package need not understand the data that its newer version has left"
)

DNF: Final = RpmTool(
    name="dnf",
    rates=_DNF_RATES,
    parse_assessment=partial(
        build_dnf_assessment, manager="dnf", read_advisories=parse_advisories, read_holds=parse_holds
    ),
    parse_simulation=parse_dnf_simulation,
    way_back=_WAY_BACK,
)
"""RHEL 8 and 9 and their relatives, Amazon Linux 2023."""

DNF5: Final = RpmTool(
    name="dnf5",
    rates=_DNF_RATES,
    parse_assessment=partial(
        build_dnf_assessment, manager="dnf5", read_advisories=parse_dnf5_advisories, read_holds=parse_dnf5_holds
    ),
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
    way_back=_WAY_BACK,
)
"""SUSE Linux Enterprise and openSUSE."""
