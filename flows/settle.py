"""Finish the record of a run whose process was ended: ``python -m flows.settle RUN`` (its id, or its flow run's).

Prefect gives a cancelled flow half a minute, then it kills its process. A package transaction may take longer, and is
never killed. So somebody has to look at its end: this program, which the flow's hooks start on its own, waits until
nobody carries the run out any more, and takes it up. A run that was asked to stop is settled: nothing more is begun.
One whose process died without a word is resumed, as long as its window lasts.
"""

import argparse
import contextlib
import logging
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from flows.context import Caller
from flows.recovery import LeftRun, left_run, take_left, wait_for_lease
from tasks.errors import FleetpatchError, LeaseHeld, RecordsError, RequestError
from tasks.model import RunInfo
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.records.sql import SqlRecords
from tasks.seams.clock import SystemClock
from tasks.states import OPEN

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

logger = logging.getLogger(__name__)

WAIT_SECONDS = 600.0
"""How long to wait for a process that is about to end: its grace, its last lease, and a database that is busy."""
TELL_SECONDS = 90.0
"""How long Prefect is waited for to show that a flow run is over: its runner tells it after the process has ended."""
CANCELLED = "cancelled in Prefect"


def settle_cancelled(flow: Any, flow_run: "FlowRun", state: Any) -> None:  # noqa: ARG001, ANN401 - Prefect's names
    """Hook: a flow run was cancelled. Runs where the flow ran, or where its runner does."""
    begin(_which(flow_run), stop=CANCELLED, flow_run_id=str(flow_run.id))


def settle_crashed(flow: Any, flow_run: "FlowRun", state: Any) -> None:  # noqa: ARG001, ANN401 - Prefect's names
    """Hook: a flow run's process came to its end without a result."""
    begin(_which(flow_run), flow_run_id=str(flow_run.id))


def begin(which: str, *, stop: str = "", flow_run_id: str = "") -> Path:
    """Start this program on its own, so that it outlives whoever starts it.

    Args:
        which: the run's id, or its flow run's.
        stop: why the run is to begin nothing more; "" when nobody asked for that.
        flow_run_id: of the flow run whose process was ended.

    Returns:
        Where its log is.
    """
    place = platformdirs.user_data_path("fleetpatch") / "logs"
    place.mkdir(parents=True, exist_ok=True)
    log = place / f"settle-{re.sub(r'[^A-Za-z0-9._-]', '_', which)[:100]}.log"
    words = [sys.executable, "-m", "flows.settle", which, *(["--stop", stop] if stop else [])]
    words += ["--flow-run", flow_run_id] if flow_run_id else []
    with log.open("ab") as out:
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    logger.info("whatever of run %s is not finished is looked after by another process; its log: %s", which, log)
    return log


def settle(which: str, *, stop: str = "", who: Caller | None = None) -> str:
    """Wait until nobody carries a run out, and take it up.

    Args:
        which: the run's id, or its flow run's.
        stop: why the run is to begin nothing more; "" when nobody asked for that.
        who: on whose behalf.

    Returns:
        What was done, in words.

    Raises:
        FleetpatchError: it could not be taken up.
    """
    who = who or Caller()
    with open_records(who.records_url) as records:
        run = _find(records, which)
        if run is None:
            return f"no run of {which} is in the records: nothing was begun"
        if not run.claims_machines or run.state not in OPEN:
            return f"run {run.id} needs nothing: {run.state}"
        if stop:
            _ask(records, run.id, who.name or "Prefect", stop)
        left = _left(records, run.id)
    if isinstance(left, str):
        return left
    left = replace(left, settle=stop or left.settle)
    if left.waits:
        return f"run {run.id} is {left.action}"
    report = take_left(left, who)
    return f"run {run.id} was {left.action.partition(':')[0]}: {report.run.state}"


def _left(records: SqlRecords, run_id: str) -> LeftRun | str:
    """Return a run once nobody carries it out; or in words why there is nothing to do about it."""
    try:
        wait_for_lease(records.leases, run_id, patient=True, seconds=WAIT_SECONDS)
    except LeaseHeld as held:
        return f"somebody else looks after it: {held.message}"
    return left_run(History(records), records.leases, run_id, SystemClock().now())


def set_prefect_right(which: str, flow_run_id: str, who: Caller | None = None) -> None:
    """Let Prefect show how a run ended, where it shows another end of the flow run whose process was ended.

    Args:
        which: the run's id, or its flow run's.
        flow_run_id: of the flow run whose process was ended.
        who: on whose behalf.
    """
    from flows.predecessor import set_right, set_right_once_ended  # noqa: PLC0415 - loads Prefect

    with open_records((who or Caller()).records_url) as records:
        run = _find(records, which)
    if run is None or run.state in OPEN:
        return
    set_right_once_ended(flow_run_id, run, TELL_SECONDS)
    if run.flow_run_id not in {"", flow_run_id}:
        set_right(run.flow_run_id, run)


def _which(flow_run: "FlowRun") -> str:
    """Return what names the run: resume_fleet is given its id, others began it."""
    return str((flow_run.parameters or {}).get("run_id") or flow_run.id)


def _find(records: SqlRecords, which: str) -> RunInfo | None:
    history = History(records)
    found = history.run_of_flow(which)
    if found is None:
        with contextlib.suppress(RecordsError):
            found = history.run(which)
    return found


def _ask(records: SqlRecords, run_id: str, who: str, reason: str) -> None:
    try:
        records.leases.ask_to_stop(run_id, who, reason)
    except RequestError as error:  # it has just ended, or was left before
        logger.info("%s", error.message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code: 0 when the run's record is finished."""
    parser = argparse.ArgumentParser(prog="python -m flows.settle", description="Finish the record of a run.")
    parser.add_argument("run", help="the run's id, or its flow run's")
    parser.add_argument("--stop", default="", metavar="REASON", help="begin nothing more, for this reason")
    parser.add_argument("--flow-run", default="", metavar="ID", help="the flow run whose process was ended")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for loud in ("paramiko", "alembic"):
        logging.getLogger(loud).setLevel(logging.WARNING)
    try:
        logger.info("%s", settle(asked.run, stop=asked.stop))
        if asked.flow_run:
            set_prefect_right(asked.run, asked.flow_run)
    except FleetpatchError as error:
        logger.error("%s %s", error, error.hint)  # noqa: TRY400 - no fault of ours; a person reads this
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
