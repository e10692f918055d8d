"""Hooks that are Prefect deployments: one run of them, waited for until it has ended."""

import threading

from flows.hooks.event import HookEvent
from flows.hooks.patience import Patience, in_a_thread
from tasks.model import Hook

POLL_SECONDS = 1.0
TAG = "fleetpatch-hook"


def run_deployment(hook: Hook, event: HookEvent, patience: Patience) -> tuple[bool, str]:
    """Run a deployment; return whether its flow run ended Completed, and how it ended.

    Prefect knows the flow run by the event's id: asked twice, it gives back the one that was begun. A flow run that
    takes too long is left alone, and counts as failed. A flow with a parameter ``event`` is given the event.

    Raises:
        GivenUp: it took too long.
    """
    gone = threading.Event()
    try:
        return in_a_thread(lambda: _to_its_end(hook.target, event, gone), patience)
    finally:
        gone.set()


def _to_its_end(name: str, event: HookEvent, gone: threading.Event) -> tuple[bool, str]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - loading Prefect takes a second that others save
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415 - as above

    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound:
            return False, f"there is no deployment {name!r}"
        takes = (deployment.parameter_openapi_schema or {}).get("properties") or {}
        flow_run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"event": event.as_json()} if "event" in takes else {},
            idempotency_key=f"fleetpatch/{event.id}",
            tags=[TAG],
        )
        while not (flow_run.state and flow_run.state.is_final()) and not gone.wait(POLL_SECONDS):
            flow_run = client.read_flow_run(flow_run.id)
    state = flow_run.state
    told = f"{state.name}: {state.message}" if state and state.message else state.name if state else "no state"
    return bool(state and state.is_completed()), f"flow run {flow_run.name} ({flow_run.id}) ended {told}"
