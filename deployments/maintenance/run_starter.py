"""The runs that apply what is held: their requests, and how Prefect starts them, each once."""

import json
from datetime import datetime
from typing import Protocol

from deployments.maintenance.groups import HoldGroup
from flows.prefect_api.flow_run_starter import FlowRunStarter
from flows.prefect_runtime.flow_run_origin import build_maintenance_idempotency_key
from flows.request.patch_request import PatchRequest
from inventory.loader import find_inventory

MAINTENANCE_TAG = "fleetpatch:maintenance"
"""The tag of every flow run that maintenance control starts."""


class ApplyStarter(Protocol):
    """Starts runs. Every method raises PatchError if Prefect does not answer, and RequestError if it refuses."""

    def start(self, group: str, key: str, request: PatchRequest) -> str:
        """Start the run of a group, and return the id of its flow run. A repeated key starts no second one."""

    def describe_end(self, flow_run_id: str) -> str:
        """Return how a flow run ended; "" while it waits, starts or runs."""


class PrefectApplyStarter:
    """Starts runs of the deployments of configurations: Prefect executes one run of each at a time."""

    def __init__(self) -> None:
        self._starter = FlowRunStarter()
        self.describe_end = self._starter.describe_end

    def start(self, group: str, key: str, request: PatchRequest) -> str:
        """See ApplyStarter."""
        # The words of JSON only: Prefect would send the defaults of a newer release to an older one as well.
        parameters = {"request": json.loads(request.model_dump_json(exclude_defaults=True))}
        idempotency_key, name = build_maintenance_idempotency_key(key), f"apply what is held for {group}"
        return self._starter.start(f"patch-fleet/{group}", idempotency_key, name, parameters, (MAINTENANCE_TAG,))


def build_apply_request(group: HoldGroup, opens: datetime | None = None, *, application: str = "") -> PatchRequest:
    """Return the request of a run that applies all that is held for a group, in a window of its own.

    It is the run of a window of the configuration, with its approval, waves, hooks and limits.

    ``opens``: when the window opens, aware; None: when the run is asked for.
    ``application``: the key of the application, of a run that maintenance control starts; "": a person starts it.

    Raises:
        InventoryError: no inventory is found.
    """
    request = group.scheduled.request
    assert request.maintenance is not None  # noqa: S101 - for the type checker: it is a group
    window = request.window.model_copy(update={"start": opens, "lead_minutes": 0})
    return request.model_copy(
        update={
            "window": window,
            "outside_window": True,
            "maintenance": request.maintenance.model_copy(update={"application": application}),
            "inventory": find_inventory(group.configuration.inventory_path).absolute(),
        }
    )
