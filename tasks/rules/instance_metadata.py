"""What ``/metadata/instance`` says of a machine: as much as programs that read scheduled events ask. Pure.

``compute.name`` is exactly the name in the ``Resources`` of events: programs compare the two. Tags, addresses and users
are left out: whoever speaks as the machine needs none of them.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from inventory.machine import Machine, MachineSet

_NAMESPACE: Final = uuid.UUID("b6f0d7a2-52f4-5d0c-8c55-0c6c1f0f9d11")  # an arbitrary UUID; it must never change
PROVIDER: Final = "fleetpatch"


def build_instance(machine: Machine, sets: Sequence[MachineSet], fleet: str) -> dict[str, Any]:
    """Return a machine's metadata as JSON data.

    ``sets``: the machine sets of the inventory that it is a member of.
    ``fleet``: the fleet. It stands for a subscription.
    """
    group, subscription = machine.environment or fleet, str(uuid.uuid5(_NAMESPACE, fleet))
    compute = {
        "azEnvironment": PROVIDER,
        "location": machine.location or machine.site,
        "name": machine.name,
        "osProfile": {"computerName": machine.name},
        "osType": machine.os.value.capitalize(),
        "provider": PROVIDER,
        "resourceGroupName": group,
        "resourceId": f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{PROVIDER}/{machine.name}",
        "subscriptionId": subscription,
        "vmId": str(uuid.uuid5(_NAMESPACE, f"{fleet}/{machine.name}")),
        "vmScaleSetName": sets[0].name if sets else "",
        "zone": machine.availability_zone,
    }
    return {"compute": compute, "network": {"interface": []}}


def find_metadata(instance: Mapping[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401 - JSON data
    """Return a part of the metadata, such as ``compute``, ``name``. Raise KeyError if there is no such part."""
    part: Any = instance
    for name in path:
        if not isinstance(part, Mapping):
            raise KeyError(name)
        part = part[name]
    return part
