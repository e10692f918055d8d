"""What a run needs from outside: clock, records, machines, approval, hooks, notifications, and who runs its steps."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flows.ports.audit import AuditAppender, append_nowhere
from flows.ports.shards import ShardRuns
from inventory.data_class import dataclass
from inventory.machine import Inventory, Machine
from tasks.domain.components import Component, ComponentOrder
from tasks.domain.errors import FleetpatchError, InternalError, RecordsError, RequestError
from tasks.domain.model import Facts, Hook, HookResult, MachinePlan, Outcome, PinnedUpdates, RunReport, Wave
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.leases import LeaseHolder, Leases, SetSlots
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.package_manager import PackageManager
from tasks.domain.protocols.records import Records
from tasks.domain.protocols.scheduled_events import ScheduledEvents
from tasks.domain.protocols.transport import Transport
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.states import NotificationOccasion, Step
from tasks.domain.undo import UndoOrder
from tasks.machines.transport.wake_on_lan import send_magic_packet
from tasks.rules.calendar.freezes import Freeze
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_control import ProgressListener, StopToken

if TYPE_CHECKING:
    from tasks.rules.automatic.progress import RolloutProgress
    from tasks.rules.policy.decision import DeployedPolicy


class RunProgress(Protocol):
    """Records the progress of a run. Its methods neither raise nor wait."""

    def record_run(self, run_id: str, holder: LeaseHolder | None) -> AbstractContextManager[None]:
        """Record what the listener gets inside the block as the progress of this run.

        Args:
            run_id: the id of the run.
            holder: this process, if it has the lease of the run.
        """
        ...

    def expect_machines(self, waves: Mapping[str, int | None]) -> None:
        """Receive all machines of the run in their order, with the number of their wave; None: no wave."""
        ...

    def note_waiting(self, names: Sequence[str], reason: str) -> None:
        """Receive why these machines do not begin yet."""
        ...


class UnrecordedProgress:
    """Records nothing."""

    def record_run(self, run_id: str, holder: LeaseHolder | None) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's
        """Do nothing."""
        return nullcontext()

    def expect_machines(self, waves: Mapping[str, int | None]) -> None:
        """Do nothing."""

    def note_waiting(self, names: Sequence[str], reason: str) -> None:
        """Do nothing."""


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The decision whether a planned run may begin.

    Attributes:
        refusal: why nothing may begin; "" if the run may begin.
        plans: plans that were reduced to the approved updates, by machine.
        notes: who approved what, for the report.
    """

    refusal: str = ""
    plans: Mapping[str, MachinePlan] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Gate = Callable[[RunReport, StopToken], GateDecision]
"""Decides whether a planned run may begin. It may wait long for a person's approval. It ends soon if the run must stop.
"""

Notifier = Callable[[NotificationOccasion, RunReport], None]
"""Sends notifications. Never raises, and never takes long."""

HookCaller = Callable[[Hook, RunReport, str, Deadline], HookResult]
"""Runs a hook that is not a command on a machine. Arguments: the hook, the report so far, the subject, the deadline."""

FreezeSource = Callable[[], Sequence[Freeze]]
"""Returns the freezes that are declared now, in addition to the request's. Never raises, and never takes long."""

PinnedUpdatesFinder = Callable[[str], PinnedUpdates]
"""Returns the updates of an earlier run by its id or ``last:CONFIGURATION``. Raises RequestError if it can't."""


MagicPacketSender = Callable[[str, str, int], None]
"""Powers a machine on over the network: hardware address, IPv4 address, port. Raises RequestError or TransportError."""

ComponentOrderFinder = Callable[[str, str], ComponentOrder]
"""Returns the component of a name, and what is known of it; and a version that a person orders, or "".

Raises RequestError if there is no such component or version.
"""


WithdrawalFinder = Callable[[str, str], str]
"""Reads the file of a component again. Returns why a version goes to no further machine: "was withdrawn: …"; or ""."""


def _refuse_component(name: str, _version: str) -> ComponentOrder:
    raise RequestError(f"the component {name!r} can't be upgraded here: this process has no file of components")


UndoOrderFinder = Callable[[str], UndoOrder]
"""Returns what a run has changed, by its id. Raises RequestError if there is no such run, or nothing to take back."""


def _refuse_undo(run_id: str) -> UndoOrder:
    raise RequestError(f"run {run_id} can't be taken back here: this process has no records of it")


ReportErrorHandler = Callable[[str, FleetpatchError], None]
"""Gets the run id and the error if a report could not be written."""


def _log_report_error(run_id: str, error: FleetpatchError) -> None:
    """Log why the report of a run could not be written."""
    logger.error("the report of run %s could not be written: %s", run_id, error)


ReportWriter = Callable[[RunReport, Path, Sequence[str], datetime], dict[str, Path]]
"""Writes the files of a report that was saved, by another process. Raises ReportError if it can't."""

RolloutReader = Callable[[RunReport], "RolloutProgress | None"]
"""Returns how far the rollout is that a run belongs to; None: it belongs to none. It never raises."""


_MAX_REPORTED_HERE = 200
"""Up to so many machines, the process of a run writes its report itself."""

