"""How the present flow run was started, and by whom: a schedule, a person, automatic patching, reconcile, another flow.

Prefect does not know a person, and a tag or a parameter could be written by anyone who may use Prefect. So the pages
record the name under a random key before they create the flow run, and the flow run has the key as its idempotency key.
They also record a digest of its parameters, because a person who may use Prefect can create a flow run with the key, or
edit one.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment

from flows.engine.retrying_records import retry_while_unavailable
from flows.ports.caller import Caller
from flows.prefect_api.api_client import NO_ANSWER_ERRORS
from flows.prefect_api.deployment_changes import read_outdated_reason, to_utc_datetime
from flows.request import AssessRequest, PatchRequest
from inventory.data_class import dataclass
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.records import ROLLOUT_PREFIX
from tasks.records.automatic.automatic_runs import AutomaticRun, SqlAutomaticRuns
from tasks.records.fleets import DEFAULT_FLEET, find_fleet
from tasks.records.maintenance import SqlMaintenance
from tasks.records.requested_runs import SqlRequestedRuns
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.runs.approval import (
    AUTOMATIC_STARTER,
    MAINTENANCE_STARTER,
    RECONCILE_STARTER,
    SCHEDULE_STARTER,
    UNKNOWN_STARTER,
)
from tasks.rules.runs.shards import find_whole_run_id

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


T = TypeVar("T")

REQUEST_KEY_PREFIX: Final = "fleetpatch/web/"
"""The beginning of the idempotency keys of flow runs that the pages start."""
NO_FLOW_RUN: Final = "none"
_WAIT: Final = timedelta(minutes=10)


def build_automatic_idempotency_key(key: str) -> str:
    """Return Prefect's idempotency key of a run of automatic patching.

    Prefect keeps one flow for all fleets: theirs must not be the same.
    """
    fleet = find_fleet()
    return f"fleetpatch/automatic/{key}" if fleet == DEFAULT_FLEET else f"fleetpatch/automatic@{fleet}/{key}"


def build_maintenance_idempotency_key(key: str) -> str:
    """Return Prefect's idempotency key of a run that maintenance control starts. Fleets may have equal keys."""
    return f"fleetpatch/maintenance@{find_fleet()}/{key}"


def build_shard_idempotency_key(run_id: str) -> str:
    """Return Prefect's idempotency key of the run of a shard. Fleets have records of their own, so runs of one id."""
    return f"fleetpatch/shard@{find_fleet()}/{run_id}"


def build_resume_idempotency_key(run_id: str, flow_run_before: str) -> str:
    """Return Prefect's idempotency key of the flow run that reconcile starts after another one of the same run."""
    return f"fleetpatch-run:{run_id}:after:{flow_run_before or NO_FLOW_RUN}"


def name_starter(caller: Caller) -> Caller:
    """Return the caller with the name of who started this flow run, the role's scope, and how that is known.

    A flow run without a deployment was started by the user of this process, or by the caller's name.

    It waits some minutes for records that are unavailable: without the name, the starter could approve the own run.

    Raises:
        RecordsError: the records can't be read.
        RequestError: the flow run has a key of the pages, and nobody asked there for what it does.
    """
    context = FlowRunContext.get()
    run, flow = (context.flow_run, context.flow) if context is not None else (None, None)
    if run is not None and run.deployment_id is not None and context is not None:
        caller = _name_program(caller, run, context.parameters or {})
    key = (run.idempotency_key or "") if run is not None else ""
    if context is None or run is None or flow is None or not key.startswith(REQUEST_KEY_PREFIX):
        return caller
    flow_name, flow_run_id, parameters = flow.name, str(run.id), run.parameters
    # Prefect reads a flow run twice, and its parameters can change between.
    arguments = inspect.signature(flow.fn).bind(**parameters)
    arguments.apply_defaults()
    if flow.validate_parameters(arguments.arguments) != (context.parameters or {}):
        raise RequestError(
            "the parameters of this flow run were changed while it began",
            hint="Nothing has begun. Find out who can use Prefect. Start the run again in the pages.",
        )

    who, scope = _ask_records(
        lambda records: SqlRequestedRuns(records.database).claim(key, flow_name, flow_run_id, parameters), caller
    )
    return replace(caller, name=who, scope=scope, source="pages") if who else caller


