"""The flow upgrade-components. A schedule starts it every hour: it upgrades one component, or group, that is due."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from prefect.states import Completed

from flows.components.component_file import load_catalogue
from flows.components.fleet_components import read_knowledge
from flows.components.upgrades import ComponentUpgrade, plan_enrolled_upgrades, require_own_files
from flows.disk_cleaning import clean_replaced_disks
from flows.engine.run_lease import build_component_lease
from flows.flow_execution import cast_to_report, execute_in_flow
from flows.images.fleet_images import read_image_knowledge
from flows.images.image_file import load_image_groups
from flows.ports.caller import Caller, current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.flow_run_origin import name_starter
from flows.prefect_runtime.run_log import log_to_flow_run
from flows.recovery.flow_run_hooks import resume_after_cancellation, resume_after_crash
from inventory.loader import find_inventory, load_inventory
from inventory.scope import Scope
from inventory.sites import find_site
from tasks.domain.model import RunReport
from tasks.domain.protocols.clock import SystemClock
from tasks.records.components import SqlComponents
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords

UPGRADE_INTERVAL_SECONDS: Final = 3600
TURN_INTERVAL: Final = timedelta(days=1)
"""A component has one turn in it, whatever comes of its run: a machine that is off keeps neither others waiting, nor is
it tried each hour.
"""


@flow(
    name="upgrade-components",
    persist_result=False,
    on_cancellation=[resume_after_cancellation],
    on_crashed=[resume_after_crash],
)
def upgrade_components(scope: str = "*", inventory: Path | None = None) -> RunReport:
    """Upgrade one component on the machines where it is enrolled and due: a run as of patch_fleet, in this flow run.

    A group of images.yaml that is automatic is one of them: its machines get new OS disks.

    If several are due, each has its turn in another hour, in their order. One that a run has upgraded, or was to, since
    a day has none.

    Args:
        scope: the machines whose enrolments count.
        inventory: of the fleet, on the machine that runs the flow. The file of components is beside it.

    Returns:
        The report of the run. A completed state with the reason if no component is due.

    Raises:
        FleetPatchFailed: a machine failed; ``report`` of the error is the complete report.
        InventoryError: the inventory, the file of components, or the scope is not usable.
        RecordsError: the records are not usable.
        RequestError: the file of a version is not on this machine, or is another one.
    """
    caller = name_starter(log_to_flow_run(current_caller()))
    clean_replaced_disks(inventory, caller)
    upgrade = _find_next_upgrade(scope, inventory, caller, SystemClock().now())
    if upgrade is None:
        return cast_to_report(Completed(message="no enrolled component is due"))
    require_own_files(upgrade.component)
    return execute_in_flow(upgrade.request, caller)


def _find_next_upgrade(
    scope: str, inventory_path: Path | None, caller: Caller, now: datetime
) -> ComponentUpgrade | None:
    inventory = load_inventory(find_inventory(inventory_path))
    machines = Scope.parse(scope).select_machines(inventory)
    catalogue, groups = load_catalogue(inventory.source), load_image_groups(inventory.source)
    with open_records(caller.records_url) as records:
        recent = SqlComponents(records.database).read_components_of_runs(find_site(), now - TURN_INTERVAL)
        for knowledge in (
            read_knowledge(records, catalogue),
            read_image_knowledge(records, groups, inventory),
        ):
            for upgrade in plan_enrolled_upgrades(knowledge, machines, inventory, now, path=inventory.source):
                name = upgrade.component.name
                # what was not asked yet is asked by the next assessment
                if upgrade.pending and name not in recent and not _is_under_way(records, name):
                    return upgrade
    return None


def _is_under_way(records: SqlRecords, component: str) -> bool:
    lease = records.leases.find_lease(build_component_lease(component))
    return lease is not None and lease.is_held
