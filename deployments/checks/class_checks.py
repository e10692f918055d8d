"""Checks of keys with classifications that updates of the machines can't have. They read no machine."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from deployments.checks.finding import ConfigurationFinding, warn
from deployments.checks.policy_checks import POLICY_NAME
from deployments.configuration.model import Configurations, Inventories
from deployments.configuration.prefect_names import AUTOMATIC_NAME
from flows.policy.policy_file import load_policy
from inventory.errors import InventoryError
from inventory.machine import Machine
from inventory.scope import Scope
from tasks.domain.states import Classification
from tasks.machines.managers.registry import POSSIBLE_CLASSES, USUAL_MANAGERS, find_family_manager
from tasks.rules.updates.possible_classes import find_impossible_classes

_REMEDY = "Name what they can be: docs/reference/platforms.md. Where nothing is Critical, such updates are Security."


def check_classes(
    configurations: Configurations, inventories: Inventories, managers: Mapping[str, str], now: datetime
) -> Iterator[ConfigurationFinding]:
    """Yield the findings about each key that takes classifications. Unreadable inventories are skipped.

    Args:
        configurations: what is checked.
        inventories: its machines.
        managers: the package manager of each machine that was assessed, by its name.
        now: the present time.

    Raises:
        InventoryError: the policy can't be read.
    """
    for configuration in configurations.all_configurations:
        try:
            machines = inventories.select_machines(configuration)
        except InventoryError:
            continue  # another check says what is wrong with it
        form = configuration.form
        yield from _check_key(configuration.name, "updates", form.updates.classifications, machines, managers)
        if form.maintenance is not None:
            yield from _check_key(configuration.name, "maintenance", form.maintenance.not_held, machines, managers)
    automatic = configurations.automatic
    inventory = inventories.by_path.get(automatic.inventory) if automatic is not None else None
    if automatic is not None and inventory is not None:
        scope = Scope.parse(automatic.scope)
        machines = tuple(machine for machine in inventory.machines if scope.matches(machine))
        yield from _check_key(AUTOMATIC_NAME, "classifications", automatic.classifications, machines, managers)
    every_machine = list(inventories.iterate_machines())
    for rule in load_policy(now.date(), configurations.source_path).rules:
        machines, key = rule.select_machines(every_machine), f"{rule.name}.classifications"
        yield from _check_key(POLICY_NAME, key, rule.classifications or (), machines, managers)


def _check_key(
    name: str, key: str, classes: Collection[Classification], machines: Iterable[Machine], managers: Mapping[str, str]
) -> Iterator[ConfigurationFinding]:
    found = [
        manager.name if (manager := find_family_manager(machine.os)) else managers.get(machine.name, "")
        for machine in machines
    ]
    for message in find_impossible_classes(classes, found, POSSIBLE_CLASSES, USUAL_MANAGERS):
        yield warn(name, key, message, _REMEDY)
