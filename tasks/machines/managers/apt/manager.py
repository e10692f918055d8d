"""The package manager apt, for Debian, Ubuntu and derivatives. Scripts: scripts/. Parsers: output_parsers.py."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

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
from tasks.domain.protocols.transport import Script, ScriptParameter, Transport
from tasks.machines.managers.apt.assessment import UPDATER_MEANS, UPDATERS_SCRIPT, parse_apt_assessment
from tasks.machines.managers.apt.dpkg_state import parse_dpkg_versions
from tasks.machines.managers.apt.kernels import KERNELS_SCRIPT, parse_apt_kernels
from tasks.machines.managers.apt.output_parsers import build_apt_simulation_result
from tasks.machines.managers.manager_base import PackageTool, may_downgrade, parse_needs
from tasks.machines.managers.script_output import parse_sections, require_native

_PACKAGE: Final = "tasks.machines.managers.apt"
ASSESS_SCRIPT: Final = Script("apt_assess", package=_PACKAGE)
SIMULATE_SCRIPT: Final = Script("apt_simulate", package=_PACKAGE)
INSTALLED_SCRIPT: Final = Script("apt_installed", package=_PACKAGE)
NEEDS_SCRIPT: Final = Script("apt_needs", package=_PACKAGE)
JOB_SCRIPT: Final = Script("apt_job", read_only=False, package=_PACKAGE)

DEFAULT_RATES: Final = Rates(
    transaction_seconds=15.0,
    install_seconds_per_update=2.0,
    download_bytes_per_second=1e6,
    reboot_seconds=300.0,
    validate_seconds=30.0,
)
"""Azure's agent assumes 90 s per update, because it installs updates one by one; in a batch the time is much shorter.
Its 5 minutes for a reboot are used here too."""

CHANGE_LOCK_FILES: Final = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
LOCK_FILES: Final = (*CHANGE_LOCK_FILES, "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")

_KEPT_CHANGED: Final = ", and the file that a run has kept is not what it was"
PACKAGE_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._\-]*(:[a-z0-9\-]+)?")
VERSION_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:\-]*")
"""What may be part of a command line. dpkg and apt allow more names than Debian Policy 5.6.1, and vendors use them."""


class AptManager(PackageTool):
    """The PackageManager for Debian, Ubuntu and derivatives."""

    name = "apt"
    default_rates = DEFAULT_RATES
    script_package = _PACKAGE
    updaters_script: Script | None = UPDATERS_SCRIPT
    updater_means: UpdaterMeans | None = UPDATER_MEANS
    lock_files: tuple[str, ...] = LOCK_FILES
    change_lock_files: tuple[str, ...] = CHANGE_LOCK_FILES
    way_back = WayBack(
        caution="Debian and Ubuntu do not support older versions over newer ones: the scripts of a package need not "
        "understand the data that its newer version has left",
        keeps=True,
    )

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, keep: Collection[str] = (), deadline: Deadline
    ) -> SimulationResult:
        """See PackageManager."""
        if not updates:
            return SimulationResult(changes={}, download_bytes=0)
        params: dict[str, ScriptParameter] = {
            "packages": tuple(build_apt_spec(update) for update in updates),
            "keep": tuple(name for name in sorted(keep) if PACKAGE_NAME_PATTERN.fullmatch(name)),
            "downgrades": may_downgrade(updates),
        }
        result = transport.run_script(replace(SIMULATE_SCRIPT, params=params), deadline=deadline)
        sections = parse_sections(result, SIMULATE_SCRIPT.name, "simulation")
        uris = sections["uris"].text if "uris" in sections else None
        simulation = sections["simulation"]
        answer = build_apt_simulation_result(simulation.text, uris, updates, simulation.exit_code)
        changed = {record.get("update") for record in result.find_records("kept_changed")}
        refused = {name: f"{why}{_KEPT_CHANGED if name in changed else ''}" for name, why in answer.refused.items()}
        return replace(answer, refused=refused)

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """Read from dpkg: update id -> version, for packages that are installed and configured."""
        if not updates:
            return {}
        for update in updates:
            if not PACKAGE_NAME_PATTERN.fullmatch(update.name):
                raise RequestError(f"not a Debian package: {update.name!r}")
        names = tuple(dict.fromkeys(update.name for update in updates))
        result = transport.run_script(replace(INSTALLED_SCRIPT, params={"packages": names}), deadline=deadline)
        sections = parse_sections(result, INSTALLED_SCRIPT.name, "packages")
        versions = parse_dpkg_versions(sections["packages"].text, require_native(result, INSTALLED_SCRIPT.name))
        return {update.id: versions[update.id] for update in updates if update.id in versions}

    def read_kernels(self, transport: Transport, *, deadline: Deadline) -> InstalledKernels:
        """Read dpkg's kernel packages, and which ones apt would remove as automatically installed and not needed."""
        return parse_apt_kernels(transport.run_script(KERNELS_SCRIPT, deadline=deadline))

    def read_needs(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> PackageNeeds:
        """Read apt's marks, and what its autoremove would remove."""
        script = replace(NEEDS_SCRIPT, params={"packages": tuple(update.id for update in updates)})
        return parse_needs(transport.run_script(script, deadline=deadline), script.name, updates, r"Remv (\S+)")

    def _read_state(self, transport: Transport, params: dict[str, ScriptParameter], deadline: Deadline) -> PackageState:
        return parse_apt_assessment(transport.run_script(replace(ASSESS_SCRIPT, params=params), deadline=deadline))

    def _build_spec(self, update: Update) -> str:
        return build_apt_spec(update)

    def _build_job(self, params: dict[str, ScriptParameter], transactions: Sequence[Transaction]) -> Script:  # noqa: ARG002
        return replace(JOB_SCRIPT, params=params)


def build_apt_spec(update: Update) -> str:
    """Return a package with its exact version, as an argument for apt.

    Raises:
        RequestError: it is not a Debian package's name and version: apt would read it as an option or a pattern.
    """
    if not (PACKAGE_NAME_PATTERN.fullmatch(update.id) and VERSION_PATTERN.fullmatch(update.available)):
        raise RequestError(f"not a Debian package and version: {update.id!r} {update.available!r}")
    return f"{update.id}={update.available}"
