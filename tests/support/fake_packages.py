"""Packages made of rules: what is installed, what is on offer, and how each update behaves."""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from tasks.domain.model import UnfinishedPackage, Update
from tasks.domain.protocols.package_manager import InstalledKernels, JobKind, PackageNeeds, SimulationResult
from tasks.domain.states import Classification


@dataclass
class FakePackage:
    """One package, and how its update behaves.

    Attributes:
        installed: version that is there; None when it is not.
        available: version that repositories offer.
        seconds: how long its update takes.
        fails: why its update fails, or "": it is then left half-configured.
        ignored: whether its update does nothing and reports success all the same.
        asks_reboot: whether it asks for a reboot once it is installed.
        used_by: services that run its old files once it is updated.
        conffile: configuration file of which the update's version is put aside, or "".
        needs: ids that must be up to date along with it.
        removes: ids that it can't be installed beside.
        refused: why the package manager would not install it, or "".
        broken: whether it is half-configured now.
        staged: whether it is downloaded.
        chosen: whether somebody has chosen it, so that it is no mere dependency.
        appears_after: id of the package that must be up to date before this update is offered, at the next refresh.
    """

    id: str
    installed: str | None = "1.0"
    available: str = "2.0"
    classification: Classification = Classification.OTHER
    size_bytes: int = 20_000
    seconds: float = 1.0
    group: str = ""
    fails: str = ""
    ignored: bool = False
    asks_reboot: bool = False
    requires_reboot: bool | None = None
    changes_boot: bool = False
    used_by: tuple[str, ...] = ()
    conffile: str = ""
    needs: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    refused: str = ""
    held: bool = False
    blocked: str = ""
    broken: bool = False
    staged: bool = False
    appears_after: str = ""
    chosen: bool = False

    @property
    def pending(self) -> bool:
        """Whether there is something newer."""
        return self.installed is not None and self.installed != self.available

    def update(self) -> Update:
        """Its pending update."""
        return Update(
            id=self.id,
            name=self.id,
            arch="all",
            installed=self.installed,
            available=self.available,
            classification=self.classification,
            origins=("fake",),
            size_bytes=self.size_bytes,
            group=self.group or self.id,
            held=self.held,
            blocked=self.blocked,
            requires_reboot=self.requires_reboot,
            changes_boot=self.changes_boot,
        )


def lab_packages() -> list[FakePackage]:
    """The packages that the lab's hosts have, with the behaviour that they have there."""
    return [
        FakePackage("lab-plain"),
        FakePackage("lab-slow", seconds=30.0),
        FakePackage("lab-failing", fails="maintainer-script: lab-failing: cannot migrate data"),
        FakePackage("lab-reboot", asks_reboot=True),
        FakePackage("lab-conffile", conffile="/etc/lab.conf"),
        FakePackage("lab-sec", available="2.1", classification=Classification.SECURITY),
        FakePackage("lab-dep-a", needs=("lab-dep-b",)),
        FakePackage("lab-dep-b", needs=("lab-dep-a",)),
        FakePackage("lab-removes", removes=("lab-plain",)),
    ]


