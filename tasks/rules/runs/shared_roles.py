"""Machines of one role that no machine set keeps from being out of service together: what a plan says of them. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from inventory.machine import MachineSet
from tasks.domain.model import Wave

_OF = " of "
"""In a role with the name that its machines share: they stand in for each other."""


def describe_shared_roles(
    roles: Mapping[str, Sequence[str]], waves: Sequence[Wave], sets: Sequence[MachineSet]
) -> tuple[str, ...]:
    """Return a note for each role of which a set lacks a machine, or has it without another one, and the set to add.

    Domain controllers of one domain and nodes of one cluster count in the whole run, and one alone is told, too, if it
    is in no set: another run may have its partner. Others count where they share a wave.
    """
    notes: dict[str, str] = {}
    for role, names in _list_groups(roles, waves):
        together = [set(names) & set(machine_set.members) for machine_set in sets]
        if set(names) <= {name for members in together if len(members) > 1 or len(names) == 1 for name in members}:
            continue
        if len(names) > 1:
            name = re.sub(r"[^a-z0-9]+", "-", role.lower()).strip("-")
            scope = json.dumps(f"name={'|'.join(names)}")
            proposal = f"sets: [{{name: {name}, scope: {scope}, max_unavailable: 1}}]"
            about = f"warning: {', '.join(names)} ({role}) may be out of service together, as no machine set has them"
            notes.setdefault(" ".join(names), f"{about}. Add to the inventory: {proposal}")
        elif _OF in role:
            notes.setdefault(names[0], f"{names[0]} ({role}) is in no machine set: another run may have its partner")
    return tuple(notes.values())


def _list_groups(roles: Mapping[str, Sequence[str]], waves: Sequence[Wave]) -> Iterator[tuple[str, list[str]]]:
    """Yield roles with machines that may be out of service together: of the run if they share a name, or of a wave."""
    all_names = [name for wave in waves for name in wave.machines]
    for role in sorted({role for of_machine in roles.values() for role in of_machine}, key=lambda r: (_OF not in r, r)):
        for names in [all_names] if _OF in role else [wave.machines for wave in waves]:
            if members := [name for name in names if role in roles.get(name, ())]:
                yield role, members
