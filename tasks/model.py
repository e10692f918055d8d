"""The nouns: what is known about a machine, what is planned for it, and what became of it.

``Machine → Facts → Assessment → Plan → InstallResult → RebootResult → Validation → Outcome → RunReport``. All of them
are frozen; every datetime is aware. The states they can be in stand in tasks/states.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tasks.assessment import (
    Assessment,
    Disk,
    Facts,
    Listener,
    PackageState,
    RebootNeed,
    Services,
    UnfinishedPackage,
    Update,
)
from tasks.error_info import ErrorInfo
from tasks.states import (
    Classification,
    FindingLevel,
    HookKind,
    HookMode,
    HookPoint,
    OperationState,
    RebootState,
    Step,
    UpdateState,
    YesNoUnknown,
)

__all__ = [
    "Assessment",
    "Disk",
    "DurationPrediction",
    "ErrorInfo",
    "Facts",
    "Finding",
    "Hook",
    "HookResult",
    "InstallResult",
    "JobOutput",
    "Listener",
    "MachinePlan",
    "Outcome",
    "PackageState",
    "PinnedUpdates",
    "RebootNeed",
    "RebootResult",
    "RestartResult",
    "RunInfo",
    "RunReport",
    "Selection",
    "Services",
    "StepRecord",
    "TransactionResult",
    "UnfinishedPackage",
    "Update",
    "UpdateResult",
    "ValidationResult",
    "Wave",
    "Window",
]


@dataclass(frozen=True, slots=True)
class PinnedUpdates:
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
    newest: bool = False  # of a security fix, the newest version of all, not the newest that a security origin offers
    published_before: datetime | None = None
    pinned_updates: PinnedUpdates | None = None


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
class DurationPrediction:
    """Expected seconds per phase on one machine; ``basis`` says where the figures come from."""

    stage: float = 0.0
    install: float = 0.0
    reboot: float = 0.0
    validate: float = 0.0
    basis: str = "defaults"

    @property
    def total_seconds(self) -> float:
        """Seconds from start to end."""
        return self.stage + self.install + self.reboot + self.validate


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and the remedy."""

    check: str
    level: FindingLevel
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """What would be done on one machine. ``chosen`` and ``skipped`` together are all that is pending."""

    machine: str
    chosen: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]
    prediction: DurationPrediction = DurationPrediction()
    reboot_expected: YesNoUnknown = YesNoUnknown.UNKNOWN
    notes: tuple[str, ...] = ()
    download_bytes: int | None = None  # still to be fetched; None when the package manager can't tell
    assessed_at: datetime | None = None  # tells the assessment that it was made from; None in records of before
    refusals: tuple[Finding, ...] = ()  # what the pre-check would refuse as things stand


@dataclass(frozen=True, slots=True)
class Wave:
    """Machines that are patched side by side, by name."""

    number: int
    machines: tuple[str, ...]
    canary: bool = False


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
class RestartResult:
    """Services that were restarted since they ran replaced files, and when the last restart ended (None: none did)."""

    restarted: tuple[str, ...] = ()
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What is so afterwards: findings, and what is still pending."""

    findings: tuple[Finding, ...]
    assessment: Assessment | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether nothing blocks."""
        return not self.blocking_findings

    @property
    def blocking_findings(self) -> tuple[Finding, ...]:
        """The findings that fail the machine."""
        return tuple(finding for finding in self.findings if finding.level is FindingLevel.BLOCK)


@dataclass(frozen=True, slots=True)
class Hook:
    """Something of the owner's that is run before or after.

    Attributes:
        target: a command line, a URL, ``package.module:function`` or ``flow/deployment``, by its kind.
        repeatable: it may be run again when nobody knows whether it ran.
    """

    name: str
    place: HookPoint
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
    prediction: DurationPrediction | None = None
    install: InstallResult | None = None
    reboot_result: RebootResult | None = None
    facts: Facts | None = None
    error: ErrorInfo | None = None
    services_to_restart: tuple[str, ...] = ()  # what ran replaced files when it was last looked at

    def count_updates(self, state: UpdateState) -> int:
        """Number of updates in that state."""
        return sum(result.state is state for result in self.updates)


READ_ONLY_RUN_KINDS = frozenset({"assess", "plan"})
"""Kinds of run that only read from machines. Every other kind claims them."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run: what was asked, when, and how it ended. ``request`` is the request as JSON data, free of secrets."""

    id: str
    kind: str  # "patch", "assess", "plan", "stage"
    started_at: datetime
    state: OperationState
    request: Mapping[str, object] = field(default_factory=dict)
    window: Window | None = None
    scope: str = ""
    ended_at: datetime | None = None
    started_by: str = ""
    flow_run_id: str = ""
    message: str = ""

    @property
    def may_change_machines(self) -> bool:
        """Whether it claims machines and runs jobs on them. Such a run has a lease, and recovery has to find it."""
        return self.kind not in READ_ONLY_RUN_KINDS


@dataclass(frozen=True, slots=True)
class RunReport:
    """A whole run, as it is handed to callers and to the reports."""

    run: RunInfo
    outcomes: tuple[Outcome, ...]
    waves: tuple[Wave, ...] = ()
    plans: tuple[MachinePlan, ...] = ()
    assessments: tuple[Assessment, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    notes: tuple[str, ...] = ()  # who approved, what was told to nobody, what the window was

    def count_machines(self, state: OperationState) -> int:
        """Number of machines in that state."""
        return sum(outcome.state is state for outcome in self.outcomes)
