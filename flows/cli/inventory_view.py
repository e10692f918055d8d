"""Inventories on the screen and as JSON."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from flows.cli.screen import safe, safe_lines, say, solid, table
from inventory.errors import InventoryError
from inventory.machine import Inventory, Machine
from tasks.reporting.text import NOTHING, plural


def check_document(place: Path, found: Inventory | None, problems: Sequence[InventoryError]) -> dict[str, object]:
    """Return the result of a check as JSON data."""
    return {
        "inventory": str(place),
        "valid": found is not None,
        "machineCount": len(found.machines) if found else None,
        "problems": [
            {
                "file": str(each.file) if each.file else None,
                "line": each.line,
                "key": each.key,
                "message": each.message,
                "hint": each.hint,
            }
            for each in problems
        ],
    }


def tell_problems(place: Path, problems: Sequence[InventoryError]) -> None:
    """Show every fault with its place and remedy."""
    for each in problems:
        say(Text.assemble(("✗ ", "bold red"), safe_lines(each.message)))
        if each.hint:
            say(Text.assemble("    ", safe_lines(each.hint)))
    say("", Text.assemble(safe(str(place)), (f": {plural(len(problems), 'fault')}", "bold red")))


def tell_checked(place: Path, found: Inventory) -> None:
    """Show that an inventory is right, and what is in it."""
    say(Text.assemble(("✓ ", "green"), safe(str(place)), f": {plural(len(found.machines), 'machine')}"))
    environments = Counter(machine.environment or "no environment" for machine in found.machines)
    say(Text.assemble("  ", safe(", ".join(f"{count} {name}" for name, count in environments.most_common()))))
    others = sum(not machine.owner.ours for machine in found.machines)
    if others:
        say(f"  {others} of them are patched by somebody else, and only looked at")
    keys = found.host_keys
    say(Text.assemble("  host keys: ", keys.policy, ", ", safe(str(keys.known_hosts or "~/.ssh/known_hosts"))))


def list_document(found: Inventory, machines: Sequence[Machine]) -> dict[str, object]:
    """Return machines as JSON data: references to secrets are in there, no secret is."""
    return {
        "inventory": str(found.source) if found.source else None,
        "machines": [
            {
                "machineName": each.name,
                "address": each.address,
                "port": each.port,
                "transport": each.transport.value,
                "os": each.os.value,
                "user": each.user,
                "credential": each.credential,
                "privilege": each.privilege.value,
                "jump": list(each.jump),
                "zone": each.zone,
                "environment": each.environment,
                "location": each.location,
                "tags": dict(each.tags),
                "groups": list(each.groups),
                "owner": each.owner.value,
            }
            for each in machines
        ],
    }


def tell_list(machines: Sequence[Machine]) -> None:
    """Show machines as a table."""
    grid = table(
        solid("machine"), "address", solid("by"), solid("user"), solid("env"), "groups", "tags", solid("owner")
    )
    for each in machines:
        where = f"{each.address}:{each.port}" if each.port else each.address
        tags = " ".join(f"{key}={value}" for key, value in each.tags.items())
        grid.add_row(
            safe(each.name),
            safe(where),
            each.transport,
            safe(each.user or NOTHING),
            safe(each.environment or NOTHING),
            safe(" ".join(each.groups) or NOTHING),
            safe(tags or NOTHING),
            each.owner,
        )
    say(grid, "", plural(len(machines), "machine"))
