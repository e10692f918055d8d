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

Notifier = Callable[[NotificationEvent, RunReport], None]
"""Sends notifications. Never raises, and never takes long."""

HookCaller = Callable[[Hook, RunReport, str, Deadline], HookResult]
"""Runs a hook that is not a command on a machine. Arguments: the hook, the report so far, the subject, the deadline."""

FreezeSource = Callable[[], Sequence[Freeze]]
"""Returns the freezes that are declared now, in addition to the request's. Never raises, and never takes long."""

PinnedUpdatesFinder = Callable[[str], PinnedUpdates]
"""Returns the updates of an earlier run by its id or ``last:CONFIGURATION``. Raises RequestError if it can't."""


ReportErrorHandler = Callable[[str, FleetpatchError], None]
"""Gets the run id and the error if a report could not be written."""


def log_report_error(run_id: str, error: FleetpatchError) -> None:
    """Log why the report of a run could not be written."""
    logger.error("the report of run %s could not be written: %s", run_id, error)


def _allow_run(planned: RunReport, stop_token: StopToken) -> GateDecision:  # noqa: ARG001 - the gate's parameters
    return GateDecision()


def _ignore_event(occasion: NotificationEvent, report: RunReport) -> None:
    pass


def _refuse_pinned_updates(run: str) -> NoReturn:
    raise RequestError(f"what run {run!r} has installed can't be looked up here", hint="Leave as_in_run empty.")


def _refuse_hook(hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> NoReturn:  # noqa: ARG001 - as above
    raise RequestError(f"hook {hook.name!r} of kind {hook.kind} can't be run here")


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a run needs from outside. It is the same for all machines of the run."""

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
    notify: Notifier = _ignore_event
    call_hook: HookCaller = _refuse_hook
    handle_report_error: ReportErrorHandler = log_report_error
    find_pinned_updates: PinnedUpdatesFinder = _refuse_pinned_updates
    read_declared_freezes: FreezeSource = tuple
