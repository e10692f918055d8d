"""Finish the records of a run whose process was killed: ``python -P -m flows.recovery.finalizer RUN``.

RUN is the id of the run, or of its flow run.

Prefect waits half a minute after it cancels a flow, and then kills its process. A package transaction may take longer,
and it is never killed. The flow's hooks start this program as a separate process. It waits until the run lease has
ended, and recovers the run. A run that was asked to stop is finalized: nothing more begins. A run whose process died
without a stop request is resumed while its window is open.
"""

import argparse
import logging
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from flows.ports.audit import build_entry
from flows.ports.caller import Actor, Caller
from flows.prefect_api.tags import use_tagged_fleet
from flows.recovery.reconciliation import recover_run
from flows.recovery.unfinished_runs import find_abandoned_run, find_run_of_flow_run, wait_for_lease_expiry
from inventory.files.paths import ensure_private_directory
from tasks.domain.errors import FleetpatchError, RecordsError, RequestError
from tasks.domain.model import RunInfo
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.rows.audit import AuditResult
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

logger = logging.getLogger(__name__)

LEASE_WAIT_SECONDS = 600.0
"""How long to wait for a process that is about to end: its grace time, its last lease, and a busy database."""
PREFECT_WAIT_SECONDS = 90.0
"""How long to wait until Prefect shows that a flow run is over. Its runner reports it after the process has ended."""
CANCEL_REASON = "cancelled in Prefect"


def start_finalizer_after_cancellation(flow: Any, flow_run: "FlowRun", state: Any) -> None:  # noqa: ARG001, ANN401 - Prefect's names
    """Start the finalizer after a flow run was cancelled. A Prefect hook, in the flow's process or in its runner.

    The audit log gets that somebody cancelled it: Prefect does not know who it was. The stop request is stored at once:
    the finalizer needs seconds to start, and until then another process could resume the run.
    """
    actor, subject, run_name = Actor("", "prefect"), f"flow run {flow_run.id}", _find_run_name(flow_run)
    entry = build_entry(actor, SystemClock(), "cancel", subject, flow_run.name, AuditResult.DONE)
    with use_tagged_fleet(flow_run.tags):
        try:
            with open_records() as records:
                run = find_run_of_flow_run(records, run_name, str(flow_run.id))
                if run is not None and run.may_change_machines:
                    _store_stop_request(records, run, CANCEL_REASON)
                SqlAuditLog(records.database).append(entry)
        except RecordsError as error:
            logger.warning("the records lack that %s was cancelled: %s", subject, error)
        start_finalizer(run_name, stop=CANCEL_REASON, flow_run_id=str(flow_run.id))


def start_finalizer_after_crash(flow: Any, flow_run: "FlowRun", state: Any) -> None:  # noqa: ARG001, ANN401 - Prefect's names
    """Start the finalizer after a flow run's process ended without a result. A Prefect hook."""
    with use_tagged_fleet(flow_run.tags):
        start_finalizer(_find_run_name(flow_run), flow_run_id=str(flow_run.id))


def start_finalizer(run_name: str, *, stop: str = "", flow_run_id: str = "") -> Path:
    """Start this program as a separate process that outlives its parent. It has the environment of its parent.

    Args:
        run_name: the id of the run, or of its flow run.
        stop: why the run may begin nothing more; "" if there is no stop request.
        flow_run_id: the flow run whose process was killed.

    Returns:
        The path of its log.
    """
    log_folder = platformdirs.user_data_path("fleetpatch") / "logs"
    ensure_private_directory(log_folder)
    log = log_folder / f"finalize-{re.sub(r'[^A-Za-z0-9._-]', '_', run_name)[:100]}.log"
    command = [sys.executable, "-P", "-m", "flows.recovery.finalizer", *(["--stop", stop] if stop else [])]
    command += [*(["--flow-run", flow_run_id] if flow_run_id else []), "--", run_name]
    with log.open("ab") as out:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    logger.info("another process finishes run %s; its log: %s", run_name, log)
    return log


