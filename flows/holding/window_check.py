"""What a window of a configuration may install whose updates are held: all, only what does not wait, or nothing."""

from datetime import datetime

from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from tasks.domain.states import Classification
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
    if hold is None or request.download_only:
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
    return HoldCheck(limit_to_exceptions(request))


def limit_to_exceptions(request: PatchRequest) -> PatchRequest:
    """Return a request that installs only what does not wait. It applies no package, so it holds nothing either. Pure.

    Of the kinds that the configuration selects, those remain that do not wait. What it includes by name waits, unless
    a mask of what does not wait names it.
    """
    hold = request.maintenance
    assert hold is not None  # noqa: S101 - for the type checker
    not_held = hold.to_policy(request.window.minutes).not_held
    kinds = [kind for kind in _list_selected(request) if kind in not_held]
    updates = request.updates.model_copy(update={"classifications": kinds, "include": list(hold.not_held_updates)})
    return request.model_copy(update={"updates": updates, "maintenance": None})


def _list_selected(request: PatchRequest) -> list[Classification]:
    kinds = list(request.updates.classifications)
    has_only_security = Classification.SECURITY in kinds and Classification.SECURITY_ESM not in kinds
    return [*kinds, Classification.SECURITY_ESM] if has_only_security else kinds
