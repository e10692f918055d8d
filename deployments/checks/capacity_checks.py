"""Checks whether the machines of configurations fit into their windows, before a night shows that they don't."""

from collections.abc import Iterator

from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.inventories import Inventories
from deployments.configuration.model import Configurations
from deployments.preview.window_fit import estimate_fits
from deployments.preview.zone_schedules import build_zone_schedules
from flows.freezes.time_values import MACHINE_ZONE
from tasks.records.queries.fleet.learned_durations import LearnedDurations
from tasks.rules.calendar.checks import FindingSeverity


def check_capacity(
    configurations: Configurations, inventories: Inventories, learned: LearnedDurations
) -> Iterator[ConfigurationFinding]:
    """Yield a warning for each enabled configuration whose machines don't fit into its window, in each zone.

    Args:
        configurations: all configurations.
        inventories: their machines.
        learned: what past runs tell; nothing: default durations.
    """
    schedules = build_zone_schedules(configurations, inventories)
    by_machine_zone = {
        schedule.configuration.name for schedule in schedules if schedule.configuration.zone == MACHINE_ZONE
    }
    for fit in estimate_fits(schedules, learned):
        if fit.message:
            zone = f" ({fit.zone})" if fit.configuration in by_machine_zone else ""
            yield ConfigurationFinding(
                fit.configuration, FindingSeverity.WARNS, "window", f"{fit.message}{zone}", fit.remedy
            )
