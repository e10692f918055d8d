"""The tables of a report: one class for each table, one field for each column.

A field's type is the column's type in pandas frames, CSV and Parquet. ``X | None`` means that the value may be missing.
Datetimes are in UTC, durations in seconds. Text from machines is unchanged.
"""

from datetime import datetime

from inventory.data_class import dataclass
from tasks.domain.states import SUCCESSFUL_UPDATE_STATES


@dataclass(frozen=True, slots=True)
class MachinePart:
    """The first columns of a row of one machine."""

    run_id: str
    machine: str


@dataclass(frozen=True, slots=True)
class RunReportRow:
    """The run: one row."""

    run_id: str
    kind: str
    state: str
    message: str
    scope: str
    started_by: str
    flow_run_id: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    window_start: datetime | None
    window_end: datetime | None
    window_zone: str
    machines: int
    machines_succeeded: int
    machines_warnings: int
    machines_failed: int
    machines_in_progress: int
    machines_not_started: int
    machines_unknown: int
    updates: int
    installed: int
    repaired: int
    failed: int
    setup_failed: int
    pending: int
    blocked: int
    excluded: int
    not_selected: int
    not_attempted: int
    urgent_pending: int  # critical and security updates that are not installed at the end of the run, over all machines
    reboots_completed: int
    reboots_failed: int
    reboots_required: int
    request: str  # the run's request, as JSON text
    notes: str


@dataclass(frozen=True, slots=True)
class MachineReportRow(MachinePart):
    """One machine: its outcome, or its plan.

    Attributes:
        planned: number of updates that the plan chose; None if the run has no plan.
        urgent_pending: critical and security updates that are not installed.
        kept_conffiles: configuration files that were edited by hand and therefore kept, one on each line.
        worked_seconds: the time of the machine's steps. ``seconds`` is the time from its first step to its end,
            including the wait for earlier waves.
        predicted_least_seconds: the prediction without a reboot, if it is not known whether a reboot is necessary.
            Otherwise equal to ``predicted_seconds``.
        reboot_seconds: from the reboot command to the first login that works.
        reboot_expected: "yes", "no", "unknown"; "" if there is no plan.
        reboot_expected_reason: why, as far as the planned updates say it, or "".
        reboot_mitigated_by: the live patches that mitigate a required reboot; "" without them.
        live_patches: provider, state and names of the machine's live patches; "" without them.
        services_to_restart: services that still run replaced files, separated by commas.
        kernel: the kernel's release, or the build of Windows, at the end.
        kernel_before: that at the assessment; "" if unknown.
    """

    wave: int | None
    canary: bool
    state: str
    reason: str
    compliance: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    worked_seconds: float | None
    updates: int
    planned: int | None
    installed: int
    repaired: int
    failed: int
    setup_failed: int
    pending: int
    blocked: int
    excluded: int
    not_selected: int
    not_attempted: int
    urgent_pending: int
    reboot: str
    reboot_reason: str
    reboot_seconds: float | None
    reboot_expected: str
    reboot_expected_reason: str
    reboot_mitigated_by: str
    live_patches: str
    services_to_restart: str
    window_exceeded: bool
    window_exceeded_seconds: float
    predicted_seconds: float | None
    predicted_least_seconds: float | None
    prediction_basis: str
    findings_block: int
    findings_warn: int
    findings_remark: int
    kept_conffiles: str
    os_name: str
    os_version: str
    kernel: str
    arch: str
    package_manager: str
    error_kind: str
    error_message: str
    error_hint: str
    error_transient: bool | None
    kernel_before: str = ""

    @property
    def not_done(self) -> int:
        """Number of updates that are Blocked, and of those NotAttempted or Pending that the plan chose."""
        waiting = self.not_attempted + self.pending
        return self.blocked + (waiting if self.planned is None else min(waiting, self.planned))


@dataclass(frozen=True, slots=True)
class UpdateReportRow(MachinePart):
    """One update on one machine.

    Attributes:
        planned: whether a plan chose it, and the plan was not executed.
        cves: ids, separated by spaces; None if the machine does not report CVEs.
        origins: separated by "; ".
        advisories: ids of the publisher's notices, separated by spaces.
        title: the publisher's title, if the name is not one.
    """

    update_id: str
    name: str
    arch: str
    version_before: str | None
    version_available: str
    version_after: str | None
    classification: str
    severity: str
    state: str
    reason: str
    planned: bool
    kb: str
    cves: str | None
    origins: str
    size_bytes: int | None
    group: str
    held: bool
    blocked: str
    requires_reboot: bool | None
    published: datetime | None
    advisories: str = ""
    title: str = ""

    @property
    def shown_state(self) -> str:
        """The state as pages show it: "Chosen" if the update is planned."""
        return "Chosen" if self.planned else self.state

    @property
    def shown_version(self) -> str:
        """The version that the machine has since, or would get."""
        return (self.version_after if self.state in SUCCESSFUL_UPDATE_STATES else None) or self.version_available


@dataclass(frozen=True, slots=True)
class TransactionRow(MachinePart):
    """One package transaction. ``updates`` are ids, separated by spaces; ``undo`` says how to undo it."""

    number: int
    update_count: int
    updates: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    exit_code: int | None
    detail: str
    undo: str = ""


@dataclass(frozen=True, slots=True)
class FindingRow(MachinePart):
    """One finding of a pre-check or of the validation."""

    check: str
    level: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class WaveRow:
    """One wave: counts of its machines by state, the first start and the last end."""

    run_id: str
    wave: int
    canary: bool
    machines: int
    succeeded: int
    warnings: int
    failed: int
    not_started: int
    started_at: datetime | None
    ended_at: datetime | None
    predicted_seconds: float | None


@dataclass(frozen=True, slots=True)
class StepRow(MachinePart):
    """One step on one machine, for the timeline."""

    wave: int | None
    step: str
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    message: str


@dataclass(frozen=True, slots=True)
class HookRow:
    """One execution of a hook. ``subject`` is a machine, "wave 2" or "run"."""

    run_id: str
    hook: str
    place: str
    subject: str
    kind: str
    mode: str
    succeeded: bool
    message: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    target: str


Row = RunReportRow | MachineReportRow | UpdateReportRow | TransactionRow | FindingRow | WaveRow | StepRow | HookRow


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of one report as plain rows, without pandas."""

    runs: tuple[RunReportRow, ...]
    machines: tuple[MachineReportRow, ...]
    updates: tuple[UpdateReportRow, ...]
    transactions: tuple[TransactionRow, ...]
    findings: tuple[FindingRow, ...]
    waves: tuple[WaveRow, ...]
    timeline: tuple[StepRow, ...]
    hooks: tuple[HookRow, ...]


ROW_TYPES: dict[str, type[Row]] = {
    "runs": RunReportRow,
    "machines": MachineReportRow,
    "updates": UpdateReportRow,
    "transactions": TransactionRow,
    "findings": FindingRow,
    "waves": WaveRow,
    "timeline": StepRow,
    "hooks": HookRow,
}
"""The row type of each table, in the order of writing."""
