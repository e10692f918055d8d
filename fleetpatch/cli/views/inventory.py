"""Prints inventories, and builds their JSON."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_lines, to_safe_text
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from inventory.errors import InventoryError
from inventory.machine import Inventory, Machine, WakeSettings
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
