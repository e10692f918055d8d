"""The state of dpkg: unfinished and broken packages, and the processes that hold its locks. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

from inventory.data_class import dataclass
from tasks.domain.model import UnfinishedPackage, Update
from tasks.domain.protocols.transport import ScriptRecord
from tasks.machines.managers.apt.output_parsers import AptSimulation
from tasks.machines.managers.script_output import require_text, split_rows

_FAILED_STATES = frozenset({"unpacked", "half-configured"})
_UNFINISHED_STATES = _FAILED_STATES | {"half-installed"}  # apt itself runs pending triggers
_DEPENDENCY_FIELDS = ("Pre-Depends", "Depends")
_NOTHING_LACKS: Mapping[str, str] = MappingProxyType({})
_WORD_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.\-]+")
_NAME_PATTERN = re.compile(r"(?:^|[,|])\s*([A-Za-z0-9][A-Za-z0-9+._\-]*)")


@dataclass(frozen=True, slots=True)
class DpkgPackage:
    """A package that is on hold, or whose state is not correct, as dpkg reports it."""

    name: str
    arch: str
    is_held: bool
    needs_reinstall: bool
    status: str
    version: str

    @property
    def dpkg_name(self) -> str:
        """Its name with its architecture, as dpkg's logs have it."""
        return f"{self.name}:{self.arch}"


def build_dpkg_name(name: str, arch: str, native: str) -> str:
    """Return a package's name as apt writes it: with its architecture only if that is a foreign one."""
    return name if arch in {native, "all", ""} else f"{name}:{arch}"


def parse_dpkg_packages(text: str) -> tuple[DpkgPackage, ...]:
    """Read lines of "name:arch, want, error flag, status, version", separated by tabs. Other lines are ignored."""
    return tuple(
        DpkgPackage(*dpkg_name.partition(":")[::2], want == "hold", flag == "reinstreq", status, version)
        for dpkg_name, want, flag, status, version in split_rows(text, 5)
        if dpkg_name
    )


@dataclass(frozen=True, slots=True)
class FailedSetup:
    """What is known of an unpacked or half-configured package.

    Attributes:
        since: when it came into this state, by the machine's log; None when unknown.
        provides: its own name, and the names of the virtual packages that it provides.
        depends: the names of the packages that it depends on.
        words: how its script failed last, in its words; "" when no log says that it failed.
    """

    since: datetime | None = None
    provides: frozenset[str] = frozenset()
    depends: frozenset[str] = frozenset()
    words: str = ""

    def describe_since(self) -> str:
        """Return since when it is in this state, as " since …", or ""."""
        return f" since {self.since:%Y-%m-%d %H:%M} UTC" if self.since else ""


_NOTHING_KNOWN = FailedSetup()


def parse_failed_setups(text: str) -> Mapping[str, FailedSetup]:
    """Read lines of "name:arch, seconds since 1970, provides, depends, words", separated by tabs."""
    setups: dict[str, FailedSetup] = {}
    for name, since, provides, depends, failure in split_rows(text, 5):
        if name:
            at = datetime.fromtimestamp(int(since), UTC) if re.fullmatch(r"[0-9]{1,11}", since) else None
            names = frozenset({name.partition(":")[0], *find_package_names(provides)})
            setups[name] = FailedSetup(at, names, find_package_names(depends), failure)
    return setups


def parse_unpacking_failures(text: str) -> Mapping[str, str]:
    """Read lines of "name, words", separated by a tab: how the last try to unpack a package failed, if it did."""
    return {
        name.partition(":")[0]: reason
        for name, tab, reason in (line.partition("\t") for line in text.splitlines())
        if tab and reason
    }


def find_package_names(dependencies: str) -> frozenset[str]:
    """Return all names in a field like Depends."""
    return frozenset(_NAME_PATTERN.findall(dependencies))


def find_unfinished_packages(
    packages: Sequence[DpkgPackage],
    native: str,
    setups: Mapping[str, FailedSetup],
    lacking: Mapping[str, str] = _NOTHING_LACKS,
) -> tuple[UnfinishedPackage, ...]:
    """Return the packages that are unpacked but not configured.

    For ``lacking`` see ``find_lasting_unmet_dependencies``.
    """
    waiting = _find_waiting(packages, setups, lacking)
    return tuple(
        UnfinishedPackage(
            build_dpkg_name(package.name, package.arch, native),
            package.name,
            package.arch,
            package.version,
            package.status,
            waiting.get(package.dpkg_name) or setups.get(package.dpkg_name, _NOTHING_KNOWN).words,
        )
        for package in packages
        if package.status in _UNFINISHED_STATES
    )


def find_lasting_unmet_dependencies(unmet: Mapping[str, str], failures: Mapping[str, str]) -> Mapping[str, str]:
    """Return the packages whose dependencies are unmet because one could not be unpacked: name -> which, and why.

    ``unmet`` has for a package what is missing, in apt's words.
    """
    lacking: dict[str, str] = {}
    for name, dependencies in unmet.items():
        package = name.partition(":")[0]
        if failed := [word for word in (package, *_WORD_PATTERN.findall(dependencies)) if word in failures]:
            lacking[package] = f"{failed[0]} could not be unpacked: {failures[failed[0]]}"
    return lacking


