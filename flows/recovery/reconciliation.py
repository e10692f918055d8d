"""Resume a run whose process died. Recover all of them: resume them while their window is open, or finalize them."""

import contextvars
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from flows.engine.resume_state import require_resumable
from flows.execution import RunnerFactory, execute_run
from flows.local_run import build_reporting_runner
from flows.ports.caller import Caller
from flows.recovery.cancellation import record_stop_request
from flows.recovery.unfinished_runs import AbandonedRun, find_abandoned_run, find_abandoned_runs, wait_for_lease_expiry
from inventory.data_class import dataclass
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.model import RunReport
from tasks.domain.run_errors import LeaseHeld
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.steps.context.run_control import StopToken

logger = logging.getLogger(__name__)

STOP_POLL_SECONDS = 0.2  # how soon runs that are recovered at the same time see a stop request


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """The result of the recovery of one run: its report, or the error."""

    abandoned_run: AbandonedRun
    report: RunReport | None = None
    error: FleetpatchError | None = None


def reconcile_runs(
    caller: Caller | None = None, recover: Callable[[AbandonedRun, Caller], RunReport] | None = None
) -> tuple[ReconcileResult, ...]:
    """Recover every abandoned run: resume it while its window is open, finalize it otherwise.

    A suspended run is not changed until its window is over.

    All runs are recovered at the same time: no run waits for another, and an error of one run does not affect the
    others. A run that another process recovers in the meantime is left to that process. The function returns when all
    have ended.

    Args:
        caller: the caller. If its ``stop_token`` is stopped, every run is stopped.
        recover: recovers one run; without Prefect by default.

    Raises:
        RecordsError: the records can't be read.
    """
    caller, recover = caller or Caller(), recover or recover_run
    return recover_runs(find_abandoned_runs(caller.records_url), caller, recover)


def recover_runs(
    abandoned_runs: Sequence[AbandonedRun], caller: Caller, recover: Callable[[AbandonedRun, Caller], RunReport]
) -> tuple[ReconcileResult, ...]:
    """Recover abandoned runs at the same time, each in its own thread: see ``reconcile_runs``."""
    # A stop request is for one run, not for all.
    recoveries = [(left, replace(caller, stop_token=StopToken())) for left in abandoned_runs if not left.wait_reason]
    if not recoveries:
        return ()

    def recover_one(abandoned_run: AbandonedRun, run_caller: Caller) -> ReconcileResult:
        try:
            return ReconcileResult(abandoned_run, report=recover(abandoned_run, run_caller))
        except FleetpatchError as error:
            logger.warning("run %s could not be recovered: %s", abandoned_run.run.id, error)
            return ReconcileResult(abandoned_run, error=error)

    def stop_all_runs(reason: str) -> None:
        for abandoned_run, run_caller in recoveries:
            if not run_caller.stop_token.is_stopping:
                run_caller.stop_token.request_stop(reason)
                record_stop_request(abandoned_run.run.id, run_caller, reason)

    with ThreadPoolExecutor(len(recoveries), thread_name_prefix="run") as pool:
        futures = [pool.submit(contextvars.copy_context().run, recover_one, left, mine) for left, mine in recoveries]
        try:
            while wait(futures, timeout=STOP_POLL_SECONDS).not_done:
                if caller.stop_token.is_stopping:
                    stop_all_runs(caller.stop_token.reason)
        except BaseException as error:  # the exit of the pool waits for the runs; they begin nothing new
            stop_all_runs(f"the process that recovered it was interrupted: {type(error).__name__}")
            raise
    return tuple(future.result() for future in futures)


def recover_run(
    abandoned_run: AbandonedRun, caller: Caller, build_runner: RunnerFactory | None = None, *, flow_run_id: str = ""
) -> RunReport:
    """Recover one abandoned run. See ``reconcile_runs`` for how, and ``execute_run`` for the errors."""
    abandoned_run.signal_stop(caller.stop_token)
    return execute_run(abandoned_run.run.id, caller, build_runner or build_reporting_runner, flow_run_id=flow_run_id)


def recover_if_abandoned(
    run_id: str, caller: Caller, recover: Callable[[AbandonedRun, Caller], RunReport], *, flow_run_id: str = ""
) -> RunReport | str:
    """Recover a run if it is still abandoned. Read its state again first: its window may be over.

    A suspended run is not changed, unless this flow run was suspended and a person has resumed it.

    Returns:
        The report; or, as text, why nothing was done: another process has resumed the run, or it is over.

    Raises:
        FleetpatchError: the run is abandoned, and could not be recovered.
    """
    abandoned_run = find_abandoned_run(run_id, caller.records_url)
    if isinstance(abandoned_run, str):
        return abandoned_run
    if abandoned_run.wait_reason and abandoned_run.suspension is not None:
        if not flow_run_id or abandoned_run.suspension.flow_run_id != flow_run_id:
            return f"run {abandoned_run.run.id} is {abandoned_run.wait_reason}"
        abandoned_run = replace(abandoned_run, suspension=None)
    try:
        return recover(abandoned_run, caller)
    except LeaseHeld as held:
        return held.message
    except RequestError:  # another process may have ended the run since the check
        now = find_abandoned_run(run_id, caller.records_url)
        if isinstance(now, str):
            return now
        raise


def resume_run(run_id: str, *, finalize: bool = False, caller: Caller | None = None) -> RunReport:
    """Resume a run that no process executes, without Prefect. ``resume_fleet`` does the same as a flow.

    The lease of a dead process is valid for up to one more minute. The function waits until it has expired.

    ``run_id``: the run's id, or a unique prefix of it.
    ``finalize``: finalize the run: begin nothing new, wait for jobs that run, record each machine's true state. If its
    record was changed, or the key of its seal is missing here, it ends without a look at any machine.

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
    if finalize:
        caller.stop_token.request_stop("the run is only finalized")
        record_stop_request(run.id, caller, caller.stop_token.reason)
        caller = replace(caller, ends_without_key=True)
    return execute_run(run.id, caller, build_reporting_runner)
