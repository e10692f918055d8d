"""Checks of configurations against the policy: rules that are about no machine, and what rules would always refuse."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deployments.checks.finding import ConfigurationFinding, warn
from deployments.configuration.model import Configurations, Inventories
from flows.approval.answers import find_approval_deadlock
from flows.freezes.time_values import MACHINE_ZONE
from flows.policy.enforcement import build_starter, decide_request
from flows.policy.policy_file import load_policy
from inventory.errors import FleetpatchError
from tasks.rules.policy.decision import describe_refusal
from tasks.rules.policy.model import Policy
from tasks.rules.runs.approval import MAINTENANCE_STARTER

POLICY_NAME = "policy"
"""Stands in findings where others have the name of a configuration."""
_ABOUT_ONE_WINDOW = "freezes"
"""The key of refusals that are about a window, and not about a configuration."""


def check_policy(
    configurations: Configurations, inventories: Inventories, now: datetime
) -> tuple[ConfigurationFinding, ...]:
    """Return the findings about the policy and what it says to configurations. Unreadable inventories are skipped.

    Raises:
        InventoryError: the policy can't be read: no run begins.
    """
    policy = load_policy(now.date(), configurations.source_path)
    return (
        *_check_inventories(policy),
        *_check_rules(policy, inventories),
        *_check_requests(policy, configurations, inventories, now),
    )


def _check_inventories(policy: Policy) -> Iterator[ConfigurationFinding]:
    for limit in policy.inventory_limits:
        for path in sorted(limit.paths):
            if not Path(path).exists():
                message = f"{limit.place} names an inventory that does not exist: {path}"
                remedy = "Correct the path: it is relative to the folder of the policy."
                yield warn(POLICY_NAME, "inventories", message, remedy)


def _check_rules(policy: Policy, inventories: Inventories) -> Iterator[ConfigurationFinding]:
    machines = list(inventories.iterate_machines())
    for rule in policy.rules if machines else ():
        if not rule.select_machines(machines):
            message = f"the rule {rule.name} ({rule.place}) is about no machine: {rule.scope}"
            yield warn(POLICY_NAME, "scope", message, "Correct its scope, or remove the rule: it protects nothing.")


def _check_requests(
    policy: Policy, configurations: Configurations, inventories: Inventories, now: datetime
) -> Iterator[ConfigurationFinding]:
    for configuration in configurations.enabled_configurations:
        inventory = inventories.get_inventory(configuration)
        if inventory is None:
            continue
        request = configuration.build_request("UTC" if configuration.zone == MACHINE_ZONE else configuration.zone)
        starter = build_starter(f"the schedule of {configuration.name}")
        try:
            machines = inventories.select_machines(configuration)
            decision = decide_request(request, machines, inventory, starter, now, policy=policy)
        except FleetpatchError:
            continue  # another check says what is wrong with the configuration
        for refusal in decision.refusals:
            if refusal.key != _ABOUT_ONE_WINDOW:
                message = f"the policy refuses its runs: {describe_refusal(refusal)}"
                yield warn(configuration.name, refusal.key, message, "Change the configuration, or the rule.")
        if configuration.form.maintenance is not None and not decision.refusals:
            last_run = request.model_copy(update={"outside_window": True})
            starter = build_starter(MAINTENANCE_STARTER)
            decision = decide_request(last_run, machines, inventory, starter, now, policy=policy)
            refusals = [describe_refusal(refusal) for refusal in decision.refusals if refusal.key != _ABOUT_ONE_WINDOW]
            reason = "; ".join(refusals) or find_approval_deadlock(request, MAINTENANCE_STARTER)
            if reason:
                message = f"maintenance control can't apply what is held after its last day: {reason}"
                remedy = "Let windows recur often enough, or apply it yourself."
                yield warn(configuration.name, "maintenance", message, remedy)
