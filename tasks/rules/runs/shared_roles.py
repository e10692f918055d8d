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
    Machines in no set get a note if their roles (None), or the name after a role, could not be read.
    """
    notes: dict[str, str] = {}
    kept = {name for machine_set in sets for name in _find_kept(machine_set, machine_set.members)}
    unread = [name for name, found in roles.items() if found is None or any(role.endswith(" ") for role in found)]
    if unkept := [name for name in unread if name not in kept]:
        about = (
            "could not be read (domain controller or cluster node, and of which), and no machine set keeps them apart"
        )
        notes[""] = f"warning: the roles of {', '.join(unkept)} {about}"
    of_run = [name for wave in waves for name in wave.machines]
    known = {role for of_machine in roles.values() for role in of_machine or () if not role.endswith(" ")}
    all_roles = sorted(known, key=lambda role: (_OF not in role, role))
    groups = [(role, of_run) for role in all_roles if _OF in role]
    groups += [(role, list(wave.machines)) for role in all_roles if _OF not in role for wave in waves]
    for role, of_group in groups:
        names = [name for name in of_group if role in (roles.get(name) or ())]
        if set(names) <= {name for machine_set in sets for name in _find_kept(machine_set, names)}:
            continue
        if len(names) > 1:
            name, scope = re.sub(r"[^a-z0-9]+", "-", role.lower()).strip("-"), json.dumps(f"name={'|'.join(names)}")
            about = (
                f"warning: {', '.join(names)} ({role}) may be out of service together: no machine set keeps them apart"
            )
            name += "-apart" if any(machine_set.name == name for machine_set in sets) else ""
            proposal = f"sets: [{{name: {name}, scope: {scope}, max_unavailable: 1}}]"
            notes.setdefault(" ".join(names), f"{about}. Add to the inventory: {proposal}")
        elif _OF in role:
            notes.setdefault(names[0], f"{names[0]} ({role}): no machine set keeps it from a partner in another run")
    return tuple(notes.values())


def _find_kept(machine_set: MachineSet, names: Sequence[str]) -> set[str]:
    """Return the machines that a set never lets be out of service all together. Its update domains are not known."""
    together, count = set(names) & set(machine_set.members), len(machine_set.members)
    allowed = 1 if machine_set.update_domain else machine_set.allowed_unavailable
    at_stake = len(together) if len(names) > 1 else count  # one alone may have its partners there
    return together if min(allowed, count - (machine_set.quorum or 0)) < at_stake else set()
