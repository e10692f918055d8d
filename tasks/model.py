"""The nouns: what is known about a machine, what is planned for it, and what became of it.

``Machine → Facts → Assessment → Plan → InstallResult → RebootResult → Validation → Outcome → RunReport``. All of them
are frozen; every datetime is aware. The states they can be in stand in tasks/states.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tasks.states import (
    URGENT,
    Answer,
    Classification,
    Compliance,
    FindingLevel,
    HookKind,
    HookMode,
    HookPlace,
    OperationState,
    RebootState,
    Step,
    UpdateState,
)


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
class Services:
    """What runs: failed service units, and sockets listened on as "protocol/port"."""

    failed: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    known: bool = True  # False when the machine has no way to tell


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine says of itself.

    Attributes:
        managers: package managers found, best first: "apt", "dnf", "zypper", "windows_update".
        clock_skew_seconds: machine's clock minus ours, half the round trip taken off.
        can_reboot: False in containers that their host must restart.
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


@dataclass(frozen=True, slots=True)
class RebootNeed:
    """Whether a machine asks for a reboot, and why it thinks so."""

    answer: Answer
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackageState:
    """What the package manager says.

    Attributes:
        problems: what is broken (interrupted transactions, unmet dependencies); empty when it is healthy.
        repairable: whether finishing what was interrupted may mend the problems.
        lock_holder: process that holds the lock now, or "".
        auto_updaters: the system's own updaters that may act: (name, seconds until it does or None).
        warnings: repositories that could not be read, and the like.
        services_to_restart: run on files that were replaced under them.
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


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as it is kept in records: its kind, its text and what a person can do."""

    kind: str
    message: str
    hint: str = ""
    transient: bool = False


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
    def urgent(self) -> int:
        """Number of critical and security updates."""
        return sum(update.classification in URGENT for update in self.packages.updates) if self.packages else 0

    @property
    def other(self) -> int:
        """Number of all other updates."""
        return len(self.packages.updates) - self.urgent if self.packages else 0

    @property
    def compliance(self) -> Compliance:
        """Compliant when no critical or security update is pending."""
        if self.packages is None or any(u.classification is Classification.UNCLASSIFIED for u in self.packages.updates):
            return Compliance.NOT_ASSESSED if self.urgent == 0 else Compliance.NON_COMPLIANT
        return Compliance.NON_COMPLIANT if self.urgent else Compliance.COMPLIANT


@dataclass(frozen=True, slots=True)
class FrozenSet:
    """What an earlier run has installed (or, when it was only a plan, planned): no other update or version is wanted.

    Attributes:
        run_id: of that run.
        updates: (name, version) of each.
    """

    run_id: str
    updates: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pending updates are wanted. Masks are shell-style; an exclude wins over everything."""

    classifications: frozenset[Classification] = frozenset({Classification.CRITICAL, Classification.SECURITY})
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_requiring_reboot: bool = False
    published_before: datetime | None = None
    frozen: FrozenSet | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window: from ``start`` (included) to ``end`` (excluded), shown in ``zone``."""

    start: datetime
    end: datetime
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What became of one update, and why. Every update that was pending has exactly one."""

    update: Update
    state: UpdateState
    reason: str = ""
    version_after: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Expected seconds per phase on one machine; ``basis`` says where the figures come from."""

    stage: float = 0.0
    install: float = 0.0
    reboot: float = 0.0
    validate: float = 0.0
    basis: str = "defaults"

    @property
    def total(self) -> float:
        """Seconds from start to end."""
        return self.stage + self.install + self.reboot + self.validate


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done on one machine. ``chosen`` and ``skipped`` together are all that is pending."""

    machine: str
    chosen: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]
    prediction: Prediction = Prediction()
    reboot_expected: Answer = Answer.UNKNOWN
    notes: tuple[str, ...] = ()
    download_bytes: int | None = None  # still to be fetched; None when the package manager can't tell


