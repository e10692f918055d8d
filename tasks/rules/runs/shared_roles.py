"""Machines of one role that no machine set keeps from being out of service together: what a plan says of them. Pure."""

import json
import re
from collections.abc import Mapping, Sequence

from inventory.machine import MachineSet
from tasks.domain.model import Wave

_OF = " of "  # in a role with the name that its machines share: they stand in for each other


def describe_shared_roles(
    roles: Mapping[str, Sequence[str] | None], waves: Sequence[Wave], sets: Sequence[MachineSet]
) -> tuple[str, ...]:
    """Return a note for each role of which a set lacks a machine, or has it without another one, and the set to add.

    Domain controllers of one domain, and nodes of one cluster, are compared in the whole run. One that is alone in the
    run gets a note if it is in no set: another run may have its partner. Other roles are compared in each wave.
    Machines in no set get a note if their roles could not be read (None).
    """
    notes: dict[str, str] = {}
    in_sets = {name for machine_set in sets for name in machine_set.members}
    if unread := [name for name, of_machine in roles.items() if of_machine is None and name not in in_sets]:
        about = "could not be read (domain controller, cluster node), and no machine set has them"
        notes[""] = f"warning: the roles of {', '.join(unread)} {about}"
    of_run = [name for wave in waves for name in wave.machines]
    known = {role for of_machine in roles.values() for role in of_machine or ()}
    all_roles = sorted(known, key=lambda role: (_OF not in role, role))
    groups = [(role, of_run) for role in all_roles if _OF in role]
    groups += [(role, list(wave.machines)) for role in all_roles if _OF not in role for wave in waves]
    for role, of_group in groups:
        names = [name for name in of_group if role in (roles.get(name) or ())]
        together = [set(names) & set(machine_set.members) for machine_set in sets]
        if set(names) <= {name for members in together if len(members) > 1 or len(names) == 1 for name in members}:
            continue
        if len(names) > 1:
            name, scope = re.sub(r"[^a-z0-9]+", "-", role.lower()).strip("-"), json.dumps(f"name={'|'.join(names)}")
            about = f"warning: {', '.join(names)} ({role}) may be out of service together, as no machine set has them"
            proposal = f"sets: [{{name: {name}, scope: {scope}, max_unavailable: 1}}]"
            notes.setdefault(" ".join(names), f"{about}. Add to the inventory: {proposal}")
        elif _OF in role:
            notes.setdefault(names[0], f"{names[0]} ({role}) is in no machine set: another run may have its partner")
    return tuple(notes.values())