def _find_waiting(
    packages: Sequence[DpkgPackage], setups: Mapping[str, FailedSetup], lacking: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the unpacked packages that wait for one that failed: name -> for which."""
    waiting = {package.dpkg_name: lacking[package.name] for package in packages if package.name in lacking}
    failed = {
        name: package.name
        for package in packages
        if package.status == "half-configured" or package.dpkg_name in waiting
        for name in setups.get(package.dpkg_name, _NOTHING_KNOWN).provides
    }
    unpacked = [package for package in packages if package.status == "unpacked" and package.dpkg_name not in waiting]
    while ready := [p for p in unpacked if setups.get(p.dpkg_name, _NOTHING_KNOWN).depends & set(failed)]:
        for package in ready:
            setup = setups[package.dpkg_name]
            waiting[package.dpkg_name] = f"it waits for {failed[min(setup.depends & set(failed))]}"
        failed |= {name: package.name for package in ready for name in setups[package.dpkg_name].provides}
        unpacked = [package for package in unpacked if package not in ready]
    return waiting


@dataclass(frozen=True, slots=True)
class DpkgProblems:
    """What is broken.

    Attributes:
        messages: one for each fault.
        repairable: whether finishing the interrupted transaction may repair all of it.
        can_install_others: whether apt can install updates of other packages beside it.
    """

    messages: tuple[str, ...] = ()
    repairable: bool = False
    can_install_others: bool = False


def find_dpkg_problems(
    packages: Sequence[DpkgPackage],
    refusals: Sequence[str],
    simulation: AptSimulation,
    setups: Mapping[str, FailedSetup],
    *,
    interrupted: bool,
    failures: Mapping[str, str] = _NOTHING_LACKS,
) -> DpkgProblems:
    """Return what is broken.

    apt installs beside packages that are half-configured, and beside unpacked ones that wait for them: their scripts
    failed, and dpkg has ended since. It refuses beside a journal, beside damaged and half-installed packages, and
    beside unmet dependencies, unless these are set apart (unmet_dependencies.sh): that helps where a package can't be
    unpacked, so that the dependency stays unmet. Unpacked packages that wait for nothing were interrupted (tried with
    apt 2.6). ``refusals`` are why dpkg would end before it changes anything.
    """
    lacking = find_lasting_unmet_dependencies(simulation.unmet_dependencies, failures)
    mendable, lasting = list[str](), list[str]()
    if interrupted:
        mendable.append("dpkg was interrupted: it left a journal that is not yet in its database")
    waiting = _find_waiting(packages, setups, lacking)
    failed = [package for package in packages if package.status in _UNFINISHED_STATES and not package.needs_reinstall]
    for package in packages:
        if package.needs_reinstall:
            # apt-get -f install does that. Where it finds no archive for it, its simulation says so.
            mendable.append(f"{package.name} {package.version} is damaged and must be installed anew")
        elif package.status in _UNFINISHED_STATES:
            setup = setups.get(package.dpkg_name, _NOTHING_KNOWN)
            reason = waiting.get(package.dpkg_name) or setup.words
            state = f"{package.name} {package.version} is {package.status}{setup.describe_since()}"
            mendable.append(f"{state}: {reason}" if reason else state)
    only_failed = len(mendable) == len(failed) and all(
        package.status == "half-configured" or package.dpkg_name in waiting for package in failed
    )
    unmet = simulation.unmet_dependencies
    failed_names = {package.name for package in failed}
    mendable += [
        f"{name} has unmet dependencies: {lacking.get(name.partition(':')[0], dependencies)}"
        for name, dependencies in unmet.items()
        if not {name.partition(":")[0]} & failed_names & set(lacking)
    ]
    if unmet:
        only_failed = only_failed and not simulation.errors and len(lacking) == len(unmet)
    elif simulation.errors:
        lasting += [f"apt: {error}" for error in simulation.errors]
    lasting += refusals
    repairable = bool(mendable) and not lasting
    return DpkgProblems((*mendable, *lasting), repairable, repairable and only_failed)


def block_dependent_updates(
    updates: Sequence[Update],
    stanzas: Sequence[Mapping[str, str]],
    packages: Sequence[DpkgPackage],
    setups: Mapping[str, FailedSetup],
) -> tuple[Update, ...]:
    """Return the updates; the ones that depend on a package that is not set up are blocked.

    dpkg would unpack such an update and could not set it up: the version that works now would be lost. Updates of the
    same source as an update of that package go along with it.
    """
    broken = {
        name: package
        for package in packages
        if package.status in _UNFINISHED_STATES or package.status == "triggers-awaited"
        for name in (package.name, *setups.get(package.dpkg_name, _NOTHING_KNOWN).provides)
    }
    if not broken:
        return tuple(updates)
    depends = {
        (stanza.get("Package", ""), stanza.get("Version", "")): find_package_names(
            ",".join(stanza[key] for key in _DEPENDENCY_FIELDS if key in stanza)
        )
        for stanza in stanzas
    }
    mended = {update.group for update in updates if update.name in broken}

    def block(update: Update) -> Update:
        needed = sorted(depends.get((update.name, update.available), frozenset()) & set(broken) - {update.name})
        if not needed or update.group in mended or update.blocked:
            return update
        package = broken[needed[0]]
        return replace(update, blocked=f"it depends on {package.name}, which is {package.status}")

    return tuple(block(update) for update in updates)


def is_dpkg_locked(records: Sequence[ScriptRecord]) -> bool:
    """Return whether a process holds dpkg's own lock, that is, changes packages now."""
    return any(require_text(record, "path").startswith("/var/lib/dpkg/") for record in records)


def parse_dpkg_versions(text: str, native: str) -> Mapping[str, str]:
    """Read the output of apt_installed.sh: name as apt writes it -> version, for installed and configured packages."""
    return {
        build_dpkg_name(name, arch, native): version
        for name, arch, flag, status, version in split_rows(text, 5)
        if (flag, status) == ("ok", "installed")
    }
