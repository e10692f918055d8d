"""The nouns for what machines say of themselves. All of tasks/model.py's are these and what is made of them."""

from dataclasses import dataclass
from datetime import datetime

from tasks.error_info import ErrorInfo
from tasks.states import URGENT_CLASSIFICATIONS, Classification, Compliance, YesNoUnknown


@dataclass(frozen=True, slots=True)
class Disk:
    """Free room on the file system that holds ``mount`` (a mount point or a drive)."""

    mount: str
    role: str  # "system", "packages", "boot": what it is needed for, whatever its path
    total_bytes: int
    free_bytes: int
    free_inodes: int | None  # None where the file system has no fixed number of them
    read_only: bool


@dataclass(frozen=True, slots=True)
class Listener:
    """A program that listens on "protocol/port", and its systemd unit. Both may be "": not known."""

    name: str
    program: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Services:
    """What runs: failed service units, and what services listen on as "protocol/port".

    Attributes:
        listening: of services only: neither ephemeral ports nor users' own programs.
        listeners: the same with their programs; empty in records of earlier versions.
    """

    failed: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    known: bool = True  # False when the machine has no way to tell
    listeners: tuple[Listener, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine says of itself.

    Attributes:
        managers: package managers found, best first: "apt", "dnf", "zypper", "windows_update".
        clock_skew_seconds: machine's clock minus ours, half the round trip taken off.
        can_reboot: False in containers that their host must restart.
        boot_epoch: what its clock would have said at its boot (seconds since 1970), by the clock as it was when it was
            asked; None when the machine can't tell how long it has been up, or an older version asked.
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


@dataclass(frozen=True, slots=True)
class Update:
    """One pending update on one machine.

    Attributes:
        id: identity within the machine: name and architecture, or a GUID.
        name: what masks match.
        installed: version now, or None when the update brings a new package along.
        available: version that would be installed.
        origins: where newer versions come from, for people.
        cves: what it fixes; None when the machine can't tell (which is not the same as none).
        size_bytes: download size; None when unknown.
        group: updates of one group belong in one transaction; "" for none.
        held: its administrator pinned it; it is never un-held by us.
        blocked: why the machine can't install it as it stands ("UA_ESM_REQUIRED …"), or "".
        requires_reboot: None when it isn't known beforehand.
        replaces: older pending updates that this one includes.
        security_version: the newest version that an origin of security fixes offers; "" when that is ``available``.
        vendor_change: who published what is installed, and who publishes ``available``, where these differ: "A -> B".
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


@dataclass(frozen=True, slots=True)
class RebootNeed:
    """Whether a machine asks for a reboot, and why it thinks so."""

    answer: YesNoUnknown
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnfinishedPackage:
    """A package that is there and not set up: its installation was interrupted, or failed.

    Attributes:
        id: as an update of it has it.
        status: in the package manager's words: "half-configured".
    """

    id: str
    name: str
    arch: str
    version: str
    status: str


@dataclass(frozen=True, slots=True)
class PackageState:
    """What the package manager says.

    Attributes:
        problems: what is broken (interrupted transactions, unmet dependencies); empty when it is healthy.
        repairable: whether finishing what was interrupted may mend the problems.
        unfinished: packages among the problems that are only half installed.
        lock_holder: process that holds the lock now, or "".
        auto_updaters: the system's own updaters that may act: (name, seconds until it does or None).
        warnings: repositories that could not be read, and the like.
        services_to_restart: run on files that were replaced under them.
        at_work: who was changing packages at that moment, so that their state was not judged; "" for nobody.
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
    at_work: str = ""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is pending on one machine, or why that is not known."""

    machine: str
    at: datetime
    seconds: float
    facts: Facts | None = None
    packages: PackageState | None = None
    error: ErrorInfo | None = None
    run_id: str = ""

    @property
    def urgent_count(self) -> int:
        """Number of critical and security updates."""
        return (
            sum(update.classification in URGENT_CLASSIFICATIONS for update in self.packages.updates)
            if self.packages
            else 0
        )

    @property
    def other_count(self) -> int:
        """Number of all other updates."""
        return len(self.packages.updates) - self.urgent_count if self.packages else 0

    @property
    def compliance(self) -> Compliance:
        """Compliant when no critical or security update is pending and no package is broken."""
        if self.packages is None:
            return Compliance.NOT_ASSESSED
        if self.urgent_count or self.packages.problems:
            return Compliance.NON_COMPLIANT
        is_unclear = any(u.classification is Classification.UNCLASSIFIED for u in self.packages.updates)
        return Compliance.NOT_ASSESSED if is_unclear else Compliance.COMPLIANT
