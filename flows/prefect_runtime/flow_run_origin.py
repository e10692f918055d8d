"""How the present flow run was started: by a schedule, by a person, or by another flow."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment

from flows.prefect_api.deployment_changes import read_outdated_reason, to_utc_datetime
from tasks.domain.errors import RequestError

MIN_SCHEDULE_DELAY = timedelta(seconds=60)
"""A flow run that starts this much later than it was created has a chosen start time. Less may be a clock difference.
"""


@dataclass(frozen=True, slots=True)
class FlowRunOrigin:
    """How a flow run was started.

    Attributes:
        flow_run_id: Prefect's id; "" outside of a flow run.
        scheduled_for: the time in its schedule, whenever it really started; None if a person or another flow started
            it.
        deployment: its deployment's name; "" without one.
        requested_start: the start time of a run of a deployment that no schedule created, even if it waited for a
            worker; None: it began when it was called.
        has_chosen_start: whether a person chose that time; False: it is the time of the request.
        read_outdated_reason: returns why a scheduled run is outdated, or "". Its argument prints messages.
    """

    flow_run_id: str = ""
    scheduled_for: datetime | None = None
    deployment: str = ""
    requested_start: datetime | None = None
    has_chosen_start: bool = False
    read_outdated_reason: Callable[[Callable[[str], None]], str] = field(default=lambda _say: "", compare=False)


def read_flow_run_origin() -> FlowRunOrigin:
    """Return how the present flow run was started.

    Raises:
        RequestError: a person started it from a deployment that was deleted.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None:
        return FlowRunOrigin()
    due = to_utc_datetime(run.expected_start_time) if run.expected_start_time is not None else None
    if run.auto_scheduled:
        return FlowRunOrigin(
            str(run.id),
            due,
            _read_deployment_name() or "",
            read_outdated_reason=functools.partial(read_outdated_reason, run),
        )
    if run.deployment_id is None:
        return FlowRunOrigin(flow_run_id=str(run.id))
    name = _read_deployment_name()
    if name is None:
        hint = "Deploy its configuration again, and start a run of that."
        raise RequestError("the deployment of this flow run was removed before it began", hint=hint)
    return FlowRunOrigin(
        flow_run_id=str(run.id),
        deployment=name,
        requested_start=due,
        has_chosen_start=due is not None
        and run.created is not None
        and due >= to_utc_datetime(run.created) + MIN_SCHEDULE_DELAY,
    )


def _read_deployment_name() -> str | None:
    """Return the name of the flow run's deployment; None if the deployment was deleted."""
    try:
        return str(deployment.get_name() or "")
    except ObjectNotFound:
        return None
