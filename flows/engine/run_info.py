"""The id, kind and window of a run, and the record of a run that did not begin."""

import secrets
from datetime import datetime

from flows.request.assess_request import AssessRequest
from flows.request.patch_request import PatchRequest
from tasks.model import RunInfo, Window
from tasks.rules.timing.maintenance_window import build_window as open_window
from tasks.states import OperationState


def build_run_id(now: datetime) -> str:
    """Return a new unique id that sorts by time."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def find_run_kind(request: PatchRequest | AssessRequest) -> str:
    """Return the kind of the run: assess, plan, stage or patch. Pure."""
    if isinstance(request, AssessRequest):
        return "assess"
    if request.dry_run:
        return "plan"
    return "stage" if request.download_only else "patch"


def build_window(request: PatchRequest | AssessRequest, now: datetime) -> Window | None:
    """Return the window of a request; None if it only reads machines."""
    if isinstance(request, AssessRequest):
        return None
    return open_window(request.window.start, request.window.minutes, request.window.zone, now)


def build_unstarted_run(
    request: PatchRequest, window: Window, run_id: str, reason: str, now: datetime, started_by: str, flow_run_id: str
) -> RunInfo:
    """Return the record of a run that did not begin, with the reason."""
    return RunInfo(
        id=run_id,
        kind="patch",
        started_at=now,
        state=OperationState.NOT_STARTED,
        request=request.model_dump(mode="json"),
        window=window,
        scope=request.scope,
        ended_at=now,
        started_by=started_by,
        flow_run_id=flow_run_id,
        message=reason,
    )
