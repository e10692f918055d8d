"""Prints inventories and their machine sets, and builds their JSON."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, print_unwrapped, to_safe_lines, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from inventory.errors import InventoryError
from inventory.machine import Inventory, Machine, MachineSet, SetAction, WakeSettings
from tasks.domain.protocols.leases import SetSlot
from tasks.reports.formatting import NO_FIGURE, format_count


def build_inventory_check_json(
    path: Path, inventory: Inventory | None, problems: Sequence[InventoryError]
) -> dict[str, object]:
    """Return the result of a check as JSON data."""
    return {
        "inventory": str(path),
        "valid": inventory is not None,
        "machineCount": len(inventory.machines) if inventory else None,
        "setCount": len(inventory.sets) if inventory else None,
        "problems": build_problems_json(problems),
    }


def build_problems_json(problems: Sequence[InventoryError]) -> list[dict[str, object]]:
    """Return the faults of files as JSON data."""
    return [
        {
            "file": str(problem.file) if problem.file else None,
            "line": problem.line,
            "key": problem.key,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in problems
    ]


def print_problems(path: Path, problems: Sequence[InventoryError]) -> None:
    """Print every fault with its place and remedy."""
    for problem in problems:
        print_to_stdout(Text.assemble(("✗ ", "bold red"), to_safe_lines(problem.message)))
        if problem.hint:
            print_to_stdout(Text.assemble("    ", to_safe_lines(problem.hint)))
    print_to_stdout(
        "", Text.assemble(to_safe_text(str(path)), (f": {format_count(len(problems), 'fault')}", "bold red"))
    )


def print_valid_inventory(path: Path, inventory: Inventory) -> None:
    """Print that an inventory is valid, and what it contains."""
    print_to_stdout(
        Text.assemble(("✓ ", "green"), to_safe_text(str(path)), f": {format_count(len(inventory.machines), 'machine')}")
    )
    environments = Counter(machine.environment or "no environment" for machine in inventory.machines)
    print_to_stdout(
        Text.assemble("  ", to_safe_text(", ".join(f"{count} {name}" for name, count in environments.most_common())))
    )
    others = sum(not machine.owner.is_patchable for machine in inventory.machines)
    if others:
        print_to_stdout(f"  {others} of them: another tool patches, fleetpatch only assesses")
    if inventory.sets:
        print_to_stdout(f"  {format_count(len(inventory.sets), 'machine set')}")
    keys = inventory.host_keys
    print_to_stdout(
        Text.assemble("  host keys: ", keys.policy, ", ", to_safe_text(str(keys.known_hosts or "~/.ssh/known_hosts")))
    )


def build_inventory_list_json(inventory: Inventory, machines: Sequence[Machine]) -> dict[str, object]:
    """Return machines as JSON data. It has references to secrets, and no secret."""
    sets_of: dict[str, list[str]] = {}
    for each_set in inventory.sets:
        for name in each_set.members:
            sets_of.setdefault(name, []).append(each_set.name)
    return {
        "inventory": str(inventory.source) if inventory.source else None,
        "machines": [
            {
                "machineName": machine.name,
                "address": machine.address,
                "port": machine.port,
                "transport": machine.transport.value,
                "os": machine.os.value,
                "user": machine.user,
                "credential": machine.credential,
                "privilege": machine.privilege.value,
                "jump": list(machine.jump),
                "zone": machine.zone,
                "environment": machine.environment,
                "location": machine.location,
                "availabilityZone": machine.availability_zone,
                "tags": dict(machine.tags),
                "groups": list(machine.groups),
                "owner": machine.owner.value,
                "sets": sets_of.get(machine.name, []),
                "wake": _build_wake_json(machine.wake),
            }
            for machine in machines
        ],
    }


def _build_wake_json(wake: WakeSettings | None) -> dict[str, object] | None:
    """Return how a machine is started. The commands stay away: they may contain what only their owner may read."""
    if wake is None:
        return None
    return {"mac": wake.mac or None, "command": bool(wake.command), "offAgain": wake.off_again, "minutes": wake.minutes}


def print_inventory_machines(machines: Sequence[Machine]) -> None:
    """Print machines as a table."""
    grid = build_table(
        build_unwrapped_column("machine"),
        "address",
        build_unwrapped_column("via"),
        build_unwrapped_column("user"),
        build_unwrapped_column("env"),
        "groups",
        "tags",
        build_unwrapped_column("owner"),
    )
    for machine in machines:
        where = f"{machine.address}:{machine.port}" if machine.port else machine.address
        tags = " ".join(f"{key}={value}" for key, value in machine.tags.items())
        grid.add_row(
            to_safe_text(machine.name),
            to_safe_text(where),
            machine.transport,
            to_safe_text(machine.user or NO_FIGURE),
            to_safe_text(machine.environment or NO_FIGURE),
            to_safe_text(" ".join(machine.groups) or NO_FIGURE),
            to_safe_text(tags or NO_FIGURE),
            machine.owner,
        )
    print_to_stdout(grid, "", format_count(len(machines), "machine"))


MAX_NAMES = 8

SLOT_FACTS: Final[Sequence[Fact[SetSlot]]] = (
    Fact("machineName", lambda slot: slot.machine, "out of service"),
    Fact("setName", lambda slot: slot.set_name, "set", wraps=True),
    Fact("sinceDateTime", lambda slot: slot.since, "since (UTC)"),
    Fact("maintenanceRunId", lambda slot: slot.run_id, "run"),
    Fact("runIsOver", lambda slot: slot.is_left),
    Fact("drained", lambda slot: slot.drained, "drained", wraps=True),
    Fact(
        "reason",
        lambda slot: slot.reason or None,
        "why",
        lambda slot: slot.reason or ("its run is over" if slot.is_left else "it has its turn"),
        wraps=True,
    ),
)
"""The members that are out of service."""


def _list_set_facts(inventory: Inventory, slots: Sequence[SetSlot]) -> Sequence[Fact[MachineSet]]:
    tags = {machine.name: machine.tags for machine in inventory.machines}

    def find_domain(machine_set: MachineSet, name: str) -> str | None:
        return tags[name].get(machine_set.update_domain) or None if machine_set.update_domain else None

    def describe_domains(machine_set: MachineSet) -> str:
        """Return the tag and its values, such as "rack: a, b, 1 without"."""
        if not machine_set.update_domain:
            return NO_FIGURE
        domains = [find_domain(machine_set, name) for name in machine_set.members]
        values = sorted({value for value in domains if value})
        without = [f"{domains.count(None)} without"] if None in domains else []
        more = [f"{len(values) - MAX_NAMES} more"] if len(values) > MAX_NAMES else []
        return f"{machine_set.update_domain}: {', '.join([*values[:MAX_NAMES], *more, *without])}"

    def describe_members(machine_set: MachineSet) -> str:
        names = machine_set.members
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        return " ".join(names[:MAX_NAMES]) + more

    def build_members(machine_set: MachineSet) -> list[object]:
        role = machine_set.role
        return [
            {
                "machineName": name,
                "updateDomain": find_domain(machine_set, name),
                "role": (role.find_in_tags(tags[name]) or None) if role else None,
            }
            for name in machine_set.members
        ]

    def build_role(machine_set: MachineSet) -> dict[str, object] | None:
        role = machine_set.role
        if role is None:
            return None
        return {"tag": role.tag or None, "command": role.command or None, "timeoutSeconds": role.timeout_seconds}

    return (
        Fact("setName", lambda each_set: each_set.name, "set"),
        Fact("scope", lambda each_set: each_set.scope),
        Fact("members", build_members, "members", describe_members, wraps=True),
        Fact(
            "maxUnavailable",
            lambda each_set: each_set.allowed_unavailable,
            "out at once",
            lambda each_set: f"{each_set.allowed_unavailable} of {len(each_set.members)}",
        ),
        Fact("quorum", lambda each_set: each_set.quorum, "quorum"),
        Fact(
            "updateDomain",
            lambda each_set: each_set.update_domain or None,
            "domains",
            describe_domains,
            wraps=True,
        ),
        Fact("role", build_role),
        Fact(
            "order",
            lambda each_set: each_set.order,
            "order",
            lambda each_set: " then ".join(each_set.order) or NO_FIGURE,
            wraps=True,
        ),
        Fact("drain", lambda each_set: _build_action_json(each_set.drain)),
        Fact("undrain", lambda each_set: _build_action_json(each_set.undrain)),
        Fact("healthy", lambda each_set: [check.name for check in each_set.healthy]),
        Fact("healthySeconds", lambda each_set: each_set.healthy_seconds),
        Fact(
            "outOfService",
            lambda each_set: build_list_json(SLOT_FACTS, [slot for slot in slots if slot.machine in each_set.members]),
        ),
    )


def build_sets_json(inventory: Inventory, slots: Sequence[SetSlot]) -> dict[str, object]:
    """Return the sets of an inventory as JSON data, and who is out of service."""
    return {
        "inventory": str(inventory.source) if inventory.source else None,
        "sets": build_list_json(_list_set_facts(inventory, slots), inventory.sets),
        "othersOutOfService": build_list_json(SLOT_FACTS, _find_others(inventory, slots)),
    }


def print_sets(inventory: Inventory, slots: Sequence[SetSlot]) -> None:
    """Print the sets of an inventory as a table, and who is out of service as another one."""
    if inventory.sets:
        print_to_stdout(build_list_table(_list_set_facts(inventory, slots), inventory.sets), "")
    others = _find_others(inventory, slots)
    members = [slot for slot in slots if slot not in others]
    out = {slot.machine for slot in members}
    print_to_stdout(format_count(len(inventory.sets), "set") + (f", {len(out)} out of service" if out else ""))
    if members:
        print_to_stdout("")
        print_slots(members)
    if others:
        print_to_stdout("", "Out of service, and in no set of this inventory:")
        print_slots(others)


def _find_others(inventory: Inventory, slots: Sequence[SetSlot]) -> list[SetSlot]:
    """Return the slots of machines that are in no set of the inventory."""
    members = {name for machine_set in inventory.sets for name in machine_set.members}
    return [slot for slot in slots if slot.machine not in members]


def print_slots(slots: Sequence[SetSlot]) -> None:
    """Print members that are out of service, and what people can do about those whose run is over."""
    print_to_stdout(build_list_table(SLOT_FACTS, slots))
    for name in dict.fromkeys(slot.machine for slot in slots if slot.is_left):
        print_unwrapped(f"{name}: patch it again, or bring it back and say `fleetpatch sets release {name}`")


def _build_action_json(action: SetAction | None) -> dict[str, object] | None:
    """Return an action without its target, which may be a URL with a password."""
    if action is None:
        return None
    return {"kind": action.kind.value, "timeoutSeconds": action.timeout_seconds, "repeatable": action.repeatable}
