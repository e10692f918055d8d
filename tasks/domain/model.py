"""The data types: what is known about a machine, what is planned for it, and its result.

``Machine → Facts → Assessment → Plan → InstallResult → RebootResult → Validation → Outcome → RunReport``. All
types are frozen; every datetime is aware. tasks/domain/states.py defines the states.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from inventory.data_class import dataclass
from inventory.machine import DEFAULT_SITE
from tasks.domain.assessment import (  # noqa: F401 - others import them from here
    Assessment,
    Disk,
    ErrorInfo,
    Facts,
    Finding,
    HotpatchEnrolment,
    LivePatching,
    PackageState,
    RebootNeed,
    SelfRestart,
    UnfinishedPackage,
    Update,
    UpdateKey,
    WaitingFixes,
    build_update_key,
)
from tasks.domain.compliance import RepositoryProblem  # noqa: F401 - others import it from here
from tasks.domain.provided_machines import SnapshotResult
from tasks.domain.services import Listener, Services  # noqa: F401 - others import them from here
from tasks.domain.states import (
    Classification,
    FindingLevel,
    HookKind,
    HookMode,
    HookPoint,
    OperationState,
    RebootState,
    Severity,
    Step,
    UpdateState,
    WindowStatus,
    YesNoUnknown,
)


@dataclass(frozen=True, slots=True)
class PinnedUpdates:
    """The updates that an earlier run installed (or planned, if it was a plan). Only these may be installed."""

    run_id: str
    updates: frozenset[UpdateKey] = frozenset()


@dataclass(frozen=True, slots=True)
class NotHeld:
    """The updates of a configuration that do not wait until their package is applied. It selects nothing itself."""

    classifications: frozenset[Classification] = frozenset()
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pending updates a request selects. Masks are shell-style. An exclude mask always wins."""

    classifications: frozenset[Classification] = frozenset({Classification.CRITICAL, Classification.SECURITY})
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_requiring_reboot: bool = False
    newest: bool = False  # for a security fix: the newest version of any origin, not the newest of a security origin
    published_before: datetime | None = None
    # When the fleet first saw updates, by ``build_sight_key``: their date where the publication is not known.
    first_seen: tuple[tuple[UpdateKey, datetime], ...] = ()
    severities: frozenset[Severity] = frozenset()  # empty: any
    accept_licences: bool = False
    pinned_updates: PinnedUpdates | None = None
    only_not_held: NotHeld | None = None  # of what is selected, only this


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window from ``start`` (included) to ``end`` (excluded), displayed in ``zone``."""

    start: datetime
    end: datetime
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The result of one update: its state and a reason. Every pending update has exactly one."""

    update: Update
    state: UpdateState
    reason: str = ""
    version_after: str | None = None

    @property
    def key(self) -> UpdateKey:
        """Return the key of the update in the version that is there afterwards, if that is known."""
        return build_update_key(self.update.name, self.update.id, self.version_after or self.update.available)


@dataclass(frozen=True, slots=True)
class DurationPrediction:
    """Predicted seconds per phase on one machine. ``basis`` names the source of the figures."""

    stage: float = 0.0
    install: float = 0.0
    reboot: float = 0.0
    validate: float = 0.0
    basis: str = "defaults"

    @property
    def total_seconds(self) -> float:
        """Return the sum of all phases, in seconds."""
        return self.stage + self.install + self.reboot + self.validate


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """What a run would do on one machine. ``chosen`` and ``skipped`` together are all pending updates."""

    machine: str
    chosen: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]
    prediction: DurationPrediction = DurationPrediction()
    reboot_expected: YesNoUnknown = YesNoUnknown.UNKNOWN
    notes: tuple[str, ...] = ()
    download_bytes: int | None = None  # not downloaded yet; None when unknown
    assessed_at: datetime | None = None  # the time of its assessment
    refusals: tuple[Finding, ...] = ()  # what the pre-check would refuse now
    snapshot: str = ""  # the snapshot to which an undo puts the machine back


@dataclass(frozen=True, slots=True)
class Wave:
    """Machines that are patched in parallel, by name."""

    number: int
    machines: tuple[str, ...]
    canary: bool = False


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """One package transaction, as the job on the machine reported it. Times are by the controller's clock."""

    number: int
    updates: tuple[str, ...]
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    detail: str = ""
    undo: str = ""  # how to undo it on the machine, or why that is not possible; "" when the package manager can't tell


@dataclass(frozen=True, slots=True)
class InstallResult:
    """The result of the install step.

    Attributes:
        results: results of the updates, from the package database after the step.
        kept_configuration_files: files that were edited on the machine, so that their updates did not replace them.
        staged_bytes: bytes that staging downloaded; 0 when all files existed already, None when unknown.
        staged_seconds: duration of the staging; None when unknown.
        overhead_updates: the fixed duration of a transaction, as a number of updates that take as long, by the default
            rates of the package manager; None when no transaction was timed.
    """

    results: tuple[UpdateResult, ...]
    transactions: tuple[TransactionResult, ...] = ()
    job_ids: tuple[str, ...] = ()
    kept_configuration_files: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()  # changes of dependencies: "name old -> new"
    overrun_seconds: float = 0.0  # seconds by which the last transaction exceeded the window's end
    error: ErrorInfo | None = None
    staged_bytes: int | None = None
    staged_seconds: float | None = None
    overhead_updates: float | None = None


