"""Computes the changes from the actual state to the desired state, and which pauses of people stay. No I/O."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

from deployments.sync.model import (
    Automation,
    Change,
    ChangeAction,
    Deployment,
    DeploymentSet,
    ScheduleSpec,
    WaitingFlowRun,
    WorkPool,
)
from flows.prefect_api.deployment_changes import ActiveSchedule, find_changed_fields, find_outdated_reason
from flows.prefect_api.tags import DISABLED_TAG

_PAUSES_OF_POOLS = ("paused", "closed", "queue_paused", "queue_closed", "assessments_paused", "assessments_closed")


def keep_pauses(desired: DeploymentSet, actual: DeploymentSet) -> tuple[DeploymentSet, tuple[str, ...]]:
    """Return the desired state with the pauses of people, and a description of each pause that is kept.

    A `deploy` without a person at the terminal must not lift them. Otherwise a window that somebody paused in an
    emergency would be open after the next commit. A pause that `deploy` itself wrote, for a configuration with
    `enabled: false`, has a tag.
    """
    actual_deployments = {deployment.full_name: deployment for deployment in actual.deployments}
    actual_pools = {pool.name: pool for pool in actual.pools}
    pools, deployments, kept_pauses = [], [], []
    for pool in desired.pools:
        current_pool = actual_pools.get(pool.name, pool)
        pools.append(replace(pool, **{name: getattr(current_pool, name) for name in _PAUSES_OF_POOLS}))
        if pools[-1] != pool:
            kept_pauses.append(f"work pool {pool.name} or a queue of it")
    for deployment in desired.deployments:
        current = actual_deployments.get(deployment.full_name)
        if current is None or DISABLED_TAG in current.tags or deployment.paused:
            deployments.append(deployment)
            continue
        off = {line.slug for line in current.schedules if not line.active}
        kept_pauses += [f"deployment {deployment.full_name}"] if current.paused else []
        kept_pauses += [
            f"schedule {line.slug} of {deployment.full_name}"
            for line in deployment.schedules
            if line.active and line.slug in off
        ]
        schedules = tuple(replace(line, active=line.active and line.slug not in off) for line in deployment.schedules)
        deployments.append(replace(deployment, paused=current.paused, schedules=schedules))
    return replace(desired, deployments=tuple(deployments), pools=tuple(pools)), tuple(kept_pauses)


_MAX_VALUE_CHARACTERS = 80  # maximum length of a value in a difference


def find_changes(desired: DeploymentSet, actual: DeploymentSet, *, prune: bool = True) -> tuple[Change, ...]:
    """Return the changes in a valid order: pools before deployments, removals (with ``prune``) last.

    Work pools always stay, because others may use them.

    Cancellations of waiting runs with the old request come first, because a worker may start such a run at any time.
    """
    new = {deployment.full_name: deployment for deployment in desired.deployments}
    unchanged_names = {  # with the others, Prefect itself deletes the runs that it has scheduled
        deployment.full_name for deployment in actual.deployments if new.get(deployment.full_name) == deployment
    }
    result = [
        *[
            Change(ChangeAction.CANCEL, "flow run", run.title, (reason,))
            for run, reason in find_outdated_runs(desired, actual, prune=prune)
            if run.deployment in unchanged_names or not (run.is_scheduled and run.state == "Scheduled")
        ],
        *_compare_objects("work pool", desired.pools, actual.pools),
        *_compare_objects("deployment", desired.deployments, actual.deployments),
        *_compare_objects("automation", desired.automations, actual.automations),
    ]
    result += [
        Change(ChangeAction.REMOVE, "automation", name, (f"{len(copy_ids)} copies of it",))
        for name, copy_ids in actual.duplicate_automations.items()
    ]
    if prune:
        result += _build_removals("automation", desired.automations, actual.automations)
        result += _build_removals("deployment", desired.deployments, actual.deployments)
    return tuple(result)


def find_outdated_runs(
    desired: DeploymentSet, actual: DeploymentSet, *, prune: bool = True
) -> Iterator[tuple[WaitingFlowRun, str]]:
    """Yield the waiting flow runs that must not start, each with the reason.

    A run from a schedule must be what its schedule would make now. A run from a person stays, with two exceptions: its
    configuration is disabled now; or one of its values equals the deployment's old value, and the deployment has a new
    value.
    """
    new, old = ({deployment.full_name: deployment for deployment in setup.deployments} for setup in (desired, actual))
    for run in actual.waiting_runs:
        desired_deployment, actual_deployment = new.get(run.deployment), old[run.deployment]
        if desired_deployment is None:
            reason = "its deployment is removed" if prune else ""
        elif run.is_scheduled:
            times = [
                ActiveSchedule(schedule.prefect_schedule)
                for schedule in desired_deployment.schedules
                if schedule.active
            ]
            reason = find_outdated_reason(
                run.parameters,
                run.expected_start,
                desired_deployment.parameters,
                times,
                paused=desired_deployment.paused,
            )
        else:
            reason = _find_manual_run_reason(run, desired_deployment, actual_deployment)
        if reason:
            yield run, reason


def _find_manual_run_reason(run: WaitingFlowRun, desired: Deployment, actual: Deployment) -> str:
    if desired.paused:
        return "" if actual.paused else "its deployment is disabled"
    outdated_fields = set(find_changed_fields(actual.parameters, desired.parameters)) - set(
        find_changed_fields(run.parameters, actual.parameters)
    )
    return f"its deployment has another request now ({', '.join(sorted(outdated_fields))})" if outdated_fields else ""


def is_up_to_date(changes: Sequence[Change]) -> bool:
    """Return whether there are no changes."""
    return all(change.action is ChangeAction.KEEP for change in changes)


PrefectObject = Deployment | Automation | WorkPool


def _get_name(prefect_object: PrefectObject) -> str:
    return prefect_object.full_name if isinstance(prefect_object, Deployment) else prefect_object.name


def _compare_objects(kind: str, desired: Sequence[PrefectObject], actual: Sequence[PrefectObject]) -> list[Change]:
    actual_by_name = {_get_name(prefect_object): prefect_object for prefect_object in actual}
    result = []
    for prefect_object in desired:
        name = _get_name(prefect_object)
        if name not in actual_by_name:
            result.append(Change(ChangeAction.CREATE, kind, name))
            continue
        differences = tuple(_describe_differences(prefect_object, actual_by_name[name]))
        result.append(Change(ChangeAction.UPDATE if differences else ChangeAction.KEEP, kind, name, differences))
    return result


def _build_removals(kind: str, desired: Sequence[PrefectObject], actual: Sequence[PrefectObject]) -> list[Change]:
    names = {_get_name(prefect_object) for prefect_object in desired}
    return [
        Change(ChangeAction.REMOVE, kind, _get_name(prefect_object))
        for prefect_object in actual
        if _get_name(prefect_object) not in names
    ]


def _describe_differences(desired: PrefectObject, actual: PrefectObject) -> list[str]:
    differences: list[str] = []
    for field in fields(desired):
        new, old = getattr(desired, field.name), getattr(actual, field.name)
        if new == old:
            continue
        if field.name == "schedules":
            differences += _describe_schedule_differences(new, old)
        elif field.name == "schema":
            # A new release causes dozens in a form, which would hide manual changes: one line for all.
            in_form = _describe_key_differences("", new, old)
            more = f", and {len(in_form) - 1} more" if len(in_form) > 1 else ""
            differences.append(f"form: {in_form[0].strip()}{more}")
        elif isinstance(new, Mapping) and isinstance(old, Mapping):
            differences += _describe_key_differences(field.name, new, old)
        else:
            differences.append(f"{field.name}: {_shorten_value(old)} → {_shorten_value(new)}")
    return differences


def _describe_schedule_differences(desired: Sequence[ScheduleSpec], actual: Sequence[ScheduleSpec]) -> list[str]:
    new, old = {line.slug: line for line in desired}, {line.slug: line for line in actual}
    differences = [f"schedule {slug}: missing" for slug in new.keys() - old.keys()]
    differences += [f"schedule {slug}: not ours" for slug in old.keys() - new.keys()]
    for slug in new.keys() & old.keys():
        if new[slug] != old[slug]:
            parts = [
                f"{name} {_shorten_value(getattr(old[slug], name))} → {_shorten_value(getattr(new[slug], name))}"
                for name in ("rule", "zone", "active", "every", "anchor", "parameters", "most")
                if getattr(new[slug], name) != getattr(old[slug], name)
            ]
            differences.append(f"schedule {slug}: {', '.join(parts)}")
    return sorted(differences)


def _describe_key_differences(
    field_name: str, desired: Mapping[str, object], actual: Mapping[str, object], path: str = ""
) -> list[str]:
    """Return the different keys at the deepest level. A whole form would be too long to read."""
    differences: list[str] = []
    for key in sorted(desired.keys() | actual.keys()):
        new, old, key_path = desired.get(key), actual.get(key), f"{path}.{key}" if path else key
        if new == old:
            continue
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            differences += _describe_key_differences(field_name, new, old, key_path)
        else:
            differences.append(f"{field_name} {key_path}: {_shorten_value(old)} → {_shorten_value(new)}")
    return differences


def _shorten_value(value: object) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else f"{text[: _MAX_VALUE_CHARACTERS - 1]}…"
