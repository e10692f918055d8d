"""Prints inventories and their machine sets, and builds their JSON."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, print_unwrapped, to_safe_lines, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, Shown, build_list_json, build_list_table, build_row_table
from fleetpatch.cli.views.update_cells import render_change_state
from inventory.errors import InventoryError
from inventory.machine import Inventory, Machine, MachineSet, SetAction
from tasks.domain.protocols.leases import SetSlot
from tasks.domain.rows.owner_changes import OwnerChangeRow
from tasks.domain.states import ChangeState
from tasks.reports.export.tabular_formats import build_row_json
from tasks.reports.formatting import NO_FIGURE, format_count

if TYPE_CHECKING:
    from flows.owner_change import OwnerReport


def build_faulty_inventory_json(path: Path, problems: Sequence[InventoryError]) -> dict[str, object]:
    """Return the result of a check that found faults as JSON data."""
    facts = {"inventory": str(path), "valid": False, "machineCount": None, "setCount": None}
    return {**facts, "problems": build_list_json(PROBLEM_FACTS, problems)}


def build_valid_inventory_json(path: Path, inventory: Inventory) -> dict[str, object]:
    """Return the result of a check that found no fault as JSON data."""
    counts = {"machineCount": len(inventory.machines), "setCount": len(inventory.sets)}
    return {"inventory": str(path), "valid": True, **counts, "problems": []}


PROBLEM_FACTS: Final[Sequence[Fact[InventoryError]]] = (
    Fact("file", lambda problem: str(problem.file) if problem.file else None),
    Fact("line", lambda problem: problem.line),
    Fact("key", lambda problem: problem.key),
    Fact("message", lambda problem: problem.message),
    Fact("hint", lambda problem: problem.hint),
)


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


def _list_machine_facts(inventory: Inventory) -> Sequence[Fact[Machine]]:
    """Return the facts about each machine. They have references to secrets, and no secret."""
    sets_of: dict[str, list[str]] = {}
    for machine_set in inventory.sets:
        for name in machine_set.members:
            sets_of.setdefault(name, []).append(machine_set.name)

    def describe_address(machine: Machine) -> str:
        return f"{machine.address}:{machine.port}" if machine.port else machine.address

    def describe_tags(machine: Machine) -> str | None:
        return " ".join(f"{key}={value}" for key, value in machine.tags.items()) or None

    def build_wake(machine: Machine) -> dict[str, object] | None:
        """Return how a machine is started. The commands stay away: they may contain what only their owner may read."""
        wake = machine.wake
        if wake is None:
            return None
        command = bool(wake.command)
        return {"mac": wake.mac or None, "command": command, "offAgain": wake.off_again, "minutes": wake.minutes}

    return (
        Fact("machineName", lambda machine: machine.name, "machine"),
        Fact("address", lambda machine: machine.address, "address", describe_address, wraps=True),
        Fact("port", lambda machine: machine.port),
        Fact("transport", lambda machine: machine.transport, "via"),
        Fact("os", lambda machine: machine.os),
        Fact("user", lambda machine: machine.user, "user", lambda machine: machine.user or None),
        Fact("credential", lambda machine: machine.credential),
        Fact("privilege", lambda machine: machine.privilege),
        Fact("jump", lambda machine: machine.jump),
        Fact("zone", lambda machine: machine.zone),
        Fact("environment", lambda machine: machine.environment, "env", lambda machine: machine.environment or None),
        Fact("site", lambda machine: machine.site, "site" if len(inventory.sites) > 1 else None),
        Fact("location", lambda machine: machine.location),
        Fact("availabilityZone", lambda machine: machine.availability_zone),
        Fact("mirror", lambda machine: machine.mirror),
        Fact("hypervisor", lambda machine: machine.hypervisor),
        Fact("scheduledEvents", lambda machine: machine.scheduled_events),
        Fact("", lambda machine: " ".join(machine.groups) or None, "groups", wraps=True),
        Fact("tags", lambda machine: dict(machine.tags), "tags", describe_tags, wraps=True),
        Fact("groups", lambda machine: machine.groups),
        Fact("owner", lambda machine: machine.owner, "owner"),
        Fact("sets", lambda machine: sets_of.get(machine.name, [])),
        Fact("wake", build_wake),
    )


def build_inventory_list_json(inventory: Inventory, machines: Sequence[Machine]) -> dict[str, object]:
    """Return machines as JSON data."""
    return {
        "inventory": str(inventory.source) if inventory.source else None,
        "machines": build_list_json(_list_machine_facts(inventory), machines),
    }


def print_inventory_machines(inventory: Inventory, machines: Sequence[Machine]) -> None:
    """Print machines as a table."""
    table = build_list_table(_list_machine_facts(inventory), machines)
    print_to_stdout(table, "", format_count(len(machines), "machine"))


OWNER_COLUMNS: Final = (
    Shown("machine"),
    Shown("result", render=lambda row: render_change_state(row.result)),
    Shown("before"),
    Shown("owner"),
    Shown("file", wraps=True, render=lambda row: Path(row.file).name),
    Shown("message", heading="remarks", render=lambda row: to_safe_text(f"{row.message} {row.remedy}".strip())),
)


def build_owner_change_json(report: "OwnerReport", *, dry_run: bool) -> dict[str, object]:
    """Return what became of a change of the owner as JSON data."""
    machines = [build_row_json(row) for row in report.rows]
    return {"dryRun": dry_run, "machines": machines, "diff": report.build_diff()}


def print_owner_change(report: "OwnerReport", *, dry_run: bool) -> None:
    """Print what became of a change of the owner. The diff is printed if a person may have to write it."""
    print_to_stdout(build_row_table(OwnerChangeRow, report.rows, OWNER_COLUMNS))
    if dry_run or any(row.result is ChangeState.FAILED for row in report.rows):
        print_to_stdout("", to_safe_lines(report.build_diff()))
    elif any((folder / ".git").exists() for edit in report.edits for folder in edit.path.absolute().parents):
        print_unwrapped("The inventory is in a checkout of git: commit the change, or the next checkout takes it back.")


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
        Fact("setName", lambda machine_set: machine_set.name, "set"),
        Fact("scope", lambda machine_set: machine_set.scope),
        Fact("members", build_members, "members", describe_members, wraps=True),
        Fact(
            "maxUnavailable",
            lambda machine_set: machine_set.allowed_unavailable,
            "out at once",
            lambda machine_set: f"{machine_set.allowed_unavailable} of {len(machine_set.members)}",
        ),
        Fact("quorum", lambda machine_set: machine_set.quorum, "quorum"),
        Fact(
            "updateDomain",
            lambda machine_set: machine_set.update_domain or None,
            "domains",
            describe_domains,
            wraps=True,
        ),
        Fact("role", build_role),
        Fact(
            "order",
            lambda machine_set: machine_set.order,
            "order",
            lambda machine_set: " then ".join(machine_set.order) or NO_FIGURE,
            wraps=True,
        ),
        Fact("drain", lambda machine_set: _build_action_json(machine_set.drain)),
        Fact("undrain", lambda machine_set: _build_action_json(machine_set.undrain)),
        Fact("healthy", lambda machine_set: [check.name for check in machine_set.healthy]),
        Fact("healthySeconds", lambda machine_set: machine_set.healthy_seconds),
        Fact(
            "outOfService",
            lambda machine_set: build_list_json(
                SLOT_FACTS, [slot for slot in slots if slot.machine in machine_set.members]
            ),
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
    other_slots = _find_others(inventory, slots)
    members = [slot for slot in slots if slot not in other_slots]
    out = {slot.machine for slot in members}
    print_to_stdout(format_count(len(inventory.sets), "set") + (f", {len(out)} out of service" if out else ""))
    if members:
        print_to_stdout("")
        print_set_slots(members)
    if other_slots:
        print_to_stdout("", "Out of service, and in no set of this inventory:")
        print_set_slots(other_slots)


def _find_others(inventory: Inventory, slots: Sequence[SetSlot]) -> list[SetSlot]:
    """Return the slots of machines that are in no set of the inventory."""
    members = {name for machine_set in inventory.sets for name in machine_set.members}
    return [slot for slot in slots if slot.machine not in members]


def print_set_slots(slots: Sequence[SetSlot]) -> None:
    """Print members that are out of service, and what people can do about those whose run is over."""
    print_to_stdout(build_list_table(SLOT_FACTS, slots))
    for name in dict.fromkeys(slot.machine for slot in slots if slot.is_left):
        print_unwrapped(f"{name}: patch it again, or bring it back and say `fleetpatch sets release {name}`")


def _build_action_json(action: SetAction | None) -> dict[str, object] | None:
    """Return an action without its target, which may be a URL with a password."""
    if action is None:
        return None
    return {"kind": action.kind.value, "timeoutSeconds": action.timeout_seconds, "repeatable": action.repeatable}
