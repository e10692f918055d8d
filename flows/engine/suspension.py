"""Suspension of a run in the journal, so that the run can be resumed in the same window. No Prefect.

A suspended run stops like a cancelled one, but leaves open what has not begun. The journal has two entries for it: one
before the run stops, and one after. A third entry says that the run was resumed.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from flows.ports.caller import Caller
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.records import JournalEntry, JournalMark, Records
from tasks.domain.states import Step
from tasks.records.setup import open_records

logger = logging.getLogger(__name__)

SUSPEND_ACT: Final = "suspend"
RESUME_ACT: Final = "go on"


@dataclass(frozen=True, slots=True)
class Suspension:
    """The suspension of a run.

    Attributes:
        at: when it was requested, or when the run had stopped.
        reason: why.
        flow_run_id: Prefect's id of the flow run that was suspended; "" if there is none.
        is_complete: whether the run has stopped; False: its process died before that.
    """

    at: datetime
    reason: str
    flow_run_id: str
    is_complete: bool


def find_suspension(entries: Iterable[JournalEntry]) -> Suspension | None:
    """Return a run's suspension from its journal; None if there is none, or if the run was resumed after it. Pure.

    The request is recorded by another thread than the stop, so a run that stops at once may record the stop first.
    """
    last = None
    for entry in entries:
        if entry.machine:
            continue
        if entry.act == RESUME_ACT:
            last = None
        elif entry.act == SUSPEND_ACT and (last is None or entry.mark is JournalMark.AFTER):
            last = entry
    if last is None:
        return None
    reason, flow_run_id = (str(last.detail.get(key) or "") for key in ("reason", "flow_run_id"))
    return Suspension(last.at, reason, flow_run_id, last.mark is JournalMark.AFTER)


def record_suspend_request(run_id: str, caller: Caller, flow_run_id: str, reason: str) -> None:
    """Record that a run was asked to suspend, in case this process is killed.

    Raises nothing. The run itself already has the request, and records it again when it has stopped.
    """
    try:
        with open_records(caller.records_url) as records:
            record_suspension(records, run_id, JournalMark.BEFORE, SystemClock().now(), reason, flow_run_id)
    except FleetpatchError as error:
        logger.info("the suspension of run %s is not in the records: %s", run_id, error.message)


def record_suspension(
    records: Records, run_id: str, mark: JournalMark, now: datetime, reason: str, flow_run_id: str
) -> None:
    """Record that a run is about to stop, or has stopped, because it was suspended.

    Raises:
        RecordsError: the entry can't be stored.
    """
    detail: dict[str, object] = {"reason": reason, "flow_run_id": flow_run_id}
    records.append_entry(JournalEntry(run_id, "", Step.ASSESS, mark, SUSPEND_ACT, SUSPEND_ACT, now, detail))


def record_resumption(records: Records, run_id: str, now: datetime, who: str) -> None:
    """Record that a suspended run was resumed.

    Raises:
        RecordsError: the entry can't be stored.
    """
    records.append_entry(
        JournalEntry(run_id, "", Step.ASSESS, JournalMark.AFTER, RESUME_ACT, RESUME_ACT, now, {"who": who})
    )
