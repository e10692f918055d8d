"""The requests of the runs that automatic patching starts. Pure."""

from datetime import timedelta

from flows.request.assess_request import AssessRequest
from flows.request.automatic_request import AutomaticRequest
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from tasks.records.automatic.tries import ROLLOUT_PREFIX
from tasks.rules.automatic.model import RunPlan


def build_patch_request(request: AutomaticRequest, plan: RunPlan) -> PatchRequest:
    """Return the request of a run: an ordinary patch run of some machines with the frozen set of a rollout.

    It belongs to no configuration, so machines whose owner is ``managed`` may be patched.
    """
    return PatchRequest(
        scope=request.scope,
        inventory=request.inventory,
        only_machines=list(plan.machines),
        updates=UpdatesRequest(
            classifications=request.classifications,
            exclude=request.exclude,
            as_in_run=f"{ROLLOUT_PREFIX}{plan.rollout_id}",
        ),
        window=WindowRequest(start=plan.window_start, minutes=plan.window_minutes, zone=plan.zone),
        waves=WavesRequest(percent=request.waves_percent, failure_budget_percent=request.failure_budget_percent),
        notify=request.notify,
        freezes=request.freezes,
    )


def build_assess_request(request: AutomaticRequest, machines: tuple[str, ...]) -> AssessRequest:
    """Return the request that assesses these machines."""
    return AssessRequest(scope=request.scope, inventory=request.inventory, only_machines=list(machines))


ASSESSMENT_WAIT = timedelta(hours=24)
"""So long an assessment may wait for a worker. Meanwhile its machines are not asked again."""
