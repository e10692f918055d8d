"""What a window of a configuration may install whose updates are held: all, only what does not wait, or nothing."""

from datetime import datetime

from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from tasks.records.maintenance import SqlMaintenance
from tasks.records.storage.database import Database
from tasks.rules.maintenance.windows import Permission, WindowVerdict, judge_window


@dataclass(frozen=True, slots=True)
class HoldCheck:
    """The request as it may begin in its window, and why it may not; "": it may."""

    request: PatchRequest
    refusal: str = ""


def judge_request(database: Database, request: PatchRequest, start: datetime, now: datetime) -> WindowVerdict | None:
    """Return what the window of a request may install; None if its configuration holds nothing.

    Raises:
        RecordsError: the records can't be read.
    """
    hold = request.maintenance
    if hold is None or hold.only_not_held or request.download_only:
        return None
    state = SqlMaintenance(database, require_seals=True).read_state(hold.group)
    return judge_window(hold.to_policy(request.window.minutes), state, start, now, request.window.zone)


def check_hold(database: Database, request: PatchRequest, start: datetime, now: datetime) -> HoldCheck:
    """Return the request of a run that a schedule started, with what it may install in its window.

    Raises:
        RecordsError: the records can't be read.
    """
    verdict = judge_request(database, request, start, now)
    if verdict is None or verdict.permission is Permission.ALL:
        return HoldCheck(request)
    if verdict.permission is Permission.NOTHING:
        return HoldCheck(request, verdict.reason)
    limited = request.maintenance and request.maintenance.model_copy(update={"only_not_held": True})
    return HoldCheck(request.model_copy(update={"maintenance": limited}))