DEFAULT_SHARD_SIZE = 500
"""How many machines one process carries out at most."""

FlowRunFinder = Callable[[str], Sequence[str]]
"""Returns the ids of all flow runs that have begun or resumed a run, by its id. Raises RecordsError."""

DeployedPoliciesReader = Callable[[], "Sequence[DeployedPolicy]"]
"""Returns the policies of which one must hold here, the newest first. Raises RecordsError."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a run needs from outside. It is the same for all machines of the run."""

    inventory: Inventory
    clock: Clock
    records: Records
    leases: Leases
    connect: Callable[[Machine], Transport]
    find_manager: Callable[[Facts], PackageManager]
    listener: ProgressListener
    stop_token: StopToken
    read_logs: Callable[[RunReport], Mapping[str, str]]
    notify: Notifier
    call_hook: HookCaller
    find_pinned_updates: PinnedUpdatesFinder
    read_declared_freezes: FreezeSource
    set_slots: SetSlots
    gate: Gate = lambda _planned, _stop_token: GateDecision()
    handle_report_error: ReportErrorHandler = _log_report_error
    send_magic_packet: MagicPacketSender = send_magic_packet
    is_port_open: Callable[[Machine], bool | None] = lambda _machine: None
    read_rollout: RolloutReader = lambda _report: None
    wait_for_messages: Callable[[], object] = lambda: None  # until each was sent, or could not be
    append_audit: AuditAppender = append_nowhere
    read_deployed_policies: DeployedPoliciesReader = tuple
    read_overridden_freezes: FreezeSource = tuple
    progress: RunProgress = field(default_factory=UnrecordedProgress)
    open_shard_runs: Callable[[], ShardRuns] | None = None  # None: this process can't start runs at other sites
    shard_size: int = DEFAULT_SHARD_SIZE
    events: ScheduledEvents | None = None  # None: this process can't announce anything
    write_report_apart: ReportWriter | None = None  # None: this process writes each report itself
    list_components: Callable[[Machine], Sequence[Component]] = lambda _machine: ()
    find_component_order: ComponentOrderFinder = _refuse_component
    find_withdrawal: WithdrawalFinder = lambda _name, _version: ""
    open_provider: Callable[[Machine], MachineProvider | None] = lambda _machine: None
    save_snapshot: Callable[[SnapshotRow], None] = lambda _row: None
    find_undo_order: UndoOrderFinder = _refuse_undo
    find_flow_runs: FlowRunFinder = lambda _run_id: ()

    def write_report_files(self, report: RunReport, directory: Path | None, formats: Sequence[str]) -> dict[str, Path]:
        """Write the files of a report, and return their paths. If that fails, the error is reported.

        If the records can't be read, the report is written without the jobs' raw output. Another process writes that of
        many machines.
        """
        if directory is None:
            return {}
        generation = self.stop_token.lease_taken_at or report.run.started_at
        if self.write_report_apart is not None and len(report.outcomes) > _MAX_REPORTED_HERE:
            try:
                return self.write_report_apart(report, directory, formats, generation)
            except FleetpatchError as error:
                logger.warning("the report of run %s is written by the process of the run: %s", report.run.id, error)
        from tasks.reports.writer import write_report  # noqa: PLC0415 - it loads what a plan can do without

        logs: Mapping[str, str] = {}
        try:
            logs = self.read_logs(report)
        except RecordsError as error:
            logger.error("the report of run %s is without raw output: %s", report.run.id, error)  # noqa: TRY400 - no fault of ours
        try:
            return write_report(
                report,
                directory,
                logs,
                formats,
                rollout=self.read_rollout(report),
                generation=generation,
                is_current=lambda: self.stop_token.confirm_lease() or not self.stop_token.is_lease_lost,
            )
        except FleetpatchError as error:
            self.handle_report_error(report.run.id, error)
        except Exception as error:
            logger.exception("the report of run %s could not be made", report.run.id)
            self.handle_report_error(report.run.id, InternalError(f"{type(error).__name__}: {error}"))
        return {}


class Runner(Protocol):
    """How steps are executed, as plain calls or as Prefect's tasks, and how a run is shown.

    Attributes:
        report_directory: the directory of all report files; None: the run writes none.
        report_formats: the formats of its files.
    """

    report_directory: Path | None
    report_formats: Sequence[str]

    def execute_steps(self, context: MachineContext, *, last: Step = Step.REPORT) -> MachineState:
        """Execute the steps that a machine still needs, as ``run_steps`` does. ``last`` is the last; REPORT: all."""
        ...

    def show_plan(self, planned: RunReport) -> None:
        """Show the plan before anything begins. Return at once, and never raise."""
        ...

    def show_wave_begin(self, wave: Wave) -> None:
        """Show that a wave begins. Return at once, and never raise."""
        ...

    def show_wave_end(self, outcomes: Sequence[Outcome]) -> None:
        """Show how a wave has ended; without outcomes it broke off. Return at once, and never raise."""
        ...

    def show_end(self, report: RunReport, files: Mapping[str, Path]) -> str:
        """Show how a run ended, with the paths of its files. Return what could not be shown, as a sentence; or "".

        Only ``publish_end`` calls it.
        """
        ...
