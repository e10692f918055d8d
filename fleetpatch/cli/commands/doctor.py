"""doctor: check whether machines and fleetpatch itself are ready."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    AtOnceOption,
    InventoryOption,
    JsonOption,
    RecordsOption,
    ScopeArgument,
    app,
    parse_path,
)
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import ask, can_ask, print_json
from inventory.errors import FleetpatchError, InventoryError
from inventory.machine import Machine
from tasks.domain.errors import RequestError
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel

if TYPE_CHECKING:
    from flows.doctor import Readiness
    from flows.recording import RecordedBundle


@app.command("doctor", rich_help_panel="Look")
def run_doctor(
    scope: ScopeArgument = ALL_MACHINES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    at_once: AtOnceOption = 50,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Refresh the package lists of the machines first. Shows broken repositories."),
    ] = False,
    only_here: Annotated[bool, typer.Option("--here", help="Check only fleetpatch itself, and no machine.")] = False,
    server: Annotated[
        bool,
        typer.Option("--server", help="Check fleetpatch itself and the Prefect server, its schedules and workers."),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FOLDER",
            parser=parse_path,
            help="Write what the one machine answers to a new folder, without its names, for a report of a fault.",
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Show the unknown host keys, ask, and learn those that you trust. No login.")
    ] = False,
    trust_all: Annotated[
        bool, typer.Option("--trust-all", help="Learn all unknown host keys, and do not ask. Never a changed one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether machines are ready, with the remedy for each problem. Changes at most package lists.

    With --trust and --trust-all it checks nothing else.
    """
    if trust or trust_all:
        if only_here or server or refresh or record is not None:
            raise RequestError("--trust goes with no other option of doctor", hint="Leave the others out.")
        from fleetpatch.cli.views.trust import run_trust

        raise typer.Exit(
            int(run_trust(scope, inventory, records, at_once=at_once, is_asked=not trust_all, as_json=as_json))
        )
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.doctor import (
        build_doctor_json,
        print_findings,
        print_installation_findings,
        print_machine_readiness,
        print_recording,
        to_doctor_exit_code,
    )
    from flows.doctor import Readiness
    from flows.installation_checks import check_installation
    from tasks.rules.machine_checks.findings import find_worst_level

    _require_recordable(record, inventory, scope, asks_machines=not (only_here or server))
    own_findings = check_installation(records)
    if not as_json:
        print_installation_findings(own_findings)
    server_findings = _check_server(records, inventory) if server else ()
    if not as_json:
        print_findings(server_findings)
    readiness: tuple[Readiness, ...] = ()
    bundle: RecordedBundle | None = None
    if not only_here and not server and find_worst_level(own_findings) is not FindingLevel.BLOCK:
        machines = load_machines_in_scope(inventory, scope)[1]
        readiness, bundle = _check_machine_readiness(
            machines, inventory, scope, records, at_once=at_once, refresh=refresh, record=record
        )
        if not as_json:
            print_machine_readiness(readiness)
            unread_names = {machine.machine for machine in readiness if machine.has_unread_lists and record is None}
            whom = f"The package lists of {len(unread_names)} machines were"
            whom = "Its package lists were" if len(unread_names) == 1 else whom
            if unread_names and can_ask() and ask(f"{whom} never read. Read them now? Nothing else changes."):
                unread = [machine for machine in machines if machine.name in unread_names]
                again = (unread, inventory, scope, records)
                read_again, _ = _check_machine_readiness(*again, at_once=at_once, refresh=True)
                print_machine_readiness(read_again)
                readiness = (*(machine for machine in readiness if not machine.has_unread_lists), *read_again)
    if as_json:
        print_json(build_doctor_json(own_findings, readiness, server_findings, bundle))
    elif record is not None:
        print_recording(bundle)
    code = to_doctor_exit_code((*own_findings, *server_findings), readiness)
    is_unrecorded = record is not None and bundle is None
    raise typer.Exit(int(ExitCode.MACHINE_FAILED if is_unrecorded and code is not ExitCode.CANNOT_RUN else code))


def _require_recordable(folder: Path | None, inventory: Path | None, scope: str, *, asks_machines: bool) -> None:
    """Raise RequestError, before anything is asked, if one machine is to be recorded there and can't be."""
    if folder is None:
        return
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from flows.recording import require_new_folder

    if not asks_machines:
        raise RequestError(
            "--record records a machine, and --here and --server ask none", hint="Leave one of them out."
        )
    count = len(load_machines_in_scope(inventory, scope)[1])
    if count != 1:
        raise RequestError(f"--record records one machine, and the scope has {count}", hint="Name the machine.")
    require_new_folder(folder)


def _check_server(records: str | None, inventory: Path | None) -> tuple[Finding, ...]:
    """Check the server, and whether it has something for each site of the inventory, if there is one here."""
    from fleetpatch.cli.runtime.output import configure_logging
    from fleetpatch.cli.runtime.prefect_server import quieten_prefect

    quieten_prefect()
    from deployments.server.probe import check_server

    configure_logging()  # the import of Prefect has changed the logging
    from inventory.loader import find_inventory, load_inventory

    try:
        path = find_inventory(inventory)
    except InventoryError:
        if inventory is not None:
            raise
        return check_server(records)
    try:
        sites = load_inventory(path).sites
    except FleetpatchError as error:  # the server may be asked all the same
        message = f"the sites are unknown: {error.message.splitlines()[0]}"
        return (*check_server(records), Finding("inventory", FindingLevel.BLOCK, message, error.hint))
    return check_server(records, sites=sites)


def _check_machine_readiness(
    machines: Sequence[Machine],
    inventory: Path | None,
    scope: str,
    records: str | None,
    *,
    at_once: int,
    refresh: bool,
    record: Path | None = None,
) -> "tuple[tuple[Readiness, ...], RecordedBundle | None]":
    """Return whether machines are ready, and what was recorded, if the one machine is to be recorded to a folder."""
    from fleetpatch.cli.runtime.machine_selection import open_machines
    from flows.doctor import check_machines
    from flows.recording import MachineRecorder

    with open_machines(machines, inventory, scope, records, "doctor") as (ports, opened_machines):
        if record is None:
            return check_machines(opened_machines, ports, at_once=at_once, refresh=refresh), None
        recorder = MachineRecorder(opened_machines[0], ports)
        readiness = check_machines(opened_machines, recorder.ports, at_once=1, refresh=refresh)
        return readiness, recorder.record_rest(record)
