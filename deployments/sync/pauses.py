"""Pauses that a person set in Prefect: of deployments, schedules and the work pool. No I/O.

A `deploy` without a person at the terminal must not lift them. Otherwise a window that somebody paused in an emergency
would be open after the next commit. A pause that `deploy` itself wrote, for a configuration with `enabled: false`, has
a tag.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from deployments.sync.model import Deployment, DeploymentSet, ScheduleSpec, WorkPool
from flows.prefect_api.tags import DISABLED_TAG


def keep_pauses(desired: DeploymentSet, actual: DeploymentSet) -> tuple[DeploymentSet, tuple[str, ...]]:
    """Return the desired state with the pauses of people, and a description of each pause that is kept.

    Args:
        desired: the objects that should exist.
        actual: the existing objects.
    """
    deployments_by_name = {deployment.full_name: deployment for deployment in actual.deployments}
    pools_by_name = {pool.name: pool for pool in actual.pools}
    deployments = tuple(
        _keep_deployment(deployment, deployments_by_name.get(deployment.full_name))
        for deployment in desired.deployments
    )
    pools = tuple(_keep_pool(pool, pools_by_name.get(pool.name)) for pool in desired.pools)
    remaining_state = replace(desired, deployments=deployments, pools=pools)
    return remaining_state, tuple(_describe_pauses(desired, remaining_state))


def _keep_deployment(desired: Deployment, actual: Deployment | None) -> Deployment:
    if actual is None or DISABLED_TAG in actual.tags or desired.paused:
        return desired
    schedules = {line.slug: line for line in actual.schedules}
    return replace(
        desired,
        paused=actual.paused,
        schedules=tuple(_keep_schedule(line, schedules) for line in desired.schedules),
    )


def _keep_schedule(desired: ScheduleSpec, actual: Mapping[str, ScheduleSpec]) -> ScheduleSpec:
    is_off = desired.slug in actual and not actual[desired.slug].active
    return replace(desired, active=False) if is_off else desired


def _keep_pool(desired: WorkPool, actual: WorkPool | None) -> WorkPool:
    if actual is None:
        return desired
    return replace(
        desired,
        paused=actual.paused,
        closed=actual.closed,
        queue_paused=actual.queue_paused,
        queue_closed=actual.queue_closed,
        assessments_paused=actual.assessments_paused,
        assessments_closed=actual.assessments_closed,
    )


def _describe_pauses(desired: DeploymentSet, kept: DeploymentSet) -> Iterator[str]:
    for ours, theirs in zip(desired.pools, kept.pools, strict=True):
        if ours != theirs:
            yield f"work pool {theirs.name} or a queue of it"
    for desired_deployment, kept_deployment in zip(desired.deployments, kept.deployments, strict=True):
        if desired_deployment.paused != kept_deployment.paused:
            yield f"deployment {kept_deployment.full_name}"
        for ours_line, theirs_line in zip(desired_deployment.schedules, kept_deployment.schedules, strict=True):
            if ours_line.active != theirs_line.active:
                yield f"schedule {theirs_line.slug} of {kept_deployment.full_name}"
