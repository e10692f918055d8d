"""The data types for what machines report about themselves. tasks/domain/model.py builds on these types."""

import re
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Self

from inventory.data_class import dataclass
from inventory.errors import FleetpatchError
from tasks.domain.compliance import RepositoryProblem, judge_compliance
from tasks.domain.components import InstalledComponent
from tasks.domain.services import Services
from tasks.domain.states import Classification, Compliance, FindingLevel, MachineKind, YesNoUnknown

UpdateKey = tuple[str, str]
"""Name and version of an update. On Windows its id is behind the version: see ``build_update_key``."""

_WITH_ID = re.compile(r" ?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$")


def build_update_key(name: str, update_id: str, version: str) -> UpdateKey:
    """Return what tells an update from all others of a fleet.

    Microsoft uses the number of an article again for other updates, each month, in the same revision. Only the id, a
    GUID, tells them apart. People see the version without it (``strip_update_id``).
    """
    return name, f"{version} {update_id}" if _WITH_ID.fullmatch(update_id) else version


@lru_cache(maxsize=2**16)  # most machines lack the same updates
def build_sight_key(key: UpdateKey) -> UpdateKey:
    """Return the key of an update's first sight: on Windows all its revisions are as old as the first of them."""
    match = _WITH_ID.search(key[1])
    return key[0], match[1] if match else key[1]


def strip_update_id(version: str) -> str:
    """Return the version of a key as people see it."""
    return _WITH_ID.sub("", version)


TRY_AGAIN = "to try it again, name it in include, without wildcards"
"""What helps for an update that is given up."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as the records store it: its class name (``kind``), its text and a hint for the user."""

    kind: str
    message: str
    hint: str = ""
    transient: bool = False

    @classmethod
    def from_error(cls, error: FleetpatchError) -> Self:
        """Return the ErrorInfo of an error."""
        return cls(type(error).__name__, error.message, error.hint, error.transient)

    def is_a(self, *kinds: type[FleetpatchError]) -> bool:
        """Return whether the error is of one of these classes or of a subclass."""
        names = {kind.__name__ for kind in kinds}
        return self.kind in names or any(self.is_a(*kind.__subclasses__()) for kind in kinds if kind.__subclasses__())


@dataclass(frozen=True, slots=True)
class Disk:
    """Free space of the file system at ``mount`` (a mount point or a drive)."""

    mount: str
    role: str  # "system", "packages" or "boot": what updates need it for, independent of its path
    total_bytes: int
    free_bytes: int
    free_files: int | None  # how many more files it can hold; None when there is no fixed number
    read_only: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation of a check about a machine, and the remedy."""

    check: str
    level: FindingLevel
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"

    @classmethod
    def good(cls, check: str, message: str) -> Self:
        """Return a finding of level good."""
        return cls(check, FindingLevel.GOOD, message)

    @classmethod
    def remark(cls, check: str, message: str, remedy: str = "") -> Self:
        """Return a finding of level remark."""
        return cls(check, FindingLevel.REMARK, message, remedy)

    @classmethod
    def warn(cls, check: str, message: str, remedy: str) -> Self:
        """Return a finding of level warn, with the act that ends it."""
        return cls(check, FindingLevel.WARN, message, remedy)

    @classmethod
    def block(cls, check: str, message: str, remedy: str = "") -> Self:
        """Return a finding of level block: it prevents patching."""
        return cls(check, FindingLevel.BLOCK, message, remedy)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that a machine reports about itself.

    Attributes:
        managers: names of its package managers, best first.
        clock_skew_seconds: the machine's clock minus the controller's, corrected by half the round trip.
        clock_error_seconds: so far ``clock_skew_seconds`` may be wrong in either direction: a slow answer tells little.
        can_reboot: False in containers that only their host can restart.
        boot_epoch: time of the boot in seconds since 1970, by the machine's own clock; None: it does not know that.
        findings: what about its settings would stop or endanger a run, as the machine itself reports it.
        machine_id: of an installation of the system, for its life; "" where the login proves it (SSH), or not known.
        support_end: the first day ("YYYY-MM-DD") without support of the system, by its own os-release(5); "" for none.
        boot_id: tells a boot of the machine from all others (prelude.sh, fp_read_boot).
        default_routes: the families ("IPv4", "IPv6") with a default route. None: not asked, or not known.
        roles: what others need it for, with the name that it shares with others of that role. None: not known.
        is_arc: whether Azure Arc's agent is connected. None, as for ``container_engines``: it was not asked.
    """

    os_id: str
    os_version: str
    os_name: str
    kernel: str
    arch: str
    boot_id: str
    uptime_seconds: float
    clock_skew_seconds: float
    privilege: str
    managers: tuple[str, ...]
    job_runner: str
    can_reboot: bool
    disks: tuple[Disk, ...]
    services: Services
    boot_epoch: float | None = None
    findings: tuple[Finding, ...] = ()
    machine_id: str = ""
    instance_id: str = ""
    boot_work: str = ""
    clock_error_seconds: float = 0.0
    support_end: str = ""
    kind: MachineKind = MachineKind.UNKNOWN
    container_engines: tuple[str, ...] | None = None
    is_arc: bool | None = None
    default_routes: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None

    def without_active_units(self) -> Self:
        """Return the facts without what only the checks of this run compare."""
        return replace(self, services=replace(self.services, active_units=(), runs=()), default_routes=None)


