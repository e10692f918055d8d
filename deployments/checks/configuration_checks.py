"""Checks of configurations that find errors before the first window. They read no files."""

from collections.abc import Iterator
from datetime import datetime

from deployments.checks.automatic_checks import check_automatic
from deployments.checks.finding import ConfigurationFinding, block, warn
from deployments.checks.window_checks import check_overlaps, check_windows
from deployments.configuration.model import Configuration, Configurations, Inventories
from deployments.preview.zone_schedules import is_over
from inventory.errors import EmptyScopeError, InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, PatchOwner
from inventory.name_lists import format_count
from inventory.scope import Scope
from tasks.domain.states import RebootPolicy
from tasks.rules.calendar.checks import FindingSeverity
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.runs.failure_budget import OutcomeClass, OutcomeTally, check_failures
from tasks.rules.runs.waves import count_canaries

_LAST_RUN_PREFIX = "last:"


def check_configurations(
    configurations: Configurations, inventories: Inventories, now: datetime
) -> tuple[ConfigurationFinding, ...]:
    """Return the findings about configurations, in their order. Inventories that could not be read are skipped."""
    result = [
        finding
        for configuration in configurations.all_configurations
        for finding in _check_configuration(configuration, configurations, inventories, now)
    ]
    return (*result, *check_overlaps(configurations, inventories, now), *check_automatic(configurations, inventories))


def find_blocking_findings(
    configurations: Configurations, inventories: Inventories, now: datetime
) -> tuple[ConfigurationFinding, ...]:
    """Return the findings that prevent a deployment; see ``check_configurations``."""
    findings = [
        finding
        for configuration in configurations.all_configurations
        for finding in _check_configuration(configuration, configurations, inventories, now)
    ]
    findings += check_automatic(configurations, inventories)
    return tuple(entry for entry in findings if entry.severity is FindingSeverity.BLOCKS)


def _check_configuration(
    configuration: Configuration, configurations: Configurations, inventories: Inventories, now: datetime
) -> Iterator[ConfigurationFinding]:
    if configuration.is_enabled:
        yield from check_windows(configuration, inventories, now)
        if is_over(configuration, inventories, now):
            return  # its other faults have no effect
    yield from _check_request(configuration, configurations)
    inventory = inventories.get_inventory(configuration)
    if inventory is not None:
        yield from _check_machines(configuration, inventory, inventories)


def _check_request(configuration: Configuration, configurations: Configurations) -> Iterator[ConfigurationFinding]:
    form = configuration.form
    if not form.updates.classifications and not form.updates.include and not form.updates.as_in_run:
        message = "it selects no updates: no classification and no name"
        yield block(configuration.name, "updates", message, "Name classifications, or masks under `include`.")
    if form.reboot is not RebootPolicy.NEVER and form.reboot_reserve_minutes >= configuration.window_minutes:
        reserve = format_duration(form.reboot_reserve_minutes * 60)
        length = format_duration(configuration.window_minutes * 60)
        message = f"the reboot reserve takes {reserve} of the window's {length}: nothing can be installed"
        remedy = "Make the window longer, `reboot_reserve_minutes` smaller, or write `reboot: Never`."
        yield block(configuration.name, "window", message, remedy)
    announced = form.announce.notice_minutes if form.announce.enabled and form.reboot is not RebootPolicy.NEVER else 0
    if announced and announced + form.reboot_reserve_minutes > configuration.window_minutes:
        notice, length = format_duration(announced * 60), format_duration(configuration.window_minutes * 60)
        message = (
            f"a reboot is announced {notice} ahead, and the window has {length}: only machines that begin first reboot"
        )
        yield warn(configuration.name, "announce", message, "Make the window longer, or `notice_minutes` smaller.")
    if form.approval.required and not configuration.lead_minutes:
        message = "people can approve only while its window is open: the run starts with the window"
        yield warn(configuration.name, "lead", message, "Give it a `lead`, such as 8h.")
    if configuration.stage_ahead_minutes is not None and not form.stage:
        message = "updates are staged ahead, but `stage` is off"
        yield warn(configuration.name, "stage_ahead", message, "Leave one of the two out.")
    yield from _check_waves(configuration)
    yield from _check_update_source(configuration, configurations)


