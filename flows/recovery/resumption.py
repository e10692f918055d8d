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


LEASE_POLL_SECONDS = 1.0  # how often a lease is looked at while somebody waits for it


LEASE_GRACE_SECONDS = 30.0  # a holder that is alive has renewed by then, or is over


def resume_run(run_id: str, *, settle: bool = False, caller: Caller | None = None) -> RunReport:
    """Go on with a run that nobody carries any more, without Prefect; ``resume_fleet`` does so as a flow.

    A process that died holds its lease for up to a minute more: that long it is waited for.

    Args:
        run_id: the run's id, or a beginning of it that no other run has.
        settle: begin nothing new; see what runs to its end, and record each machine's true state.
        caller: on whose behalf.

    Returns:
        The whole report. That machines failed raises nothing.

    Raises:
        LeaseHeld: somebody carries it, and is alive.
        RequestError: it is over, or only looked at machines.
        RecordsError: there is no such run, or history can't be kept.
    """
    caller = caller or Caller()
    with open_records(caller.records_url) as records:
        run = require_resumable(History(records).find_run(run_id))
        wait_for_lease_expiry(records.leases, run.id, print_message=caller.listener.on_message)
    if settle:
        caller.stop_token.request_stop("the run is only settled")
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
    """Wait until nobody has a run's lease, as long as its holder may be dead.

    Args:
        leases: where it is kept.
        run_id: of the run.
        print_message: told why this takes a while.
        wait_for_live_holder: wait also for a holder that lives: it is about to end.
        seconds: how long to wait at most.
        clock: tells how long it has been.

    Raises:
        LeaseHeld: the holder is alive: it renewed its lease.
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
