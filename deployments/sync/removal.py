"""Removes what `deploy` made for a fleet: its deployments, automations and waiting flow runs. Work pools stay."""

from collections.abc import Callable
from dataclasses import dataclass

from prefect.client.orchestration import SyncPrefectClient

from deployments.sync.actual_state import read_actual_state
from deployments.sync.change_applier import apply_changes
from deployments.sync.diff import find_changes
from deployments.sync.model import Change, DeploymentSet


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What would be removed."""

    actual: DeploymentSet
    changes: tuple[Change, ...]

    def apply(self, client: SyncPrefectClient, report_change: Callable[[Change], None]) -> None:
        """Remove it. A second call does no harm."""
        apply_changes(client, self.changes, DeploymentSet(), self.actual, report_change)


def plan_removal(client: SyncPrefectClient, fleet: str, pool: str) -> RemovalPlan:
    """Return what a fleet has on a server. No configuration and no inventory is needed. This changes nothing.

    Args:
        client: client of the server.
        fleet: the name of the fleet on the server.
        pool: its work pool, which stays: others may use it.
    """
    actual = read_actual_state(client, fleet, pool)
    return RemovalPlan(actual, find_changes(DeploymentSet(), actual))
