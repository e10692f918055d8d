"""Who started the present flow run through the pages or the API.

Prefect does not know it, and a tag or a parameter could be written by anyone who may use Prefect. So the pages record
the name under a random key before they create the flow run, and the flow run has the key as its idempotency key.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from prefect.context import FlowRunContext

from flows.admission import retry_while_records_unavailable
from flows.ports.caller import Caller
from tasks.protocols.clock import SystemClock
from tasks.records.requested_runs import SqlRequestedRuns
from tasks.records.setup import open_records

REQUEST_KEY_PREFIX: Final = "fleetpatch/web/"
"""The beginning of the idempotency keys of flow runs that the pages start."""
_WAIT: Final = timedelta(minutes=10)


def name_starter(caller: Caller) -> Caller:
    """Return the caller with the name of the person who started this flow run; unchanged if that is not recorded.

    It waits some minutes for records that are unavailable: without the name, the starter could approve the own run.

    Raises:
        RecordsError: the records can't be read.
    """
    context = FlowRunContext.get()
    run, flow = (context.flow_run, context.flow) if context is not None else (None, None)
    key = (run.idempotency_key or "") if run is not None else ""
    if run is None or flow is None or not key.startswith(REQUEST_KEY_PREFIX):
        return caller
    flow_name, flow_run_id = flow.name, str(run.id)

    def claim_name() -> str:
        with open_records(caller.records_url) as records:
            return SqlRequestedRuns(records.database).claim(key, flow_name, flow_run_id)

    clock = SystemClock()
    who = retry_while_records_unavailable(claim_name, caller, clock, clock.now() + _WAIT)
    return replace(caller, name=who) if who else caller