def _check_update_source(
    configuration: Configuration, configurations: Configurations
) -> Iterator[ConfigurationFinding]:
    source = configuration.form.updates.as_in_run
    names = [entry.name for entry in configurations.all_configurations]
    if source.startswith(_LAST_RUN_PREFIX) and source.removeprefix(_LAST_RUN_PREFIX).strip() not in names:
        source_name = source.removeprefix(_LAST_RUN_PREFIX).strip()
        message = f"it uses the updates of the configuration {source_name!r}, which does not exist"
        yield warn(configuration.name, "updates", message, f"{did_you_mean(source_name, names)}Correct the name.")


def _check_machines(
    configuration: Configuration, inventory: Inventory, inventories: Inventories
) -> Iterator[ConfigurationFinding]:
    names = {machine.name for machine in inventory.machines} if configuration.form.machines else set()
    for name in configuration.form.machines or ():
        if name not in names:
            remedy = f"{did_you_mean(name, names)}Correct the name, or remove it."
            yield warn(configuration.name, "machines", f"there is no machine {name!r} in the inventory", remedy)
    try:
        if configuration.form.scope and configuration.form.machines:
            Scope.parse(configuration.form.scope).select_machines(inventory)
        machines = inventories.select_machines(configuration)
    except EmptyScopeError as error:
        yield warn(configuration.name, "scope", error.message, error.hint)
    except InventoryError as error:
        yield block(configuration.name, "scope", error.message, error.hint)
    else:
        yield from _check_canaries(configuration, len(machines))
        foreign_machines = [machine.name for machine in machines if machine.owner is not PatchOwner.FLEETPATCH]
        if foreign_machines:
            share = (
                "all of its machines"
                if len(foreign_machines) == len(machines)
                else f"{len(foreign_machines)} of its {format_count(len(machines), 'machine')}"
            )
            message = f"{share} have another patch owner, and are only assessed: {', '.join(foreign_machines[:5])}"
            yield warn(configuration.name, "scope", message, "If you want that, add `owner=fleetpatch` to its scope.")


def _check_waves(configuration: Configuration) -> Iterator[ConfigurationFinding]:
    """Yield findings for keys that have no effect because of another key. The number of machines does not matter."""
    waves = configuration.form.waves
    model_fields_set = waves.model_fields_set
    if waves.go_on_after_failed_canary and not (waves.canary_count or waves.canary_percent):
        message = "`go_on_after_failed_canary` is on, but there are no canaries"
        yield warn(configuration.name, "waves", message, "Give `canary_count` or `canary_percent`, or leave it out.")
    if waves.failure_budget_count is not None and "failure_budget_percent" in model_fields_set:
        message = "`failure_budget_percent` has no effect, because `failure_budget_count` is given"
        yield warn(configuration.name, "waves", message, "Leave one of the two out.")


def _check_canaries(configuration: Configuration, machine_count: int) -> Iterator[ConfigurationFinding]:
    """Yield findings for canaries that protect no machine, or that can't stop the run, for this number of machines."""
    policy = configuration.form.waves.to_wave_policy()
    canaries = count_canaries(machine_count, policy)
    if not canaries:
        return
    if canaries >= machine_count > 1:
        message = f"all of its machines ({machine_count}) are canaries: they protect no other machine"
        yield warn(configuration.name, "waves", message, "Make `canary_count` or `canary_percent` smaller.")
    elif canaries < machine_count:
        failed = {OutcomeClass.FAILED: canaries}
        run, wave = OutcomeTally(machine_count, failed), OutcomeTally(canaries, failed)
        if not check_failures(policy.budget, run, wave, canary=True):
            failed_canaries = "its canary fails" if canaries == 1 else f"all of its {canaries} canaries fail"
            message = f"when {failed_canaries}, the run continues with the other machines: canaries have no effect"
            remedy = "Leave out `go_on_after_failed_canary`, or let fewer machines fail (`failure_budget_count`)."
            yield warn(configuration.name, "waves", message, remedy)