@dataclass(frozen=True, slots=True)
class Update:
    """One pending update on one machine.

    Attributes:
        id: unique id on the machine: name and architecture, or a GUID.
        name: the name that masks match.
        installed: installed version; None when the update installs a new package.
        available: the version to install.
        origins: the origins of newer versions, for display.
        cves: the CVEs that the update fixes; None when unknown (an empty tuple means none).
        size_bytes: download size; None when unknown.
        group: updates of one group must be in one transaction; "" for no group.
        held: the machine's administrator holds the package. fleetpatch never releases a hold.
        blocked: why the machine can't install the update now ("UA_ESM_REQUIRED …"), or "".
        needs_licence: its licence terms must be accepted first. Only a request can allow that.
        requires_reboot: None when unknown before the installation.
        changes_boot: the package manager says that it replaces what the machine boots with: a kernel, a boot loader,
            firmware or a tool that builds boot images.
        replaces: older pending updates that this update includes.
        security_version: the newest version from an origin of security fixes; "" when that is ``available``.
        vendor_change: vendor of the installed version and vendor of ``available``, when they differ: "A -> B".
        advisories: the ids of the publisher's notices about the newer versions ("RHSA-2024:1234"), newest first.
        updates_manager: whether it replaces the package manager itself, so that it is installed before the others.
        needed_by_classes: it is selected with any of these classifications: their updates may need it first.
        title: the publisher's title, if the name is not one; masks match it too.
        optional: why its classification does not select it but only an include mask ("a preview", "a driver"), or "".
        reboot_reason: why it needs a reboot, may need one or needs none, in words; "" when there is nothing to explain.
        given_up: how its last tries failed, so that only its own name in an include selects it again; or "".
        older_versions: the versions in between that are still offered, newest first; () where they are not known.
        needed_by: the id of the update whose version ``available`` installs this new package as a dependency; or "".
        goes_back: it takes an earlier update back: ``available`` is the version before, which may be older; "": the
            package was not there before.
        previous_offered: whether a repository still has the installed version, so that an undo can bring it back; None:
            not known.
        server_deadline: from then on the machine installs it by itself, and restarts, as its update server says.
    """

    id: str
    name: str
    arch: str
    installed: str | None
    available: str
    classification: Classification
    severity: str = ""
    origins: tuple[str, ...] = ()
    cves: tuple[str, ...] | None = None
    size_bytes: int | None = None
    group: str = ""
    held: bool = False
    blocked: str = ""
    requires_reboot: bool | None = None
    kb: str = ""
    published: datetime | None = None
    replaces: tuple[str, ...] = ()
    security_version: str = ""
    vendor_change: str = ""
    changes_boot: bool = False
    advisories: tuple[str, ...] = ()
    updates_manager: bool = False
    title: str = ""
    optional: str = ""
    needs_licence: bool = False
    reboot_reason: str = ""
    given_up: str = ""
    older_versions: tuple[str, ...] = ()
    needed_by: str = ""
    needed_by_classes: tuple[Classification, ...] = ()
    goes_back: bool = False
    previous_offered: bool | None = None
    server_deadline: datetime | None = None

    @property
    def key(self) -> UpdateKey:
        """Return what tells it from all others of a fleet, in the version to install."""
        return build_update_key(self.name, self.id, self.available)

    @property
    def remark(self) -> str:
        """Return what keeps the update from being installed, apart from the selection of a request; or ""."""
        licence = "its licence terms must be accepted (accept_licences)" if self.needs_licence else ""
        given_up = f"{self.given_up}; {TRY_AGAIN}" if self.given_up else ""
        return "held" if self.held else self.blocked or licence or given_up


