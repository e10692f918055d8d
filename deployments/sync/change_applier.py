"""Applies changes to Prefect, and cancels waiting flow runs that have an old request."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, StateType, WorkQueue
from prefect.client.schemas.schedules import IntervalSchedule, RRuleSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import Abort, ObjectAlreadyExists, ObjectNotFound
from prefect.states import Cancelled

from deployments.configuration.prefect_names import ASSESSMENT_QUEUE
from deployments.sync.actual_state import find_assessment_queue
from deployments.sync.model import (
    INTERVAL_ANCHOR,
    Automation,
    Change,
    ChangeAction,
    Deployment,
    DeploymentSet,
    ScheduleSpec,
    WaitingFlowRun,
    WorkPool,
)
from flows.prefect_api.tags import build_limit_name
from tasks.domain.errors import RequestError

_WAITING_STATES = frozenset({StateType.SCHEDULED, StateType.PENDING})


def apply_changes(
    client: SyncPrefectClient,
    changes: Sequence[Change],
    desired: DeploymentSet,
    actual: DeploymentSet,
    report_change: Callable[[Change], None],
) -> None:
    """Apply the changes. A second call does no harm, because each object is created or replaced by its name.

    If a deployment is replaced, Prefect deletes its scheduled runs and schedules them again. Runs that wait with the
    old request are cancelled. Runs that have started are not changed.
    """
    applier = _ChangeApplier(client, desired, actual)
    for change in changes:
        if change.action is not ChangeAction.KEEP:
            report_change(change)
            applier.apply(change)


def cancel_waiting_run(client: SyncPrefectClient, run: WaitingFlowRun, reason: str) -> bool:
    """Cancel a flow run that has not started. Return whether it was cancelled.

    Prefect has no operation "cancel if it still waits". If a worker starts the run in the meantime, this function sets
    the run back to Running. The run itself then compares its request with the current one, as its first step.
    """
    run_id = UUID(run.id)
    try:
        before = client.read_flow_run(run_id).state
        if before is None or before.type not in _WAITING_STATES:
            return False
        client.set_flow_run_state(run_id, Cancelled(message=f"cancelled by fleetpatch deploy: {reason}"))
        states = client.read_flow_run_states(run_id)
    except (ObjectNotFound, Abort):  # another program has deleted or changed the run
        return False
    running = [state for state in states if state.type is StateType.RUNNING]
    if running and states[-1].type is StateType.CANCELLED:
        client.set_flow_run_state(run_id, running[-1], force=True)
        return False
    return True


class _ChangeApplier:
    """Applies the changes one by one."""

    def __init__(self, client: SyncPrefectClient, desired: DeploymentSet, actual: DeploymentSet) -> None:
        self._client, self._actual = client, actual
        self._pools = {pool.name: pool for pool in desired.pools}
        self._deployments = {deployment.full_name: deployment for deployment in desired.deployments}
        self._automations = {automation.name: automation for automation in desired.automations}
        self._waiting_runs = {waiting_run.title: waiting_run for waiting_run in actual.waiting_runs}
        self._flow_ids: dict[str, UUID] = {}

    def apply(self, change: Change) -> None:
        name = change.name
        match change.action, change.kind:
            case ChangeAction.CANCEL, _:
                cancel_waiting_run(self._client, self._waiting_runs[name], "; ".join(change.differences))
            case ChangeAction.REMOVE, _:
                is_automation = change.kind == "automation"
                copies = self._actual.duplicate_automations.get(name, ()) if is_automation else ()
                for prefect_id in copies or (self._actual.prefect_ids[f"{change.kind} {name}"],):
                    with suppress(ObjectNotFound):  # the object is already deleted
                        if is_automation:
                            self._client.delete_automation(UUID(prefect_id))
                        else:
                            self._client.delete_deployment(UUID(prefect_id))
            case _, "work pool":
                _put_pool(self._client, self._pools[name], is_new=change.action is ChangeAction.CREATE)
            case _, "deployment":
                self._put_deployment(self._deployments[name])
            case _:
                _put_automation(
                    self._client, self._automations[name], self._actual.prefect_ids.get(f"automation {name}")
                )

    def _put_deployment(self, deployment: Deployment) -> None:
        actual = next((former for former in self._actual.deployments if former.full_name == deployment.full_name), None)
        deployment_id = self._actual.prefect_ids.get(f"deployment {deployment.full_name}")
        if actual is not None and deployment_id is not None and actual.limit and not actual.limit["own"]:
            _detach_shared_limit(self._client, UUID(deployment_id))
        if deployment.flow not in self._flow_ids:
            self._flow_ids[deployment.flow] = self._client.create_flow_from_name(deployment.flow)
        new_id = put_deployment(self._client, self._flow_ids[deployment.flow], deployment)
        if deployment.at_once and actual is not None and actual.limit != deployment.limit:
            # Prefect stores the limit separately, so replacing the deployment does not reset it.
            limit = self._client.read_deployment(new_id).global_concurrency_limit
            if limit is not None:
                usual = GlobalConcurrencyLimitUpdate(active=True, slot_decay_per_second=0.0)
                self._client.update_global_concurrency_limit(str(limit.id), usual)


def _detach_shared_limit(client: SyncPrefectClient, deployment: UUID) -> None:
    """Detach a deployment from a shared limit. Otherwise replacing it would change the limit of other deployments."""
    try:
        own_limit_id = client.read_global_concurrency_limit_by_name(build_limit_name(deployment)).id
    except ObjectNotFound:
        own_limit_id = None
    changed_fields = {"global_concurrency_limit_id": str(own_limit_id) if own_limit_id is not None else None}
    client.request("PATCH", "/deployments/{id}", path_params={"id": deployment}, json=changed_fields)


def put_deployment(client: SyncPrefectClient, flow_id: UUID, deployment: Deployment) -> UUID:
    """Create a deployment of a flow, or replace the deployment with the same name. Return its id in Prefect."""
    return client.create_deployment(
        flow_id=flow_id,
        name=deployment.name,
        entrypoint=deployment.entrypoint,
        description=deployment.description,
        tags=list(deployment.tags),
        parameters=dict(deployment.parameters),
        parameter_openapi_schema=dict(deployment.schema),
        enforce_parameter_schema=True,
        schedules=[
            DeploymentScheduleCreate(schedule=_to_prefect_schedule(line), active=line.active, slug=line.slug)
            for line in deployment.schedules
        ],
        concurrency_limit=deployment.at_once,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
        if deployment.at_once
        else None,
        paused=deployment.paused,
        work_pool_name=deployment.pool or None,
        work_queue_name=deployment.queue or None,
        pull_steps=[],
        job_variables={},
    )


def _to_prefect_schedule(schedule: ScheduleSpec) -> RRuleSchedule | IntervalSchedule:
    if schedule.every is not None:
        # For an anchor of None, Prefect's client uses the present time. Then the same schedule would differ each time.
        anchor = schedule.anchor or INTERVAL_ANCHOR
        return IntervalSchedule(interval=timedelta(seconds=schedule.every), anchor_date=anchor, timezone=schedule.zone)
    return RRuleSchedule(rrule=schedule.rule, timezone=schedule.zone)


def _put_pool(client: SyncPrefectClient, pool: WorkPool, *, is_new: bool) -> None:
    """Create a work pool with its queues, or write whether they start runs, and the job template.

    A worker that starts makes its pool, too: what is there meanwhile gets our settings.

    Raises:
        RequestError: a pool with this name has another type.
    """
    if is_new:
        new_pool = WorkPoolCreate(name=pool.name, type=pool.kind, base_job_template=dict(pool.template))
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(new_pool, overwrite=False)
            _put_queues(client, pool)
            return
    actual = client.read_work_pool(pool.name)
    if actual.type != pool.kind:
        hint = "Name another pool with --pool; `deploy` creates it."
        raise RequestError(f"the work pool {pool.name} is of the kind {actual.type}, not {pool.kind}", hint=hint)
    changed_fields: dict[str, Any] = {"is_paused": pool.paused, "base_job_template": dict(pool.template)}
    if actual.concurrency_limit == 0 and not pool.closed:
        changed_fields["concurrency_limit"] = None
    client.update_work_pool(pool.name, WorkPoolUpdate(**changed_fields))
    _put_queues(client, pool)


def _put_queues(client: SyncPrefectClient, pool: WorkPool) -> None:
    """Create the second queue of a pool, or write whether both queues start runs, the default queue first."""
    first = client.read_work_queue(client.read_work_pool(pool.name).default_queue_id)
    _put_queue(client, first, is_paused=pool.queue_paused, is_closed=pool.queue_closed)
    second = find_assessment_queue(client, pool.name)
    behind = first.priority + 1
    if second is None:
        client.create_work_queue(ASSESSMENT_QUEUE, work_pool_name=pool.name, priority=behind)
        return
    _put_queue(client, second, is_paused=pool.assessments_paused, is_closed=pool.assessments_closed)
    if second.priority < behind:
        client.update_work_queue(second.id, priority=behind)


def _put_queue(client: SyncPrefectClient, queue: WorkQueue, *, is_paused: bool, is_closed: bool) -> None:
    changed_fields: dict[str, Any] = {"is_paused": is_paused}
    if queue.concurrency_limit == 0 and not is_closed:
        changed_fields["concurrency_limit"] = None
    client.update_work_queue(queue.id, **changed_fields)


def _put_automation(client: SyncPrefectClient, automation: Automation, automation_id: str | None) -> None:
    document: dict[str, Any] = {
        "name": automation.name,
        "description": automation.description,
        "enabled": automation.enabled,
        "trigger": dict(automation.trigger),
        "actions": [dict(action) for action in automation.actions],
        "actions_on_trigger": [dict(action) for action in automation.at_trigger],
        "actions_on_resolve": [dict(action) for action in automation.at_resolve],
    }
    core = AutomationCore.model_validate(document)
    if automation_id is None:
        client.create_automation(core)
    else:
        client.update_automation(UUID(automation_id), core)
