"""Prints the machine sets of an inventory, and builds their JSON."""

from collections.abc import Sequence

from fleetpatch.cli.runtime.output import print_to_stdout, print_unwrapped, to_safe_text
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from inventory.machine import Inventory, Machine, MachineSet, SetAction, SetRole
from tasks.domain.protocols.leases import SetSlot
from tasks.reports.formatting import NO_FIGURE, format_count, format_iso_utc

MAX_NAMES = 8


def build_sets_json(inventory: Inventory, slots: Sequence[SetSlot]) -> dict[str, object]:
    """Return the sets of an inventory as JSON data, and who is out of service."""
    by_name = {machine.name: machine for machine in inventory.machines}
    return {
        "inventory": str(inventory.source) if inventory.source else None,
        "sets": [
            {
                "setName": machine_set.name,
                "scope": machine_set.scope,
                "members": [
                    {
                        "machineName": name,
                        "updateDomain": _find_domain(machine_set, by_name[name]),
                        "role": (machine_set.role.find_in_tags(by_name[name].tags) or None)
                        if machine_set.role
                        else None,
                    }
                    for name in machine_set.members
                ],
                "maxUnavailable": machine_set.allowed_unavailable,
                "updateDomain": machine_set.update_domain or None,
                "role": _build_role_json(machine_set.role),
                "order": list(machine_set.order),
                "quorum": machine_set.quorum,
                "drain": _build_action_json(machine_set.drain),
                "undrain": _build_action_json(machine_set.undrain),
                "healthy": [check.name for check in machine_set.healthy],
                "healthySeconds": machine_set.healthy_seconds,
                "outOfService": build_slots_json([slot for slot in slots if slot.machine in machine_set.members]),
            }
            for machine_set in inventory.sets
        ],
        "othersOutOfService": build_slots_json(_find_others(inventory, slots)),
    }


def print_sets(inventory: Inventory, slots: Sequence[SetSlot]) -> None:
    """Print the sets of an inventory as a table, and who is out of service as another one."""
    by_name = {machine.name: machine for machine in inventory.machines}
    grid = build_table(
        build_unwrapped_column("set"),
        "members",
        build_unwrapped_column("out at once"),
        build_unwrapped_column("quorum"),
        "domains",
        "order",
    )
    for machine_set in inventory.sets:
        grid.add_row(
            to_safe_text(machine_set.name),
            to_safe_text(_describe_members(machine_set.members)),
            f"{machine_set.allowed_unavailable} of {len(machine_set.members)}",
            str(machine_set.quorum) if machine_set.quorum is not None else NO_FIGURE,
            to_safe_text(_describe_domains(machine_set, [by_name[name] for name in machine_set.members])),
            to_safe_text(" then ".join(machine_set.order) or NO_FIGURE),
        )
    if inventory.sets:
        print_to_stdout(grid, "")
    others = _find_others(inventory, slots)
    own = [slot for slot in slots if slot not in others]
    out = {slot.machine for slot in own}
    print_to_stdout(format_count(len(inventory.sets), "set") + (f", {len(out)} out of service" if out else ""))
    if own:
        print_to_stdout("")
        print_slots(own)
    if others:
        print_to_stdout("", "Out of service, and in no set of this inventory:")
        print_slots(others)


def _find_others(inventory: Inventory, slots: Sequence[SetSlot]) -> list[SetSlot]:
    """Return the slots of machines that are in no set of the inventory."""
    members = {name for machine_set in inventory.sets for name in machine_set.members}
    return [slot for slot in slots if slot.machine not in members]


def build_slots_json(slots: Sequence[SetSlot]) -> list[dict[str, object]]:
    """Return members that are out of service as JSON data."""
    return [
        {
            "machineName": slot.machine,
            "setName": slot.set_name,
            "maintenanceRunId": slot.run_id,
            "runIsOver": slot.is_left,
            "sinceDateTime": format_iso_utc(slot.since),
            "drained": slot.drained,
            "reason": slot.reason or None,
        }
        for slot in slots
    ]


def print_slots(slots: Sequence[SetSlot]) -> None:
    """Print members that are out of service as a table, and what people can do about those whose run is over."""
    grid = build_table(
        build_unwrapped_column("out of service"),
        "set",
        build_unwrapped_column("since (UTC)"),
        build_unwrapped_column("run"),
        "drained",
        "why",
    )
    for slot in slots:
        grid.add_row(
            to_safe_text(slot.machine),
            to_safe_text(slot.set_name),
            f"{slot.since:%Y-%m-%d %H:%M}",
            to_safe_text(slot.run_id),
            "yes" if slot.drained else "no",
            to_safe_text(slot.reason or ("its run is over" if slot.is_left else "it has its turn")),
        )
    print_to_stdout(grid)
    for name in dict.fromkeys(slot.machine for slot in slots if slot.is_left):
        print_unwrapped(f"{name}: patch it again, or bring it back and say `fleetpatch sets release {name}`")


def _find_domain(machine_set: MachineSet, machine: Machine) -> str | None:
    return (machine.tags.get(machine_set.update_domain) or None) if machine_set.update_domain else None


def _describe_members(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return " ".join(names[:MAX_NAMES]) + more


def _describe_domains(machine_set: MachineSet, members: Sequence[Machine]) -> str:
    """Return the tag and its values, such as "rack: a, b, 1 without"."""
    if not machine_set.update_domain:
        return NO_FIGURE
    domains = [_find_domain(machine_set, member) for member in members]
    values = sorted({value for value in domains if value})
    without = [f"{domains.count(None)} without"] if None in domains else []
    more = [f"{len(values) - MAX_NAMES} more"] if len(values) > MAX_NAMES else []
    return f"{machine_set.update_domain}: {', '.join([*values[:MAX_NAMES], *more, *without])}"


def _build_role_json(role: SetRole | None) -> dict[str, object] | None:
    if role is None:
        return None
    return {"tag": role.tag or None, "command": role.command or None, "timeoutSeconds": role.timeout_seconds}


def _build_action_json(action: SetAction | None) -> dict[str, object] | None:
    """Return an action without its target, which may be a URL with a password."""
    if action is None:
        return None
    return {"kind": action.kind.value, "timeoutSeconds": action.timeout_seconds, "repeatable": action.repeatable}
