"""Carry changes out in Prefect."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import IntervalSchedule, RRuleSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.deploying.cancel import cancel
from deployments.deploying.found import own_limit
from deployments.deploying.model import COMMAND, EPOCH, Automation, Change, Deployment, Doing, Pool, ScheduleLine, Setup
from tasks.errors import RequestError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def apply(
    client: "SyncPrefectClient",
    done: Sequence[Change],
    wanted: Setup,
    found: Setup,
    tell: Callable[[Change], None],
) -> None:
    """Do what has to be done. Done again, it does no harm: everything is created or replaced by its name.

    Replacing a deployment has Prefect forget the runs that it had scheduled ahead, and schedule them anew. Runs that
    wait for a worker with what was asked before are cancelled; runs that have begun are not touched.

    Args:
        client: of the server.
        done: the changes.
        wanted: what they lead to.
        found: what is there now.
        tell: called before each change.
    """
    applying = _Applying(client, wanted, found)
    for change in done:
        if change.doing is not Doing.KEEP:
            tell(change)
            applying.do(change)


class _Applying:
    """Makes the changes, one after the other."""

    def __init__(self, client: "SyncPrefectClient", wanted: Setup, found: Setup) -> None:
        self._client, self._found = client, found
        self._pools = {each.name: each for each in wanted.pools}
        self._deployments = {each.full_name: each for each in wanted.deployments}
        self._automations = {each.name: each for each in wanted.automations}
        self._waiting = {each.title: each for each in found.waiting}
        self._flows: dict[str, UUID] = {}

    def do(self, change: Change) -> None:
        name = change.name
        match change.doing, change.kind:
            case Doing.CANCEL, _:
                cancel(self._client, self._waiting[name], "; ".join(change.differences))
            case Doing.REMOVE, _:
                _remove(self._client, change, self._found)
            case _, "work pool":
                _put_pool(self._client, self._pools[name], is_new=change.doing is Doing.CREATE)
            case _, "deployment":
                self._put_deployment(self._deployments[name])
            case _:
                _put_automation(self._client, self._automations[name], self._found.ids.get(f"automation {name}"))

    def _put_deployment(self, wanted: Deployment) -> None:
        there = next((each for each in self._found.deployments if each.full_name == wanted.full_name), None)
        known = self._found.ids.get(f"deployment {wanted.full_name}")
        if there is not None and known is not None and there.limit and not there.limit["own"]:
            _unlink_limit(self._client, UUID(known))
        if wanted.flow not in self._flows:
            self._flows[wanted.flow] = self._client.create_flow_from_name(wanted.flow)
        made = put_deployment(self._client, self._flows[wanted.flow], wanted)
        if wanted.at_once and there is not None and there.limit != wanted.limit:
            _open_limit(self._client, made)


def _unlink_limit(client: "SyncPrefectClient", deployment: UUID) -> None:
    """Part a deployment from a limit that it shares: replacing the deployment would change the limit of others."""
    try:
        own = client.read_global_concurrency_limit_by_name(own_limit(deployment)).id
    except ObjectNotFound:
        own = None
    anew = {"global_concurrency_limit_id": str(own) if own is not None else None}
    client.request("PATCH", "/deployments/{id}", path_params={"id": deployment}, json=anew)


def _open_limit(client: "SyncPrefectClient", deployment: UUID) -> None:
    """Set right what replacing a deployment leaves as it was: its limit is a thing of its own in Prefect."""
    limit = client.read_deployment(deployment).global_concurrency_limit
    if limit is not None:
        usual = GlobalConcurrencyLimitUpdate(active=True, slot_decay_per_second=0.0)
        client.update_global_concurrency_limit(str(limit.id), usual)


def put_deployment(client: "SyncPrefectClient", flow: UUID, wanted: Deployment) -> UUID:
    """Create a deployment of a flow, or replace the one that has its name; return Prefect's id of it."""
    return client.create_deployment(
        flow_id=flow,
        name=wanted.name,
        entrypoint=wanted.entrypoint,
        description=wanted.description,
        tags=list(wanted.tags),
        parameters=dict(wanted.parameters),
        parameter_openapi_schema=dict(wanted.schema),
        enforce_parameter_schema=True,
        schedules=[
            DeploymentScheduleCreate(schedule=_schedule(line), active=line.active, slug=line.slug)
            for line in wanted.schedules
        ],
        concurrency_limit=wanted.at_once,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
        if wanted.at_once
        else None,
        paused=wanted.paused,
        work_pool_name=wanted.pool or None,
        pull_steps=[],
        job_variables={},
    )


def _schedule(line: ScheduleLine) -> RRuleSchedule | IntervalSchedule:
    if line.every is not None:
        # The clients' Interval takes an anchor of None for "now", and then the same schedule would differ every time.
        anchor = line.anchor or EPOCH
        return IntervalSchedule(interval=timedelta(seconds=line.every), anchor_date=anchor, timezone=line.zone)
    return RRuleSchedule(rrule=line.rule, timezone=line.zone)


def _put_pool(client: "SyncPrefectClient", wanted: Pool, *, is_new: bool) -> None:
    """Make a work pool, or let it and its own queue start runs again.

    Raises:
        RequestError: there is one of another kind.
    """
    if is_new:
        client.create_work_pool(WorkPoolCreate(name=wanted.name, type=wanted.kind), overwrite=False)
        return
    theirs = client.read_work_pool(wanted.name)
    if theirs.type != wanted.kind:
        hint = "Name another pool with --pool; `deploy` makes it."
        raise RequestError(f"the work pool {wanted.name} is of the kind {theirs.type}, not {wanted.kind}", hint=hint)
    anew: dict[str, Any] = {"is_paused": False, "base_job_template": _plain(theirs.base_job_template)}
    if theirs.concurrency_limit == 0:
        anew["concurrency_limit"] = None
    client.update_work_pool(wanted.name, WorkPoolUpdate(**anew))
    queue = client.read_work_queue(theirs.default_queue_id)
    anew = {"is_paused": False}
    if queue.concurrency_limit == 0:
        anew["concurrency_limit"] = None
    client.update_work_queue(queue.id, **anew)


def _plain(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template by which processes are started with Prefect's own command."""
    plain: dict[str, Any] = copy.deepcopy(dict(template))
    if plain.get("job_configuration", {}).get("command"):
        plain["job_configuration"]["command"] = COMMAND
    given = plain.get("variables", {}).get("properties", {}).get("command", {})
    if given.get("default"):
        given["default"] = None
    return plain


def _put_automation(client: "SyncPrefectClient", wanted: Automation, known: str | None) -> None:
    document: dict[str, Any] = {
        "name": wanted.name,
        "description": wanted.description,
        "enabled": wanted.enabled,
        "trigger": dict(wanted.trigger),
        "actions": [dict(action) for action in wanted.actions],
        "actions_on_trigger": [dict(action) for action in wanted.at_trigger],
        "actions_on_resolve": [dict(action) for action in wanted.at_resolve],
    }
    core = AutomationCore.model_validate(document)
    if known is None:
        client.create_automation(core)
    else:
        client.update_automation(UUID(known), core)


def _remove(client: "SyncPrefectClient", change: Change, found: Setup) -> None:
    some = found.copies.get(change.name, ()) if change.kind == "automation" else ()
    for known in some or (found.ids[f"{change.kind} {change.name}"],):
        with suppress(ObjectNotFound):  # somebody else was quicker; gone is gone
            if change.kind == "deployment":
                client.delete_deployment(UUID(known))
            else:
                client.delete_automation(UUID(known))
