"""The flow patch_automatically, and its page in Prefect's UI. A schedule starts it every 15 minutes: one tick."""

import logging
import re
from datetime import datetime

from prefect.artifacts import create_markdown_artifact, create_progress_artifact

from flows.automatic.run_starter import PrefectRunStarter
from flows.automatic.tick import run_tick
from flows.automatic.wording import describe_decision
from flows.composition import read_credential
from flows.ports.caller import current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.request.automatic_request import AutomaticRequest
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.run_errors import LeaseHeld
from tasks.records.fleets import DEFAULT_FLEET, find_fleet
from tasks.reports.export.rollout_markdown import render_rollout
from tasks.rules.automatic.forecast import find_next_runs
from tasks.rules.automatic.model import AutomaticDecision, FleetView
from tasks.rules.automatic.progress import RolloutProgress, measure_shown_rollout

logger = logging.getLogger(__name__)

ARTIFACT_KEY = "automatic-patching"  # one key for all ticks: Prefect keeps a history for each key
PROGRESS_KEY = "automatic-patching-progress"


def publish_decision(request: AutomaticRequest, view: FleetView, decision: AutomaticDecision, now: datetime) -> None:
    """Publish what was decided as artifacts. A failure is logged and costs nothing else."""
    try:
        progress = measure_shown_rollout(request.to_policy(), view, now)
        create_markdown_artifact(
            render_decision(request, view, decision, progress, now),
            key=build_artifact_key(ARTIFACT_KEY, find_fleet()),
            description="What automatic patching does and why",
        )
        if progress is not None:
            create_progress_artifact(
                round(progress.done_percent, 1),
                key=build_artifact_key(PROGRESS_KEY, find_fleet()),
                description=f"Machines of {progress.rollout.id} that are done, in percent",
            )
    except Exception as error:  # noqa: BLE001 - a page that is missing must not keep machines from their updates
        logger.warning("Prefect did not get the page of automatic patching: %s", type(error).__name__)


def build_artifact_key(key: str, fleet: str) -> str:
    """Return the key of a fleet's artifact: Prefect shows the newest of each key. It allows a-z, 0-9 and "-"."""
    return key if fleet == DEFAULT_FLEET else f"{key}-{re.sub('[^a-z0-9]+', '-', fleet.lower())}"


def render_decision(
    request: AutomaticRequest,
    view: FleetView,
    decision: AutomaticDecision,
    progress: RolloutProgress | None,
    now: datetime,
) -> str:
    """Return the page. Pure."""
    switched_off = "" if request.enabled else "Automatic patching is switched off: nothing is started.\n\n"
    return switched_off + render_rollout(
        progress, decision.waiting, find_next_runs(request.to_policy(), view, now), now, len(view.machines)
    )


@flow(name="patch-automatically", persist_result=False)
def patch_automatically(request: AutomaticRequest) -> list[str]:
    """Patch managed machines automatically: decide what is to be done now, and start it.

    This is one tick. It starts ordinary runs of patch-fleet and assess-fleet, and does not wait for them. A tick that
    was missed, or that ran twice, changes nothing: everything that a decision needs is in the records.

    Args:
        request: how the fleet is patched. With `enabled` off, it only shows what it would do.

    Returns:
        What was decided and why, in lines for people.

    Raises:
        InventoryError: the inventory or the scope is not usable.
        PatchError: Prefect does not answer. The next tick does the rest.
        RecordsError: the records are not usable; nothing was started.
        RequestError: a freeze is not valid, or `fleetpatch deploy` has not created the deployments yet.
    """
    caller = log_to_flow_run(current_caller())
    try:
        result = run_tick(request, caller, PrefectRunStarter(), SystemClock(), read_credential)
    except LeaseHeld as error:
        caller.listener.on_message(f"another tick is at work, so there is nothing to do: {error.holder}")
        return []
    publish_decision(request, result.view, result.decision, result.at)
    return list(describe_decision(result.decision))
