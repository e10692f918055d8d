"""The names of flow runs in Prefect: what is patched, when, and the id of the run.

Prefect's scheduler names the runs that it makes ("portable-terrier"). A run gets its own name when it begins.
"""

import logging
from uuid import UUID

from flows.engine.pinned_updates import is_rollout_run
from flows.engine.run_info import describe_machines
from flows.prefect_api.api_client import open_fail_fast_client
from flows.request import AssessRequest, PatchRequest, RunRequest
from tasks.domain.model import Window
from tasks.records.automatic.tries import ROLLOUT_PREFIX
from tasks.reports.formatting import format_scope, load_zone_or_utc
from tasks.reports.sanitizing import sanitize_to_one_line

logger = logging.getLogger(__name__)

_MAX_SUBJECT_LENGTH = 60  # characters of a scope; the id of the run must stay visible


def describe_subject(request: RunRequest) -> str:
    """Return what a run is for: its configuration, or its machines and the rollout that patches them."""
    subject = request.configuration if isinstance(request, PatchRequest) else ""
    subject = subject or format_scope(describe_machines(request))
    if isinstance(request, PatchRequest) and is_rollout_run(request):
        subject = f"{request.updates.as_in_run.removeprefix(ROLLOUT_PREFIX).strip()} {subject}"
    return sanitize_to_one_line(subject, _MAX_SUBJECT_LENGTH)


def build_flow_run_name(request: RunRequest, run_id: str, window: Window | None) -> str:
    """Return the name of a flow run that begins: "web-weekly 2026-11-24 22:00 r-20261124-…". Pure."""
    subject = describe_subject(request)
    if isinstance(request, AssessRequest):
        return f"assess {subject} {run_id}"
    verb = "plan " if request.dry_run else "download " if request.download_only else ""
    if window is None:
        return f"{verb}{subject} {run_id}"
    start = window.start.astimezone(load_zone_or_utc(window.zone))
    return f"{verb}{subject} {start:%Y-%m-%d %H:%M} {run_id}"


def build_resume_name(run_id: str) -> str:
    """Return the name of a flow run that resumes a run. Pure."""
    return f"resume {sanitize_to_one_line(run_id, 100)}"


def rename_flow_run(flow_run_id: str, name: str) -> None:
    """Give a flow run another name. For a background thread: it asks once, and Prefect may take some seconds.

    Raises:
        httpx.HTTPError, OSError, ValueError: Prefect gave no answer.
    """
    with open_fail_fast_client() as client:
        client.update_flow_run(UUID(flow_run_id), name=name)
