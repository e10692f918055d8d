"""The desired state: a deployment for each configuration and zone, and the built-in deployments."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from deployments.configuration.model import Configuration, Configurations, ScheduledRequest
from deployments.configuration.prefect_names import AUTOMATIC_NAME, build_stage_slug
from deployments.sync.builtin_deployments import (
    build_automatic_deployment,
    build_automations,
    build_builtin_deployments,
    build_control_deployment,
    build_refresh_deployment,
)
from deployments.sync.model import (
    AnyFlow,
    Deployment,
    DeploymentSet,
    ScheduleSpec,
    WorkPool,
    build_deployment,
    build_interval_schedule,
)
from flows.maintenance import stage_fleet
from flows.patch import patch_fleet
from flows.prefect_api.tags import DISABLED_TAG, build_configuration_tag, build_shown_tag, build_site_name
from inventory.errors import InventoryError
from inventory.machine import DEFAULT_SITE, Inventory
from inventory.scope import Scope
from tasks.domain.errors import RequestError
from tasks.rules.calendar.description import describe_schedule
from tasks.rules.calendar.freezes import find_freeze
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.calendar.prefect_schedule import (
    COMPARISON_HORIZON,
    PrefectScheduleKind,
    build_prefect_schedule,
    is_schedule_current,
)
from tasks.rules.calendar.schedule import iterate_occurrences

DATE_LIST_REACH = timedelta(days=90)
"""How far a list of dates must reach. Prefect's scheduler looks at most 100 days ahead."""
SCHEDULE_LOOKBACK = timedelta(days=7)
"""How far back schedules in Prefect reach, so that a waiting run still matches one of the dates."""
RULE_COMPARISON_REACH = timedelta(days=730)
"""How far a rule is compared with the dates of its windows."""
MAX_CONCURRENT_RUNS = 1
"""Concurrent runs of one configuration. Prefect cancels a second run; queued, it would start outside its window."""


def build_desired_state(
    configurations: Configurations,
    inventories: Mapping[str, Inventory],
    now: datetime,
    *,
    inventory_paths: Mapping[str, Path],
    fleet: str,
    pool: str,
    inventory: Path | None,
    sites: Collection[str],
    current_schedules: Mapping[tuple[str, str], ScheduleSpec],
    refresh_flow: AnyFlow,
    has_components: bool = False,
) -> DeploymentSet:
    """Return the Prefect objects that a fleet should have.

    Deployments of disabled configurations are paused. Inventories, which give the zones of machines, and their paths
    are by the name of the configuration, "automatic" included: a run starts in its own folder, so each request has the
    path. ``inventory`` is that of the scheduled assessment. ``sites`` are those that have machines. ``has_components``
    tells whether there is a file of components.
    ``current_schedules`` are those in Prefect, by full name of the deployment and slug: one with the same windows stays
    as it is.

    Raises:
        RequestError: two deployments would have the same name.
    """
    window_deployments = [
        deployments
        for configuration in configurations.all_configurations
        for opening in configuration.build_remaining_requests(inventories[configuration.name], now)
        for deployments in _build_window_deployments(
            configuration,
            replace(
                opening, request=opening.request.model_copy(update={"inventory": inventory_paths[configuration.name]})
            ),
            now,
            fleet,
            pool,
            current_schedules,
            _find_executing_site(inventories[configuration.name], opening.request.scope),
        )
    ]
    path = configurations.source_path.absolute()
    refresh = build_refresh_deployment(refresh_flow, fleet, pool, inventory, path)
    builtin = (*build_builtin_deployments(fleet, pool, inventory, sites, has_components=has_components), refresh)
    automatic = (
        [build_automatic_deployment(configurations.automatic, fleet, pool, inventory_paths[AUTOMATIC_NAME])]
        if configurations.automatic is not None
        else []
    )
    is_held = any(configuration.form.maintenance is not None for configuration in configurations.all_configurations)
    control = [build_control_deployment(fleet, pool, inventory, path)] if is_held else []
    all_deployments = (*builtin, *automatic, *control, *window_deployments)
    duplicate_names = [
        name for name, times in Counter(deployment.full_name for deployment in all_deployments).items() if times > 1
    ]
    if duplicate_names:
        name = duplicate_names[0].partition("/")[2]
        raise RequestError(
            f"two deployments would be named {duplicate_names[0]}: Prefect would keep only the last one",
            hint=f"Give the configuration {name.partition('@')[0]!r} another name.",
        )
    pools = tuple(WorkPool(build_site_name(pool, site)) for site in (DEFAULT_SITE, *sorted({*sites} - {DEFAULT_SITE})))
    return DeploymentSet(all_deployments, build_automations(fleet), pools)


