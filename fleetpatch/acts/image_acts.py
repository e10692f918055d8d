"""What people and programs do with groups of images: upgrade them. Forms and the API call the same function."""

from fastapi import Request

from fleetpatch.acts.run_acts import start_patch
from fleetpatch.machines.fleet_reader import ACT_WAIT_SECONDS
from fleetpatch.machines.image_list import read_fleet_images
from fleetpatch.web.context import get_context
from flows.components.upgrades import plan_upgrade
from flows.images.fleet_images import require_group, select_members


def start_image_upgrade(
    request: Request, name: str, version: str, key: str, *, roll_back: bool, dry_run: bool = False
) -> str:
    """Start the run that gives the machines of a group new OS disks, and return the id of its flow run.

    The policy, the role and the audit log are those of a patch run.

    Raises:
        StartNotKnown: Prefect has not said whether it is started.
        FleetpatchError: it could not be started, and nothing was.
    """
    context = get_context(request)
    knowledge, groups, inventory = read_fleet_images(context.fleet.read(ACT_WAIT_SECONDS), context.records)
    group = require_group(groups, name)
    planned = plan_upgrade(
        knowledge,
        group.component,
        select_members(group, inventory),
        inventory,
        context.clock.now(),
        wanted=version,
        dry_run=dry_run,
        roll_back=roll_back,
    )
    return start_patch(request, planned.request, key)