@dataclass
class Shelf:
    """All packages of a machine, and what follows from their rules.

    Attributes:
        configured: "package version" each time one came to be whole, as in the package manager's own log.
    """

    packages: list[FakePackage]
    reboot_reasons: list[str] = field(default_factory=list)
    configured: list[str] = field(default_factory=list)
    kernels: InstalledKernels = field(default_factory=InstalledKernels)
    stuck_kernels: str = ""  # why no kernel can be removed
    needed_kernels: dict[str, str] = field(default_factory=dict)  # why their removal is refused, by id
    replaced: list[str] = field(default_factory=list)  # services whose files were replaced since somebody looked

    def copy(self) -> "Shelf":
        """Return the same packages, which change no more with these."""
        return replace(
            self,
            packages=[copy(package) for package in self.packages],
            reboot_reasons=[*self.reboot_reasons],
            configured=[*self.configured],
            needed_kernels={**self.needed_kernels},
            replaced=[*self.replaced],
        )

    def __getitem__(self, update_id: str) -> FakePackage:
        return next(package for package in self.packages if package.id == update_id)

    def whole(self) -> dict[str, str]:
        """What is whole and configured: id -> version."""
        return {package.id: package.installed for package in self.packages if package.installed and not package.broken}

    def broken(self) -> list[str]:
        """What is half-configured, in words."""
        return [f"{package.id} {package.installed} is half-configured" for package in self.packages if package.broken]

    def unfinished(self) -> tuple[UnfinishedPackage, ...]:
        """What is half-configured."""
        broken = [package for package in self.packages if package.broken]
        return tuple(UnfinishedPackage(p.id, p.id, "all", str(p.installed), "half-configured") for p in broken)

    def needs(self) -> PackageNeeds:
        """What is chosen, and what nothing that is installed needs."""
        there = [package for package in self.packages if package.installed]
        needed = {name for package in there for name in package.needs}
        chosen = frozenset(package.id for package in there if package.chosen)
        return PackageNeeds(chosen, frozenset(p.id for p in there if p.id not in needed and not p.chosen))

    def closure(self, wanted: Iterable[str]) -> list[str]:
        """What would change: the wanted ones and those they need, as far as they are not there yet."""
        found: dict[str, None] = {}
        todo = list(wanted)
        while todo:
            package = self[todo.pop(0)]
            if package.id not in found and package.installed != package.available:
                found[package.id] = None
                todo += package.needs
        return list(found)

    def missing(self, wanted: Iterable[str]) -> list[FakePackage]:
        """What of that is still to be downloaded."""
        return [package for package in map(self.__getitem__, self.closure(wanted)) if not package.staged]

    def removals(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """What would be removed."""
        return tuple(gone for i in wanted for gone in self[i].removes if self[gone].installed is not None)

    def simulate(self, wanted: Sequence[str], keep: Sequence[str] = ()) -> SimulationResult:
        """What installing these would do, as long as what is kept stays as it is."""
        changes = [self[update_id] for update_id in self.closure(wanted)]
        refused = {package.id: package.refused for package in changes if package.refused and package.id in wanted}
        clashes = {
            package.id: f"{package.id}: Conflicts: {other}"
            for package in changes
            for other in package.removes
            if other in wanted or (other in keep and self[other].installed)
        }
        clashes |= {
            package.id: f"{package.id}: needs {other}"
            for package in changes
            for other in keep
            if other in package.needs
        }
        if refused or clashes:
            refusal = "; ".join([*refused.values(), *clashes.values()])
            return SimulationResult({}, refused=refused, refusal=refusal, named=frozenset(clashes))
        missing = self.missing(wanted)
        return SimulationResult(
            changes={package.id: package.available for package in changes},
            removals=self.removals(wanted),
            download_bytes=sum(package.size_bytes for package in missing),
        )

    def carry_out(self, work: JobKind, wanted: Sequence[str]) -> None:
        """Do what a transaction does."""
        match work:
            case JobKind.STAGE:
                for update_id in self.closure(wanted):
                    self[update_id].staged = True
            case JobKind.REPAIR:
                for package in self.packages:
                    mended = package.broken and not package.fails
                    self.configured += [f"{package.id} {package.installed}"] if mended else []
                    package.broken = package.broken and bool(package.fails)
            case JobKind.INSTALL:
                self._install(wanted)
            case JobKind.REMOVE:
                left = tuple(each for each in self.kernels.packages if each.package.id not in wanted)
                self.kernels = self.kernels if self.stuck_kernels else replace(self.kernels, packages=left)
                for package in self.packages:
                    package.installed = None if package.id in wanted else package.installed

    def interrupt(self, work: JobKind, wanted: Sequence[str]) -> None:
        """Leave a transaction half done, as a power cut does."""
        for update_id in self.closure(wanted)[:1] if work is JobKind.INSTALL else ():
            self[update_id].installed, self[update_id].broken = self[update_id].available, True

    def _install(self, wanted: Sequence[str]) -> None:
        removed = self.removals(wanted)
        for update_id in self.closure(wanted):
            package = self[update_id]
            if package.ignored:
                continue
            package.installed, package.broken = package.available, bool(package.fails)
            self.configured += [] if package.broken else [f"{package.id} {package.available}"]
            self.replaced += package.used_by
            if package.asks_reboot and not package.fails:
                self.reboot_reasons.append(f"{package.id} asks for it")
        for update_id in removed:
            self[update_id].installed = None
