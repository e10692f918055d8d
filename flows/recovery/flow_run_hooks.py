"""Hooks of the flows that patch: after a flow run was cancelled or has crashed, another one goes on with its run.

Prefect calls a hook in the process of the flow, or in its worker after that process was killed, and passes the
arguments by the names ``flow``, ``flow_run`` and ``state``. A hook patches nothing: it starts `resume-fleet`, which has
a log, a heartbeat and limits, and which Prefect can cancel. It raises nothing: reconcile-fleet finds what it missed.

Whoever may use Prefect chooses the parameters of a flow run. So a hook only touches a run that its flow run has begun
or resumed.
"""

import logging
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.logging.loggers import flow_run_logger

from flows.engine.interruption import find_suspension
from flows.ports.audit import build_entry
from flows.ports.caller import Actor
from flows.prefect_api.api_client import NO_ANSWER_ERRORS
from flows.prefect_api.tags import use_tagged_fleet
from flows.prefect_runtime.end_states import build_final_state
from flows.prefect_runtime.flow_run_states import correct_flow_run_state
from flows.recovery.flow_runs import find_resume_deployment, find_run_of, start_resume_flow_run
from flows.recovery.unfinished_runs import describe_left_run, find_run_of_flow_run
from tasks.domain.errors import FleetpatchError, RecordsError, RequestError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.rows.audit import AuditResult
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.audit.log import SqlAuditLog
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords

logger = logging.getLogger(__name__)

CANCEL_REASON = "cancelled in Prefect"


def resume_after_cancellation(flow: Any, flow_run: FlowRun, state: Any) -> None:  # noqa: ARG001, ANN401 - Prefect's names
    """Store the stop request of a cancelled flow run at once, and start the flow run that finalizes its run.

    The audit log gets that somebody cancelled it: Prefect does not know who it was.
    """
    _go_on(flow_run, is_cancelled=True)


def resume_after_crash(flow: Any, flow_run: FlowRun, state: Any) -> None:  # noqa: ARG001, ANN401 - Prefect's names
    """Start the flow run that resumes the run of a flow run that began it, and whose process ended without a result."""
    _go_on(flow_run, is_cancelled=False)


def _go_on(flow_run: FlowRun, *, is_cancelled: bool) -> None:
    tell = flow_run_logger(flow_run)
    try:
        with use_tagged_fleet(flow_run.tags), open_records() as records:
            run = find_run_of(records, flow_run)
            if is_cancelled:
                _record_cancellation(records, flow_run, run)
            if run is None:
                message = _describe_unbegun_run(records, flow_run, is_cancelled=is_cancelled)
            elif run.state in UNFINISHED_RUN_STATES and not is_cancelled and str(flow_run.id) != run.flow_run_id:
                # what kills it could kill each next one at once, without end
                message = f"run {run.id} was resumed here: reconcile-fleet goes on with it, within five minutes"
            elif run.state in UNFINISHED_RUN_STATES:
                message = _start_resume(records, run)
            else:
                message = _correct_end(records, run, flow_run, is_cancelled=is_cancelled)
        tell.info("%s", message)
    except (FleetpatchError, PrefectException, *NO_ANSWER_ERRORS) as error:
        tell.warning("no flow run goes on with the run of this one yet, reconcile-fleet will find it: %s", error)
    except Exception:  # noqa: BLE001 - its caller is Prefect, and the run is safe
        tell.exception("no flow run goes on with the run of this one yet, reconcile-fleet will find it")


def _record_cancellation(records: SqlRecords, flow_run: FlowRun, run: RunInfo | None) -> None:
    """Store the stop request of a run, and the entry of the audit log."""
    subject = f"flow run {flow_run.id}"
    entry = build_entry(Actor("", "prefect"), SystemClock(), "cancel", subject, flow_run.name, AuditResult.DONE)
    try:
        if run is not None and run.may_change_machines:
            records.leases.request_stop(run.id, "Prefect", CANCEL_REASON)
    except RequestError as error:  # the run is over, or it was abandoned before
        logger.info("%s", error.message)
    try:
        SqlAuditLog(records.database).append(entry)
    except RecordsError as error:
        logger.warning("the records lack that %s was cancelled: %s", subject, error)


def _describe_unbegun_run(records: SqlRecords, flow_run: FlowRun, *, is_cancelled: bool) -> str:
    """Return what becomes of the run that a flow run names and never had. It stops none: anybody can name any run."""
    run_name = str((flow_run.parameters or {}).get("run_id") or "")
    run = find_run_of_flow_run(records, run_name, "") if run_name else None
    if run is None or run.state not in UNFINISHED_RUN_STATES:
        return "this flow run had begun no run: nothing is left to do"
    if is_cancelled:
        return f"this flow run did not have run {run.id} yet, which is not stopped: fleetpatch cancel {run.id}"
    return f"this flow run did not have run {run.id} yet: reconcile-fleet goes on with it, within five minutes"


def _start_resume(records: SqlRecords, run: RunInfo) -> str:
    """Start a flow run that goes on with a run, unless one is on its way. Return what was done.

    The lease of the dead process may be valid for a minute: the flow run waits for its end.

    Raises:
        RecordsError: the records can't be read.
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    if not run.may_change_machines:
        return f"run {run.id} only looks at machines: nothing goes on with it"
    now, suspension = SystemClock().now(), find_suspension(History(records).read_journal(run.id))
    left = describe_left_run(run, records.leases.find_lease(run.id), suspension, now)
    if left.wait_reason:
        return f"run {run.id} is {left.wait_reason}"
    with get_client(sync_client=True) as client:  # it repeats what a busy server refuses, for a minute at most
        resume = find_resume_deployment(client, run.site)
        if resume is None:
            return f"run {run.id} was left, and there is no deployment that resumes it: fleetpatch resume {run.id}"
        started = start_resume_flow_run(client, resume, left, now)
    if run.state not in UNFINISHED_RUN_STATES:
        return f"run {run.id} is over: {run.state}; the flow run {started.name!r} lets Prefect show this end"
    return f"run {run.id} goes on in the flow run {started.name!r}; it would be {left.planned_action} now"


def _correct_end(records: SqlRecords, run: RunInfo, flow_run: FlowRun, *, is_cancelled: bool) -> str:
    """Let Prefect show the end of a run that is over. Return what was done.

    A worker shows that a flow run is Cancelled after this hook only, so another flow run corrects that.
    """
    if is_cancelled and not build_final_state(run).is_cancelled():
        return _start_resume(records, run)
    lease = records.leases.find_lease(run.id)
    if not is_cancelled and (lease is None or not lease.is_held):
        correct_flow_run_state(str(flow_run.id), run)
    return f"run {run.id} is over: {run.state}"