def _name_program(caller: Caller, run: FlowRun, parameters: dict[str, Any]) -> Caller:
    """Return the caller with the name of the program that started a flow run of a deployment.

    Whoever may use Prefect can give a flow run any key. So a key counts only with what the records or reconcile want.
    """
    try:
        name = str(deployment.get_name() or "")
    except (ObjectNotFound, *NO_ANSWER_ERRORS):
        name = "a deployment that was removed"
    if run.auto_scheduled:
        return replace(caller, source="schedule", name=caller.name or f"{SCHEDULE_STARTER}{name}")
    if (automatic := _find_automatic_run(run, caller, parameters)) is not None:
        of = f" ({automatic.rollout_id})" if automatic.rollout_id else ""
        return replace(caller, source="automatic", name=caller.name or f"{AUTOMATIC_STARTER}{of}")
    if _is_maintenance_run(run, caller, parameters):
        return replace(caller, source="automatic", name=caller.name or MAINTENANCE_STARTER)
    request = parameters.get("request")
    if isinstance(request, AssessRequest | PatchRequest) and request.shard:
        # it does nothing before the sealed records of that run have said so
        return replace(caller, source="automatic", name=caller.name or f"run {find_whole_run_id(request.shard)}")
    run_id = str(parameters.get("run_id") or "")
    begin = build_resume_idempotency_key(run_id, "").removesuffix(NO_FLOW_RUN)
    if run_id and parameters.get("if_abandoned") and (run.idempotency_key or "").startswith(begin):
        return replace(caller, source="automatic", name=caller.name or RECONCILE_STARTER)
    return replace(caller, source="prefect", name=caller.name or f"{UNKNOWN_STARTER} ({name})")


def _find_automatic_run(run: FlowRun, caller: Caller, parameters: dict[str, Any]) -> AutomaticRun | None:
    """Return the run of automatic patching that a flow run is; None if it is another one, or asks for other things."""
    prefix, key = build_automatic_idempotency_key(""), run.idempotency_key or ""
    request = parameters.get("request")
    if not key.startswith(prefix) or not isinstance(request, AssessRequest | PatchRequest):
        return None
    automatic_run = _ask_records(
        lambda records: SqlAutomaticRuns(records.database).find(key.removeprefix(prefix)), caller
    )
    if (
        automatic_run is None
        or automatic_run.flow_run_id not in {"", str(run.id)}
        or tuple(request.only_machines) != automatic_run.machines
    ):
        return None
    if isinstance(request, PatchRequest) and request.updates.as_in_run != f"{ROLLOUT_PREFIX}{automatic_run.rollout_id}":
        return None
    return automatic_run


def _is_maintenance_run(run: FlowRun, caller: Caller, parameters: dict[str, Any]) -> bool:
    """Return whether a flow run applies what is held after its last day, as the records want it."""
    request = parameters.get("request")
    hold = request.maintenance if isinstance(request, PatchRequest) else None
    if hold is None or not hold.application:
        return False
    if run.idempotency_key != build_maintenance_idempotency_key(hold.application):
        return False
    stored = _ask_records(lambda records: SqlMaintenance(records.database).find_application(hold.application), caller)
    return stored is not None and stored.group == hold.group and stored.flow_run_id in {"", str(run.id)}


def _ask_records(ask: Callable[[SqlRecords], T], caller: Caller) -> T:
    """Return an answer of the records. It waits some minutes for records that are unavailable."""
    clock = SystemClock()

    def ask_once() -> T:
        with open_records(caller.records_url) as records:
            return ask(records)

    return retry_while_unavailable(ask_once, clock, clock.now() + _WAIT, caller.listener.on_message)
