"""Asks runs to stop, and records such requests for the process that resumes a run. Nothing is killed."""

import logging

from flows.engine.interruption import record_suspension
from flows.engine.resume_state import require_resumable
from flows.ports.caller import Caller, find_starter_name
from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.leases import LeaseStatus, StopRequest
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A run that was asked to stop."""

    run: RunInfo
    stop_request: StopRequest  # the valid stop request: the first one
    lease: LeaseStatus | None  # the run lease, if it is known

    @property
    def has_active_holder(self) -> bool:
        """Whether a live process executes the run and so reads the request."""
        return self.lease is not None and self.lease.is_held


def require_cancellable(run: RunInfo) -> RunInfo:
    """Return the run if it can be asked to stop. Raise RequestError if it can't, with the reason."""
    if not run.may_change_machines:
        raise RequestError(
            f"run {run.id} only looks at machines", hint="It changes nothing; end its process if it is in the way."
        )
    require_resumable(run)
    if run.state is OperationState.UNKNOWN:
        raise RequestError(
            f"run {run.id} is abandoned: no process executes it",
            hint=f"`fleetpatch resume {run.id} --finalize` records what became of each machine.",
        )
    return run


def cancel_run(run_id: str, reason: str = "cancelled", caller: Caller | None = None) -> CancelRequest:
    """Ask a run to begin nothing more. Its process reads the request within seconds. Nothing is killed.

    If no process executes the run (``has_active_holder`` is false), the request is valid for the next process that
    resumes it. ``resume_run(run_id, finalize=True)`` does so at once.

    ``run_id``: the run's id, or a unique prefix of it.
    ``reason``: why, as text for the report.

    Raises:
        RequestError: the run is over, or it only reads machines.
        RecordsError: the run does not exist, or the records can't be written.
    """
    caller = caller or Caller()
    with open_records(caller.records_url) as records:
        run = require_cancellable(History(records).find_run(run_id))
        asked = records.leases.request_stop(run.id, find_starter_name(caller), reason)
        return CancelRequest(run, asked, records.leases.find_lease(run.id))


def record_stop_request(run_id: str, caller: Caller, reason: str) -> None:
    """Record a stop request, for the process that finalizes the run if this process is killed.

    Raises nothing. The run itself already has the request, and a run that has not begun needs none.
    """
    try:
        with open_records(caller.records_url) as records:
            records.leases.request_stop(run_id, find_starter_name(caller), reason)
    except FleetpatchError as error:
        logger.info("the stop request of run %s is not in the records: %s", run_id, error.message)


def record_suspend_request(run_id: str, caller: Caller, flow_run_id: str, reason: str) -> None:
    """Record that a run was asked to suspend, in case this process is killed.

    Raises nothing. The run itself already has the request, and records it again when it has stopped.
    """
    try:
        with open_records(caller.records_url) as records:
            record_suspension(records, run_id, JournalMark.BEFORE, SystemClock().now(), reason, flow_run_id)
    except FleetpatchError as error:
        logger.info("the suspension of run %s is not in the records: %s", run_id, error.message)