@dataclass(frozen=True, slots=True)
class RebootResult:
    """The result of the reboot step.

    Attributes:
        mitigated_by: the live patches because of which a required reboot waits, as the request allows; "" otherwise.
    """

    state: RebootState
    reason: str = ""
    boot_id_before: str = ""
    boot_id_after: str = ""
    down_seconds: float | None = None  # from the reboot command until the machine stopped answering
    up_seconds: float | None = None  # from then until a login succeeded
    count: int = 0
    mitigated_by: str = ""


@dataclass(frozen=True, slots=True)
class RestartResult:
    """The services that were restarted because they used replaced files."""

    restarted: tuple[str, ...] = ()
    ended_at: datetime | None = None  # when the last restart ended; None when there was no restart


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The result of the validate step: findings and the updates that are still pending."""

    findings: tuple[Finding, ...]
    assessment: Assessment | None = None

    @property
    def is_healthy(self) -> bool:
        """Return whether no finding blocks."""
        return all(finding.level is not FindingLevel.BLOCK for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Hook:
    """The owner's action before or after a run, a wave or a machine."""

    name: str
    place: HookPoint
    kind: HookKind
    target: str  # a command line, a URL, ``package.module:function`` or ``flow/deployment``; ``kind`` decides which
    timeout_seconds: float = 300.0
    mode: HookMode = HookMode.MUST_SUCCEED
    repeatable: bool = False  # whether it may run again when it is unknown whether it ran


@dataclass(frozen=True, slots=True)
class HookResult:
    """The result of a hook. ``subject`` is the machine's name, "wave 2" or "run"."""

    hook: Hook
    subject: str
    succeeded: bool
    message: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The times and the result of one step on one machine."""

    step: Step
    started_at: datetime
    ended_at: datetime
    state: OperationState
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobOutput:
    """The raw output of one job from the package manager (untrusted text)."""

    run_id: str
    machine: str
    job_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one machine in one run. Every machine in scope has exactly one.

    Attributes:
        facts: from the machine's validation, or else from its pre-check.
        kernel_before: the kernel's release or the build that ran at the assessment; ``facts`` has that at the end. ""
            when unknown.
        snapshot: the snapshot that was ordered before its first change; None: none.
    """

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
    services_to_restart: tuple[str, ...] = ()  # services that used replaced files at the last check
    kernel_before: str = ""
    snapshot: SnapshotResult | None = None

    @property
    def kernel_change(self) -> str:
        """Return "BEFORE -> AFTER" if another kernel or build runs at the end, else what runs; "" when unknown."""
        now = self.facts.kernel if self.facts else ""
        return f"{self.kernel_before} -> {now}" if now and self.kernel_before not in {"", now} else now

    def count_updates(self, state: UpdateState) -> int:
        """Return the number of updates in that state."""
        return sum(result.state is state for result in self.updates)


READ_ONLY_RUN_KINDS = frozenset({"assess", "plan"})
"""The kinds of run that only read from machines. Every other kind takes the machine lock."""
SHARD_KIND = "shard"
"""The kind in lists of a run that carries out a shard of another one: what counts runs does not count it as well."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run: its request, its times and its state. ``request`` is JSON data without secrets.

    Attributes:
        role_scope: the scope that the role of its starter was limited to; "": it was not. Also a run that is resumed
            stays in it.
        site: the site of its process. The machines of other sites are not contacted.
        version: the version of fleetpatch in the process that executed it last; "": unknown.
        prefect_version: the version of Prefect there; "": unknown.
        refusal: why the run was not admitted; None: it was.
        notes_publication: whether its process notes in the journal that its end was published.
    """

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
    role_scope: str = ""
    site: str = DEFAULT_SITE
    version: str = ""
    prefect_version: str = ""
    refusal: WindowStatus | None = None
    notes_publication: bool = False

    @property
    def may_change_machines(self) -> bool:
        """Return whether the run can change machines. Such a run has a run lease, and recovery must find it."""
        return self.kind not in READ_ONLY_RUN_KINDS


@dataclass(frozen=True, slots=True)
class RunReport:
    """A complete run with all its results, for callers and reports."""

    run: RunInfo
    outcomes: tuple[Outcome, ...]
    waves: tuple[Wave, ...] = ()
    plans: tuple[MachinePlan, ...] = ()
    assessments: tuple[Assessment, ...] = ()
    hooks: tuple[HookResult, ...] = ()
    notes: tuple[str, ...] = ()  # sets and their turns, the approval, an overridden freeze, unmatched masks

    def count_machines(self, state: OperationState) -> int:
        """Return the number of machines in that state."""
        return sum(outcome.state is state for outcome in self.outcomes)
