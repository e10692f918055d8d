"""What a run needs from outside: clock, records, machines, approval, hooks and notifications."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from inventory.machine import Inventory, Machine
from tasks.errors import FleetpatchError, RequestError
from tasks.model import Facts, Hook, HookResult, MachinePlan, PinnedUpdates, RunReport
from tasks.protocols.clock import Clock, Deadline
from tasks.protocols.leases import Leases
from tasks.protocols.package_manager import PackageManager
from tasks.protocols.records import Records
from tasks.protocols.transport import Transport
from tasks.rules.calendar.freezes import Freeze
from tasks.states import NotificationEvent
from tasks.steps.context.progress_listener import LoggingListener, ProgressListener
from tasks.steps.context.stop_token import StopToken

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether a planned run may go on.

    Attributes:
        refusal: why nothing may be begun; "" when the run may go on.
        plans: plans that were cut down to what was agreed to, by machine.
        notes: who agreed to what, for the report.
    """

    refusal: str = ""
    plans: Mapping[str, MachinePlan] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Gate = Callable[[RunReport, StopToken], GateDecision]
"""Lets a planned run go on, or not, and may take long about it: a person's approval. Ends soon when asked to stop."""

Notifier = Callable[[NotificationEvent, RunReport], None]
"""Tells people. Never raises, and never takes long."""

HookCaller = Callable[[Hook, RunReport, str, Deadline], HookResult]
"""Runs a hook that is no command on a machine: for the run as it stands, about a subject, until a deadline."""

FreezeSource = Callable[[], Sequence[Freeze]]
"""Returns the freezes that are declared by now, besides those of the request. Never raises, and never takes long."""

PinnedUpdatesFinder = Callable[[str], PinnedUpdates]
"""Returns what an earlier run has installed, by its id or ``last:CONFIGURATION``; raises RequestError when it can't."""


ReportErrorHandler = Callable[[str, FleetpatchError], None]
"""Takes why the report of a run could not be written."""


def log_report_error(run_id: str, error: FleetpatchError) -> None:
    """Log why the report of a run could not be written."""
    logger.error("the report of run %s could not be written: %s", run_id, error)


def _allow_run(planned: RunReport, stop_token: StopToken) -> GateDecision:  # noqa: ARG001 - the gate's parameters
    return GateDecision()


def _notify_nobody(occasion: NotificationEvent, report: RunReport) -> None:
    pass


def _refuse_pinned_updates(run: str) -> NoReturn:
    raise RequestError(f"what run {run!r} has installed can't be looked up here", hint="Leave as_in_run empty.")


def _refuse_hook(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> NoReturn:  # noqa: ARG001 - as above
    raise RequestError(f"hook {hook.name!r} of kind {hook.kind} can't be run here")


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a run needs from outside, the same for all its machines."""

    inventory: Inventory
    clock: Clock
    records: Records
    leases: Leases
    connect: Callable[[Machine], Transport]
    find_manager: Callable[[Facts], PackageManager]
    listener: ProgressListener = field(default_factory=LoggingListener)
    stop_token: StopToken = field(default_factory=StopToken)
    read_logs: Callable[[RunReport], Mapping[str, str]] = lambda report: {}  # noqa: ARG005 - no raw output is kept anywhere
    gate: Gate = _allow_run
    notify: Notifier = _notify_nobody
    call_hook: HookCaller = _refuse_hook
    handle_report_error: ReportErrorHandler = log_report_error
    find_pinned_updates: PinnedUpdatesFinder = _refuse_pinned_updates
    read_declared_freezes: FreezeSource = tuple
