"""Resume a run without Prefect, as soon as the lease of its dead process has expired."""

import logging
from collections.abc import Callable

from flows.engine.lease_renewer import LEASE_SECONDS
from flows.engine.resume_state import require_resumable
from flows.execution import execute
from flows.local_run import build_reporting_runner
from flows.ports.caller import Caller
from tasks.errors import LeaseHeld
from tasks.model import RunReport
from tasks.protocols.clock import Clock, SystemClock
from tasks.records.leases import SqlLeases
from tasks.records.queries.history import History
from tasks.records.setup import open_records

logger = logging.getLogger(__name__)


LEASE_POLL_SECONDS = 1.0  # how often a lease is read while something waits for it


LEASE_GRACE_SECONDS = 30.0  # a holder that is alive has renewed its lease by then, or has ended


def resume_run(run_id: str, *, finalize: bool = False, settle: bool = False, caller: Caller | None = None) -> RunReport:
    """Resume a run that no process executes, without Prefect. ``resume_fleet`` does the same as a flow.

    The lease of a dead process is valid for up to one more minute. The function waits until it has expired.

    Args:
        run_id: the run's id, or a unique prefix of it.
        finalize: finalize the run: begin nothing new, wait for jobs that run, record each machine's true state.
        settle: former name of ``finalize``.
        caller: the caller.

    Returns:
        The complete report. Failed machines raise no error.

    Raises:
        LeaseHeld: a live process executes the run.
        RequestError: the run is over, or it only assessed machines.
        RecordsError: the run does not exist, or the records are not usable.
    """
    caller = caller or Caller()
    with open_records(caller.records_url) as records:
        run = require_resumable(History(records).find_run(run_id))
        wait_for_lease_expiry(records.leases, run.id, print_message=caller.listener.on_message)
    if finalize or settle:
        caller.stop_token.request_stop("the run is only finalized")
    return execute(run.id, caller, build_reporting_runner)


def wait_for_lease_expiry(
    leases: SqlLeases,
    run_id: str,
    *,
    print_message: Callable[[str], None] = logger.info,
    wait_for_live_holder: bool = False,
    seconds: float = LEASE_SECONDS + LEASE_GRACE_SECONDS,
    clock: Clock | None = None,
) -> None:
    """Wait until no process has the run lease, as long as its holder may be dead.

    Args:
        leases: the store of leases.
        run_id: the id of the run.
        print_message: gets the reason for the wait.
        wait_for_live_holder: also wait for a holder that is alive, because it is about to end.
        seconds: the maximum time to wait.
        clock: the clock.

    Raises:
        LeaseHeld: the holder is alive: it has renewed its lease.
        RecordsError: the records can't be read.
    """
    clock = clock or SystemClock()
    began, first = clock.now(), leases.find_lease(run_id)
    lease = first
    while lease is not None and lease.is_held and lease.holder is not None and lease.until is not None:
        renewed = first is not None and (lease.holder, lease.until) != (first.holder, first.until)
        waited = (clock.now() - began).total_seconds()
        if (renewed and not wait_for_live_holder) or waited >= seconds:
            raise LeaseHeld(run_id, holder=lease.holder, until=lease.until)
        if lease is first:
            print_message(f"run {run_id} was last executed by {lease.holder}: waiting until its lease expires")
        clock.sleep(LEASE_POLL_SECONDS)
        lease = leases.find_lease(run_id)