def _find_executing_site(inventory: Inventory, scope: str) -> str:
    """Return the site whose worker executes the runs of a scope; of several sites it is the default site."""
    try:
        sites = {machine.site for machine in Scope.parse(scope).select_machines(inventory)}
    except InventoryError:  # no machine is in the scope now
        return DEFAULT_SITE
    return next(iter(sites)) if len(sites) == 1 else DEFAULT_SITE


def _build_window_deployments(
    configuration: Configuration,
    scheduled_request: ScheduledRequest,
    now: datetime,
    fleet: str,
    pool: str,
    current_schedules: Mapping[tuple[str, str], ScheduleSpec],
    site: str,
) -> Iterator[Deployment]:
    """Yield the deployments of one scheduled request: its run, and its download before the window if it has one."""
    window_description = f"{describe_schedule(scheduled_request.schedule)}, for {configuration.scope}."
    stage_ahead_minutes = configuration.stage_ahead_minutes
    kinds = [
        (patch_fleet, scheduled_request.slug, configuration.lead_minutes, window_description, scheduled_request.request)
    ]
    if stage_ahead_minutes is not None:
        description = (
            f"Downloads {format_duration(stage_ahead_minutes * 60)} ahead of its windows: {window_description}"
        )
        window = scheduled_request.request.window  # that of the download ends at the latest when the real one opens
        stage_window = window.model_copy(update={"minutes": min(window.minutes, stage_ahead_minutes)})
        stage_request = scheduled_request.request.model_copy(update={"window": stage_window})
        kinds.append(
            (stage_fleet, build_stage_slug(scheduled_request.slug), stage_ahead_minutes, description, stage_request)
        )
    for flow, slug, minutes, description, request in kinds:
        current_schedule = current_schedules.get((f"{flow.name}/{scheduled_request.slug}", slug))
        new_schedule = build_window_schedule(
            configuration, scheduled_request, now, current_schedule, slug=slug, lead=timedelta(minutes=minutes)
        )
        yield build_deployment(
            flow,
            scheduled_request.slug,
            fleet,
            pool,
            description="\n\n".join(word for word in (configuration.form.description, description) if word),
            parameters={"request": request.model_dump(mode="json", exclude_defaults=True)},
            schedules=[new_schedule] if new_schedule is not None else [],
            tags=[
                build_shown_tag(configuration.name),
                build_configuration_tag(configuration.name),
                *configuration.tags,
                *([] if configuration.is_enabled else [DISABLED_TAG]),
            ],
            at_once=MAX_CONCURRENT_RUNS,
            paused=not configuration.is_enabled,
            site=site,
        )


def build_window_schedule(
    configuration: Configuration,
    scheduled_request: ScheduledRequest,
    now: datetime,
    current_schedule: ScheduleSpec | None,
    *,
    slug: str,
    lead: timedelta,
) -> ScheduleSpec | None:
    """Return a Prefect schedule that starts runs ``lead`` before their windows open, or None if no window is left."""
    freezes = configuration.build_freezes(scheduled_request.zone)
    if current_schedule is not None:
        comparison_end = now + (DATE_LIST_REACH if current_schedule.is_date_list else RULE_COMPARISON_REACH)
        if is_schedule_current(
            current_schedule.prefect_schedule, scheduled_request.schedule, now, comparison_end, lead, freezes
        ):
            return replace(current_schedule, active=configuration.is_enabled, parameters={}, most=None)
    comparison_end = now + lead + COMPARISON_HORIZON
    if all(
        find_freeze(window, freezes) is not None
        for window in iterate_occurrences(scheduled_request.schedule, now + lead, until=comparison_end)
    ):
        return None
    first_start = (
        next(
            iterate_occurrences(scheduled_request.schedule, now + lead - SCHEDULE_LOOKBACK, until=comparison_end)
        ).start
        - lead
    )
    prefect_schedule = build_prefect_schedule(scheduled_request.schedule, min(now, first_start), lead, freezes)
    if (
        prefect_schedule.kind is PrefectScheduleKind.INTERVAL
        and prefect_schedule.interval is not None
        and prefect_schedule.anchor is not None
    ):
        return build_interval_schedule(
            slug, prefect_schedule.interval.total_seconds(), prefect_schedule.anchor, active=configuration.is_enabled
        )
    return ScheduleSpec(
        slug,
        prefect_schedule.text,
        prefect_schedule.zone,
        configuration.is_enabled,
        until=prefect_schedule.covered_until,
    )
