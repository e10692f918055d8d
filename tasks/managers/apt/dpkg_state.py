"""The state of dpkg: unfinished and broken packages, and the processes that hold its locks. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.managers.apt.output_parsers import AptSimulation
from tasks.managers.script_output import require_text
from tasks.model import UnfinishedPackage
from tasks.protocols.transport import ScriptRecord

_UNFINISHED_STATES = {"unpacked", "half-configured", "half-installed"}  # apt itself runs pending triggers


@dataclass(frozen=True, slots=True)
class DpkgPackage:
    """A package that is on hold, or whose state is not correct, as dpkg reports it."""

    name: str
    arch: str
    is_held: bool
    needs_reinstall: bool
    status: str
    version: str

    def build_full_name(self, native: str) -> str:
        """Return the package's name as apt writes it."""
        return self.name if self.arch in {native, "all"} else f"{self.name}:{self.arch}"


def parse_packages(text: str) -> tuple[DpkgPackage, ...]:
    """Read lines of "name:arch, want, error flag, status, version", separated by tabs. Other lines are ignored."""
    packages: list[DpkgPackage] = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 5 and fields[0]:
            name, _, arch = fields[0].partition(":")
            packages.append(
                DpkgPackage(name, arch, fields[1] == "hold", fields[2] == "reinstreq", fields[3], fields[4])
            )
    return tuple(packages)


def find_unfinished_packages(packages: Sequence[DpkgPackage], native: str) -> tuple[UnfinishedPackage, ...]:
    """Return the packages that are unpacked but not configured."""
    return tuple(
        UnfinishedPackage(each.build_full_name(native), each.name, each.arch, each.version, each.status)
        for each in packages
        if each.status in _UNFINISHED_STATES
    )


def find_problems(
    packages: Sequence[DpkgPackage], audit: str, simulation: AptSimulation, *, interrupted: bool
) -> tuple[tuple[str, ...], bool]:
    """Return what is broken, and whether finishing the interrupted transaction may repair all of it."""
    mendable, lasting = list[str](), list[str]()
    if interrupted:
        mendable.append("dpkg was interrupted: it left a journal that is not yet in its database")
    for package in packages:
        if package.needs_reinstall:
            # apt-get -f install does that. Where it finds no archive for it, its simulation says so.
            mendable.append(f"{package.name} {package.version} is damaged and must be installed anew")
        elif package.status in _UNFINISHED_STATES:
            mendable.append(f"{package.name} {package.version} is {package.status}")
    if simulation.unmet_dependencies:
        mendable += [f"{name} has unmet dependencies: {what}" for name, what in simulation.unmet_dependencies.items()]
    elif simulation.errors:
        lasting += [f"apt: {error}" for error in simulation.errors]
    if audit.strip() and not any(package.status != "installed" or package.needs_reinstall for package in packages):
        lasting.append("dpkg --audit: " + " ".join(audit.split())[:300])
    return (*mendable, *lasting), bool(mendable) and not lasting


def is_dpkg_locked(records: Sequence[ScriptRecord]) -> bool:
    """Return whether a process holds dpkg's own lock, that is, changes packages now."""
    return any(require_text(record, "path").startswith("/var/lib/dpkg/") for record in records)