@dataclass(frozen=True, slots=True)
class RebootNeed:
    """Whether a machine needs a reboot, and the reasons it gives.

    Attributes:
        mitigated_by: why the reboot may wait: a live patch has fixed everything in memory that the reboot would fix.
            "" when none has, or when that is not known.
        since: when the machine first needed it since its last boot; None when not known, as in records of earlier
            versions. In the answer of a package manager: when the first of the newer kernels was installed.
    """

    answer: YesNoUnknown
    reasons: tuple[str, ...] = ()
    mitigated_by: str = ""
    since: datetime | None = None

    @property
    def explanation(self) -> str:
        """Return the reasons, and what mitigates them, as one text; "" without reasons."""
        mitigation = (f"mitigated by {self.mitigated_by}",) if self.mitigated_by else ()
        return "; ".join((*self.reasons, *mitigation))


@dataclass(frozen=True, slots=True)
class LivePatching:
    """The live patches of a machine's running kernel: fixes in memory, without a reboot.

    Attributes:
        provider: the name of the tool, or "livepatch" for the kernel itself.
        state: the tool's own word for the state, or the kernel's.
        kernel: release of the kernel that is patched.
        cves: the CVEs that they fix; None when unknown.
        problem: why the live patches can't be relied on (not applied, support has ended), or "".
        unfixed_cves: the CVEs that newer installed kernels fix and the live patches do not; None when unknown.
        assurance: the provider's own statement that the live patches replace the pending reboot, or "".
    """

    provider: str
    state: str
    kernel: str = ""
    patches: tuple[str, ...] = ()
    cves: tuple[str, ...] | None = None
    problem: str = ""
    unfixed_cves: tuple[str, ...] | None = None
    assurance: str = ""


@dataclass(frozen=True, slots=True)
class HotpatchEnrolment:
    """What a machine says of its enrolment for hotpatches (Windows) or live patches (Linux).

    Attributes:
        provider: "hotpatch", or the name of a provider of live patches.
        means: how fleetpatch can change it: "registry" (the values that Microsoft documents for Azure Edition),
            "arc" (a licence of Azure Arc), the name of the vendor's tool, or "" (people have to).
        enrolled: whether the licence, the subscription or the module is enrolled on it; None when unknown.
        receives: whether it is set to receive them; None when unknown.
        product: what is enrolled, as the provider names it: the build of Windows, or SUSE's module.
        prerequisites: what it has and what it lacks, each with its remedy.
    """

    provider: str
    means: str = ""
    enrolled: bool | None = None
    receives: bool | None = None
    product: str = ""
    prerequisites: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class UnfinishedPackage:
    """A package that is unpacked but not configured: its installation was interrupted, or failed.

    Attributes:
        id: the id that an update of this package has.
        status: status from the package manager, for example "half-configured".
        failure: how its own script failed, in its words; "" when that is not known, as after an interruption.
    """

    id: str
    name: str
    arch: str
    version: str
    status: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class WaitingFixes:
    """Critical and security updates that are installed and not in effect: something still runs their old files.

    Attributes:
        updates: the names of those that are known to wait for a reboot; others may wait for services.
        services: services that run replaced files, and must restart.
        needs_reboot: whether they wait for a reboot.
        is_certain: False: whether such an update is among those that wait is not known.
    """

    updates: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    needs_reboot: bool = False
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class SelfRestart:
    """Why the system may restart the machine by itself, and when, in words."""

    reason: str
    is_lasting: bool = True  # for whatever waits for a reboot, and no run can pause it