def finalize_run(run_name: str, *, stop: str = "", flow_run_id: str = "", caller: Caller | None = None) -> str:
    """Wait until no process executes a run, and recover it.

    Args:
        run_name: the id of the run, or of its flow run.
        stop: why the run may begin nothing more; "" if there is no stop request.
        flow_run_id: the flow run whose process was ended. It says nothing about a run that it has never begun.
        caller: the caller.

    Returns:
        A sentence that says what was done.

    Raises:
        FleetpatchError: the run could not be recovered.
    """
    caller = caller or Caller()
    with open_records(caller.records_url) as records:
        run = find_run_of_flow_run(records, run_name, flow_run_id)
        if run is None:
            return f"the records have no run {run_name} of this flow run: nothing was begun"
        if not run.may_change_machines or run.state not in UNFINISHED_RUN_STATES:
            return f"nothing to do for run {run.id}: {run.state}"
        if stop:
            _store_stop_request(records, run, stop, caller.name)
        try:
            wait_for_lease_expiry(records.leases, run.id, wait_for_live_holder=True, seconds=LEASE_WAIT_SECONDS)
        except LeaseHeld as held:
            return f"another process has the run: {held.message}"
    abandoned_run = find_abandoned_run(run.id, caller.records_url)
    if isinstance(abandoned_run, str):
        return abandoned_run
    abandoned_run = replace(abandoned_run, finalize_reason=stop or abandoned_run.finalize_reason)
    if abandoned_run.wait_reason:
        return f"run {run.id} is {abandoned_run.planned_action}"
    report = recover_run(abandoned_run, caller)
    return f"run {run.id} was {abandoned_run.planned_action.partition(':')[0]}: {report.run.state}"


def _store_stop_request(records: SqlRecords, run: RunInfo, reason: str, starter: str = "") -> None:
    try:
        records.leases.request_stop(run.id, starter or "Prefect", reason)
    except RequestError as error:  # it has just ended, or it was abandoned before
        logger.info("%s", error.message)


def correct_prefect_state(run_name: str, flow_run_id: str, caller: Caller | None = None) -> None:
    """Correct the state in Prefect if the flow run shows another end than the run."""
    from flows.prefect_runtime.flow_run_states import correct_flow_run_state, correct_state_once_ended  # noqa: PLC0415 - loads Prefect

    with open_records((caller or Caller()).records_url) as records:
        run = find_run_of_flow_run(records, run_name, flow_run_id)
    if run is None or run.state in UNFINISHED_RUN_STATES:
        return
    correct_state_once_ended(flow_run_id, run, PREFECT_WAIT_SECONDS)
    if run.flow_run_id not in {"", flow_run_id}:
        correct_flow_run_state(run.flow_run_id, run)


def _find_run_name(flow_run: "FlowRun") -> str:
    """Return the run's id if the flow has it as a parameter (resume_fleet), otherwise the id of the flow run.

    Whoever may use Prefect writes the parameter: ``find_run_of_flow_run`` asks whether the flow run has ever
    begun this run.
    """
    return str((flow_run.parameters or {}).get("run_id") or flow_run.id)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Return its exit code: 0 if the run's records are finished."""
    parser = argparse.ArgumentParser(
        prog="python -P -m flows.recovery.finalizer", description="Finish the record of a run."
    )
    parser.add_argument("run", help="the run's id, or its flow run's")
    parser.add_argument("--stop", default="", metavar="REASON", help="begin nothing more, for this reason")
    parser.add_argument("--flow-run", default="", metavar="ID", help="the flow run whose process was ended")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for loud in ("paramiko", "alembic"):
        logging.getLogger(loud).setLevel(logging.WARNING)
    try:
        logger.info("%s", finalize_run(asked.run, stop=asked.stop, flow_run_id=asked.flow_run))
        if asked.flow_run:
            correct_prefect_state(asked.run, asked.flow_run)
    except FleetpatchError as error:
        logger.error("%s %s", error, error.hint)  # noqa: TRY400 - no fault of ours; a person reads this
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
