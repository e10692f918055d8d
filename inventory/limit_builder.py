"""Builds the limits of what machines share, and checks their names against the machines."""

from inventory.data_class import dataclass
from inventory.files.problems import LocatedData, ProblemCollector, did_you_mean
from inventory.machine import Inventory
from inventory.resource_limits import Resource, ResourceKind, ResourceLimits
from inventory.resources import find_resources
from inventory.schema.entries import OTHERS, ResourceLimitsEntry
from inventory.schema.validation import validate_mapping


@dataclass(frozen=True, slots=True)
class LimitsDraft:
    """The limits from one file. Their names are not yet compared with the machines."""

    entry: ResourceLimitsEntry
    source: LocatedData


def read_limits_draft(located: LocatedData, problems: ProblemCollector) -> LimitsDraft | None:
    """Return the limits under `limits:` of a file; None if nothing usable is there."""
    entry = validate_mapping(ResourceLimitsEntry, located, problems)
    return LimitsDraft(entry, located) if entry is not None else None


def build_limits(draft: LimitsDraft, inventory: Inventory, problems: ProblemCollector) -> ResourceLimits:
    """Return the limits. Report names that no machine has."""
    by_name = {machine.name: machine for machine in inventory.machines}
    present = {resource for machine in inventory.machines for resource in find_resources(machine, by_name)}
    named: dict[Resource, int] = {}
    others: dict[ResourceKind, int] = {}
    for kind in ResourceKind:
        key = kind.replace(" ", "_")
        names = sorted(resource.name for resource in present if resource.kind is kind)
        for name, limit in (getattr(draft.entry, key) or {}).items():
            if name == OTHERS:
                others[kind] = limit
            elif name in names:
                named[Resource(kind, name)] = limit
            else:
                hint = f"{did_you_mean(name, names)}Correct it, or remove it. `{OTHERS}` means all that are not named."
                problems.add(draft.source.locate((key, name)), f"no machine has the {kind} {name!r}", hint)
    return ResourceLimits(named, others)
