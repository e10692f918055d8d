"""Automations on the server: they see to flow runs whose process is gone, which Prefect would keep as they are forever.

If process and worker of a flow run die, Prefect keeps the run in Running. If they die while the process starts, Prefect
keeps it in Pending. Each such run uses the limit of its deployment, so Prefect would cancel every later run. The server
itself acts, so no worker need be alive.

A run that a schedule made, and that did not begin, is scheduled again: admission decides what still fits into its
window. If its process is alive and only slow, there are two processes of one flow run. Both may come to life; the claim
of the window and the run lease let one of them go on, and the other ends (``flows.flow_execution``). All other runs are
set to Crashed. The records follow the run lease and not Prefect's state, and reconcile-fleet finalizes or resumes the
run.
"""

from collections.abc import Mapping, Sequence

from deployments.sync.actual_state import build_automation_prefix
from deployments.sync.model import Automation
from flows.prefect_api.tags import AUTO_SCHEDULED_TAG, MANAGED_TAG

MAX_SILENT_SECONDS = 600
"""How long a running flow may send no heartbeat. Prefect's default interval is 180 s."""
MAX_START_SECONDS = 120
"""How long the process of a scheduled run may need until it begins. It takes some ten seconds on a small machine."""
MAX_PENDING_SECONDS = 900
"""How long the process of any other run may need: if it began twice, it would be two runs."""

_RUNNING, _PENDING, _HEARTBEAT = (f"prefect.flow-run.{name}" for name in ("Running", "Pending", "heartbeat"))
_END_EVENTS = tuple(f"prefect.flow-run.{state}" for state in ("Cancelled", "Completed", "Crashed", "Failed"))
_WAIT_EVENTS = tuple(f"prefect.flow-run.{state}" for state in ("Paused", "Scheduled", "Suspended"))
"""A run in one of these states has no process, and needs none."""


def build_automations(fleet: str) -> tuple[Automation, ...]:
    """Return the automations of a fleet."""
    return (
        _build_automation(
            f"{build_automation_prefix(fleet)}silent runs",
            "Marks a flow run as crashed after ten minutes without a heartbeat: its process is gone.",
            after=(_RUNNING, _HEARTBEAT),  # its process may die before the first heartbeat
            expect=(_HEARTBEAT, *_WAIT_EVENTS, *_END_EVENTS),
            seconds=MAX_SILENT_SECONDS,
            state="CRASHED",
            message="no heartbeat for ten minutes; reconcile-fleet continues the run",
        ),
        _build_automation(
            f"{build_automation_prefix(fleet)}scheduled runs that did not begin",
            "Schedules a flow run of a schedule again after two minutes in Pending: its process was lost.",
            after=(_PENDING,),
            expect=(_RUNNING, *_WAIT_EVENTS, *_END_EVENTS),
            seconds=MAX_START_SECONDS,
            state="SCHEDULED",
            message="its process did not start within two minutes; it is started again",
            tags=(MANAGED_TAG, AUTO_SCHEDULED_TAG),
        ),
        _build_automation(
            f"{build_automation_prefix(fleet)}runs stuck before their start",
            "Marks a flow run as crashed after 15 minutes in Pending: it would prevent later runs.",
            after=(_PENDING,),
            expect=(_RUNNING, *_WAIT_EVENTS, *_END_EVENTS),
            seconds=MAX_PENDING_SECONDS,
            state="CRASHED",
            message="its process did not start within 15 minutes",
        ),
    )


def _build_automation(
    name: str,
    description: str,
    *,
    after: Sequence[str],
    expect: Sequence[str],
    seconds: int,
    state: str,
    message: str,
    tags: Sequence[str] = (MANAGED_TAG,),
) -> Automation:
    """Return an automation that changes the state of a run with all these tags if an expected event does not occur."""
    related: list[Mapping[str, object]] = [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags
    ]
    return Automation(
        name=name,
        description=description,
        trigger={
            "type": "event",
            "posture": "Proactive",
            "after": sorted(after),
            "expect": sorted(expect),
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": related if len(related) > 1 else related[0],
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": float(seconds),
        },
        actions=({"type": "change-flow-run-state", "state": state, "message": message, "force": False},),
    )