@dataclass(frozen=True, slots=True)
class Wave:
    """Machines that are patched side by side, by name."""

    number: int
    machines: tuple[str, ...]
    canary: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and the remedy."""

    check: str
    level: FindingLevel
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """One package transaction, as the machine's own job told it. Times are the controller's clock."""

    number: int
    updates: tuple[str, ...]
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class InstallResult:
    """The install step.

    Attributes:
        results: what the package database says afterwards.
        staged_bytes: downloaded for it by staging; 0 when all was there already, None when that isn't known.
        staged_seconds: how long the staging took; None when that isn't known.
    """

    results: tuple[UpdateResult, ...]
    transactions: tuple[TransactionResult, ...] = ()
    job_ids: tuple[str, ...] = ()
    conffiles: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()  # changes that came along as dependencies: "name old -> new"
    overrun_seconds: float = 0.0  # by how much the last transaction passed the window's end
    error: ErrorInfo | None = None
    staged_bytes: int | None = None
    staged_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RebootResult:
    """The reboot step."""

    state: RebootState
    reason: str = ""
    boot_id_before: str = ""
    boot_id_after: str = ""
    down_seconds: float | None = None  # from the order until it stopped answering
    up_seconds: float | None = None  # from then until a login worked
    count: int = 0


@dataclass(frozen=True, slots=True)
class Validation:
    """What is so afterwards: findings, and what is still pending."""

    findings: tuple[Finding, ...]
    assessment: Assessment | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing blocks."""
        return all(finding.level is not FindingLevel.BLOCK for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Hook:
    """Something of the owner's that is run before or after.

    Attributes:
        target: a command line, a URL, ``package.module:function`` or ``flow/deployment``, by its kind.
        repeatable: it may be run again when nobody knows whether it ran.
    """

    name: str
    place: HookPlace
    kind: HookKind
    target: str
    timeout_seconds: float = 300.0
    mode: HookMode = HookMode.MUST_SUCCEED
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a hook went. ``subject`` is the machine's name, "wave 2" or "run"."""

    hook: Hook
    subject: str
    succeeded: bool
    message: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class StepRecord:
    """When a step ran on a machine, and how it ended."""

    step: Step
    started_at: datetime
    ended_at: datetime
    state: OperationState
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobOutput:
    """The raw output of one job, as the package manager printed it (untrusted text)."""

    run_id: str
    machine: str
    job_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one machine. Every machine in scope has exactly one."""

    run_id: str
    machine: str
    state: OperationState
    reason: str
    updates: tuple[UpdateResult, ...] = ()
    reboot: RebootState = RebootState.UNKNOWN
    wave: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    window_exceeded_seconds: float = 0.0
    steps: tuple[StepRecord, ...] = ()
    findings: tuple[Finding, ...] = ()
    prediction: Prediction | None = None
    install: InstallResult | None = None
    reboot_result: RebootResult | None = None
    facts: Facts | None = None
    error: ErrorInfo | None = None

    def count(self, state: UpdateState) -> int:
        """Number of updates in that state."""
        return sum(result.state is state for result in self.updates)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run: what was asked, when, and how it ended. ``request`` is the request as JSON data, free of secrets."""

    id: str
    kind: str  # "patch", "assess", "plan"
    started_at: datetime
    state: OperationState
    request: Mapping[str, object] = field(default_factory=dict)
    window: Window | None = None
    scope: str = ""
    ended_at: datetime | None = None
    started_by: str = ""
    flow_run_id: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """A whole run, as it is handed to callers and to the reports."""

    run: RunInfo
    outcomes: tuple[Outcome, ...]
    waves: tuple[Wave, ...] = ()
    plans: tuple[Plan, ...] = ()
    assessments: tuple[Assessment, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    notes: tuple[str, ...] = ()  # who approved, what was told to nobody, what the window was

    def count(self, state: OperationState) -> int:
        """Number of machines in that state."""
        return sum(outcome.state is state for outcome in self.outcomes)
