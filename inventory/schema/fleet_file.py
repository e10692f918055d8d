"""The schema of a whole fleet.yaml."""

from typing import Any

from inventory.schema.entries import HostKeysEntry, MachineEntry, MachineSettings, StrictModel
from inventory.schema.set_entries import SetEntry
from inventory.schema.value_types import MachineName


class FleetFile(StrictModel):
    """An inventory of fleetpatch."""

    defaults: MachineSettings | None = None
    """What holds for every machine of this file."""
    groups: dict[MachineName, MachineSettings | None] | None = None
    """What holds for every machine of a group. Where this stands, a machine can be in no other groups."""
    machines: list[MachineEntry] | None = None
    host_keys: HostKeysEntry | None = None
    sets: list[SetEntry] | None = None
    """Machines that must not be out of service together. Their scopes select from all files of a folder."""


def build_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of fleet.yaml, for editors."""
    schema = FleetFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fleetpatch inventory"}
