"""providers: ask who holds the disks of machines what there is, and what they can do."""

from typing import TYPE_CHECKING, cast

import typer

from fleetpatch.cli.app import InventoryOption, JsonOption, RecordsOption, ScopeArgument, app
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import print_json, print_unwrapped
from inventory.errors import FleetpatchError

if TYPE_CHECKING:
    from flows.ports.ports import Ports
    from inventory.machine import Machine
    from tasks.domain.protocols.machine_provider import IdentifyingProvider


@app.command("providers", rich_help_panel="Look")
def show_providers(
    scope: ScopeArgument = "*",
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the provider of each machine for its power, disks, snapshots, kept disks and copy. Changes nothing."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope, open_machines

    _, machines = load_machines_in_scope(inventory, scope)
    with_provider = [machine for machine in machines if machine.provider]
    with open_machines(with_provider, inventory, scope, records, "Providers") as (ports, opened):
        answers = [_ask(ports, machine) for machine in opened]
    if as_json:
        print_json({"machines": answers})
    else:
        for answer in answers:
            print_unwrapped(_describe(answer))
        if not answers:
            print_unwrapped("No machine of this scope has a provider.")
    if any(answer["error"] or answer["refusal"] for answer in answers):
        raise typer.Exit(int(ExitCode.MACHINE_FAILED))
    if not answers:
        raise typer.Exit(int(ExitCode.WARNINGS))


def _ask(ports: "Ports", machine: "Machine") -> dict[str, object]:
    """Return what the provider of a machine says, as JSON data."""
    from dataclasses import asdict

    from tasks.domain.protocols.clock import Deadline
    from tasks.rules.machine_identity import explain_refusal

    answer: dict[str, object] = {"machineName": machine.name, "provider": machine.provider, "error": "", "refusal": ""}
    try:
        provider = cast("IdentifyingProvider", ports.open_provider(machine))  # the machine names one
        seen = provider.read_machine(deadline=Deadline.after(ports.clock, ANSWER_SECONDS))
        answer |= {"kind": provider.kind, "acts": sorted(provider.acts)}
        proof = provider.prove_identity(seen, deadline=Deadline.after(ports.clock, ANSWER_SECONDS))
        answer["refusal"] = explain_refusal(proof, machine.identity)
        answer |= {"identity": proof.state, "identityMessage": proof.message}
    except FleetpatchError as error:
        return answer | {"error": error.message, "hint": error.hint}
    taken = {snapshot.id: snapshot.taken_at for snapshot in seen.snapshots}
    document = asdict(seen)
    for snapshot in document["snapshots"]:
        snapshot["taken_at"] = at.isoformat() if (at := taken[snapshot["id"]]) is not None else None
    return answer | {"machine": document}


def _describe(answer: dict[str, object]) -> str:
    name = f"{answer['machineName']} ({answer['provider']})"
    if answer["error"]:
        return f"{name}: not read: {answer['error']} {answer.get('hint', '')}".rstrip()
    machine, acts = answer["machine"], answer["acts"]
    assert isinstance(machine, dict)  # noqa: S101 - for the type checker
    assert isinstance(acts, list)  # noqa: S101 - for the type checker
    lists = {
        "disks": [f"{disk['id']} {disk['role']}" for disk in machine["disks"]],
        "snapshots": [str(snapshot["id"]) for snapshot in machine["snapshots"]],
        "kept disks": [str(disk["id"]) for disk in machine["kept_disks"]],
    }
    parts = [f"{noun}: {', '.join(items) or 'none'}" for noun, items in lists.items()]
    if overlay := machine["overlay"]:
        parts.append(f"copy of a rehearsal: {overlay['id']} ({overlay['power']})")
    if obstacle := machine["snapshot_obstacle"]:
        parts.append(f"no snapshot can be taken: {obstacle}")
    parts.append(f"can: {', '.join(acts)}")
    refused = "orders are refused: " if answer["refusal"] else ""
    parts.append(f"identity: {answer['identity']}: {refused}{answer['identityMessage']}")
    return f"{name}: {machine['power']}; {'; '.join(parts)}"


ANSWER_SECONDS = 60.0
