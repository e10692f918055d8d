"""The flow patch_automatically: one tick of automatic patching. A schedule starts it every 15 minutes."""

from flows.automatic.artifact import publish_decision
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
