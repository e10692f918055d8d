"""Who started the present flow run through the pages or the API.

Prefect does not know it, and a tag or a parameter could be written by anyone who may use Prefect. So the pages record
the name under a random key before they create the flow run, and the flow run has the key as its idempotency key. They
record a digest of its parameters as well: whoever may use Prefect can create a flow run with the key, or edit one.
"""

import inspect
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from prefect import Flow
from prefect.context import FlowRunContext

from flows.engine.retrying_records import RETRY_INTERVAL
from flows.ports.caller import Caller
from tasks.errors import RecordsUnavailable, RequestError
from tasks.protocols.clock import Deadline, SystemClock
from tasks.records.requested_runs import SqlRequestedRuns
from tasks.records.setup import open_records
from tasks.retry import retry

REQUEST_KEY_PREFIX: Final = "fleetpatch/web/"
"""The beginning of the idempotency keys of flow runs that the pages start."""
_WAIT: Final = timedelta(minutes=10)


def name_starter(caller: Caller) -> Caller:
    """Return the caller with the name of the person who started this flow run, the role's scope, and how that is known.

    The name stays if none is recorded: a schedule of Prefect, or somebody who may use Prefect, has started it.

    It waits some minutes for records that are unavailable: without the name, the starter could approve the own run.

    Raises:
        RecordsError: the records can't be read.
        RequestError: the flow run has a key of the pages, and nobody asked there for what it does.
    """
    context = FlowRunContext.get()
    run, flow = (context.flow_run, context.flow) if context is not None else (None, None)
    if run is not None and run.deployment_id is not None:
        caller = replace(caller, source="schedule" if run.auto_scheduled else "prefect")
    key = (run.idempotency_key or "") if run is not None else ""
    if context is None or run is None or flow is None or not key.startswith(REQUEST_KEY_PREFIX):
        return caller
    flow_name, flow_run_id, parameters = flow.name, str(run.id), run.parameters
    _require_executed(flow, parameters, context.parameters or {})

    def claim_name() -> tuple[str, str]:
        with open_records(caller.records_url) as records:
            return SqlRequestedRuns(records.database).claim(key, flow_name, flow_run_id, parameters)

    clock = SystemClock()
    who, scope = retry(
        claim_name,
        RecordsUnavailable,
        clock=clock,
        deadline=Deadline(clock.now() + _WAIT),
        wait=RETRY_INTERVAL,
        on_retry=lambda error: caller.listener.on_message(f"waiting: records database unavailable ({error.message})"),
    )
    return replace(caller, name=who, scope=scope, source="pages") if who else caller


def _require_executed(flow: Flow[..., Any], parameters: dict[str, Any], executed: dict[str, Any]) -> None:
    """Check that the flow got these parameters. Prefect reads a flow run twice, and its parameters can change between.

    Raises:
        RequestError: it got others.
    """
    arguments = inspect.signature(flow.fn).bind(**parameters)
    arguments.apply_defaults()
    if flow.validate_parameters(arguments.arguments) != executed:
        raise RequestError(
            "the parameters of this flow run were changed while it began",
            hint="Nothing has begun. Find out who can use Prefect. Start the run again in the pages.",
        )