@dataclass(frozen=True, slots=True)
class PackageState:
    """The package state that the package manager reports.

    Attributes:
        problems: faults (interrupted transactions, unmet dependencies); empty when the state is healthy.
        repairable: whether a repair may help: it finishes an interrupted transaction, or mends the package database.
        interrupted: whether an interrupted transaction is among the problems.
        can_install_others: whether updates of other packages can be installed beside the problems.
        unfinished: packages among the problems that are only half installed.
        failed_scripts: installed packages whose last script failed, and whose database does not know it any more.
        lock_holder: the process that holds the package manager's lock now, or "".
        auto_updaters: the system's own updaters that may act: (name, seconds until it acts; None: at any time).
        unpausable_updaters: the names of those among them that no run can pause (jobs of cron, for example).
        non_installing_updaters: the names of those among them that only read lists, download, notify or wait.
        updater_units: masks of the services among the system's own updaters. No run restarts them.
        warnings: for example repositories that could not be read.
        services_to_restart: services that use files which updates have replaced.
        at_work: the process that changed packages during the query, so that they were not checked; "" for none.
        live_patching: what is known of live patches; None when the machine has no tool for them.
        repository_problems: repositories that were not read, each with its remedy.
        remarks: facts about repositories that change no state: what the package manager remarked on those that
            it read, and the origins whose updates have no classification.
        package_remarks: what the package manager remarked on packages, and what stops no update.
        remounted: the mount points that its own hooks mount writable before it changes packages; "*" for all of them.
        hotpatch: its enrolment for hotpatches or live patches; None when it can't have any.
        components: the components that it was asked for. Their updates are not among ``updates``.
        waiting: the critical and security updates that are installed and not in effect, as far as that is known.
        self_restarts: why the system may restart the machine by itself once a reboot is pending.
        asked_at: when a refresh last asked the source of updates; None: unknown.
    """

    manager: str
    updates: tuple[Update, ...]
    reboot: RebootNeed
    held: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    repairable: bool = False
    lock_holder: str = ""
    auto_updaters: tuple[tuple[str, float | None], ...] = ()
    warnings: tuple[str, ...] = ()
    services_to_restart: tuple[str, ...] = ()
    unfinished: tuple[UnfinishedPackage, ...] = ()
    failed_scripts: tuple[str, ...] = ()
    at_work: str = ""
    updater_units: tuple[str, ...] = ()
    live_patching: LivePatching | None = None
    repository_problems: tuple[RepositoryProblem, ...] = ()
    unpausable_updaters: tuple[str, ...] = ()
    non_installing_updaters: tuple[str, ...] = ()
    hotpatch: HotpatchEnrolment | None = None
    can_install_others: bool = False
    remarks: tuple[str, ...] = ()
    interrupted: bool = False
    components: tuple[InstalledComponent, ...] = ()
    package_remarks: tuple[str, ...] = ()
    remounted: tuple[str, ...] = ()
    waiting: WaitingFixes | None = None
    self_restarts: tuple[SelfRestart, ...] = ()
    asked_at: datetime | None = None

    @property
    def versions(self) -> frozenset[UpdateKey]:
        """Return the keys of first sights of all versions that are offered: a run may install an older one."""
        return frozenset(
            build_sight_key(build_update_key(update.name, update.id, version))
            for update in self.updates
            for version in (update.available, update.security_version, *update.older_versions)
            if version
        )


@dataclass(frozen=True, slots=True)
class Assessment:
    """The pending updates of one machine, or why they are unknown."""

    machine: str
    at: datetime
    seconds: float
    facts: Facts | None = None
    packages: PackageState | None = None
    error: ErrorInfo | None = None
    run_id: str = ""

    @property
    def urgent_count(self) -> int:
        """Return the number of critical and security updates."""
        updates = self.packages.updates if self.packages else ()
        return sum(update.classification.is_urgent for update in updates)

    @property
    def other_count(self) -> int:
        """Return the number of all other updates."""
        return len(self.packages.updates) - self.urgent_count if self.packages else 0

    @property
    def compliance(self) -> Compliance:
        """Return Compliant when no critical or security update is pending, hidden or not in effect, and none broken."""
        if self.packages is None:
            return Compliance.NOT_ASSESSED
        return judge_compliance(
            urgent=self.urgent_count,
            unclassified=sum(u.classification is Classification.UNCLASSIFIED for u in self.packages.updates),
            broken=bool(self.packages.problems),
            problems=self.packages.repository_problems,
            waiting=None if self.packages.waiting is None else self.packages.waiting.is_certain,
        )
