"""Automations on the server: they set dead runs to Crashed that Prefect would keep Running or Pending forever.

If process and worker of a flow run die, Prefect keeps the run in Running. If its start fails half-way, Prefect keeps it
in Pending. Each such run uses the limit of its deployment, so Prefect would cancel every later run. The automations set
both to Crashed. The records follow the run lease and not Prefect's state, and reconcile-fleet finalizes or resumes the
run.
"""

from deployments.sync.actual_state import build_automation_prefix
from deployments.sync.model import Automation
from flows.prefect_api.tags import MANAGED_TAG

MAX_SILENT_SECONDS = 600
"""How long a running flow may send no heartbeat. Prefect's default interval is 180 s."""
MAX_PENDING_SECONDS = 900
"""How long the start of a process may take."""

_END_EVENTS = tuple(f"prefect.flow-run.{state}" for state in ("Cancelled", "Completed", "Crashed", "Failed"))


def build_automations(fleet: str) -> tuple[Automation, ...]:
    """Return the automations of a fleet."""
    return (
        _build_crash_automation(
            f"{build_automation_prefix(fleet)}silent runs",
            "Marks a flow run as crashed after ten minutes without a heartbeat: its process is gone.",
            after="prefect.flow-run.heartbeat",
            expect=("prefect.flow-run.heartbeat", *_END_EVENTS),
            seconds=MAX_SILENT_SECONDS,
            state_message="no heartbeat for ten minutes; reconcile-fleet continues the run",
        ),
        _build_crash_automation(
            f"{build_automation_prefix(fleet)}runs stuck before their start",
            "Marks a flow run as crashed after 15 minutes in Pending: it would prevent later runs.",
            after="prefect.flow-run.Pending",
            expect=("prefect.flow-run.Running", *_END_EVENTS),
            seconds=MAX_PENDING_SECONDS,
            state_message="its process did not start within 15 minutes",
        ),
    )


def _build_crash_automation(
    name: str, description: str, *, after: str, expect: tuple[str, ...], seconds: int, state_message: str
) -> Automation:
    """Return an automation that sets a run to Crashed if an expected event does not occur."""
    return Automation(
        name=name,
        description=description,
        trigger={
            "type": "event",
            "posture": "Proactive",
            "after": [after],
            "expect": sorted(expect),
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {"prefect.resource.id": f"prefect.tag.{MANAGED_TAG}", "prefect.resource.role": "tag"},
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": float(seconds),
        },
        actions=({"type": "change-flow-run-state", "state": "CRASHED", "message": state_message, "force": False},),
    )
