"""Find suspended runs whose flow run was cancelled or deleted in Prefect, and ask them to stop."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows.ports.caller import Caller
from flows.recovery.abandoned_runs import AbandonedRun
from flows.recovery.cancellation import record_stop_request


def stop_runs_cancelled_in_prefect(abandoned_runs: Sequence[AbandonedRun], caller: Caller) -> Iterator[AbandonedRun]:
    """Yield the abandoned runs. Ask a suspended run to stop if its flow run was cancelled or deleted.

    A flow run that is cancelled while it is suspended has no process, so Prefect can't notify one.
    """
    for left in abandoned_runs:
        if (
            left.wait_reason
            and left.suspension is not None
            and (why := _find_cancellation(left.suspension.flow_run_id))
        ):
            record_stop_request(left.run.id, replace(caller, name=caller.name or "Prefect"), why)
            yield replace(left, finalize_reason=why)
        else:
            yield left


def _find_cancellation(flow_run_id: str) -> str:
    """Return that a flow run was cancelled or deleted, or ""."""
    if not flow_run_id:
        return ""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run_id)).state
    except ObjectNotFound:
        return "its flow run was deleted in Prefect while it was suspended"
    return "cancelled in Prefect while it was suspended" if state is not None and state.is_cancelled() else ""
