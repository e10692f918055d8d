"""events: what machines are told before a run interrupts them, and the endpoint that tells them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    AtOnceOption,
    InventoryOption,
    JsonOption,
    MachineArgument,
    RecordsOption,
    ScopeArgument,
    YesOption,
    app,
    parse_path,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stderr, print_to_stdout
from inventory.name_lists import format_count

if TYPE_CHECKING:
    from tasks.domain.scheduled_events import ScheduledEvent

events_app = typer.Typer(
    help="Show and decide what machines are told before a run interrupts them.", no_args_is_help=True
)
app.add_typer(events_app, name="events", rich_help_panel="Patch")
token_app = typer.Typer(no_args_is_help=True, help="Tokens of machines whose address does not say which they are.")
events_app.add_typer(token_app, name="token")

EventArgument = Annotated[
    str, typer.Argument(metavar="EVENT", help="The id of an open event, or a unique beginning of it.")
]
_MAX_LISTED = 1000


@events_app.command("list")
def list_events(
    all_events: Annotated[bool, typer.Option("--all", help="Also events that are over.")] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the events that machines are told now: their times, and who has approved them."""
    from fleetpatch.cli.views.events import build_events_json, print_events
    from tasks.records.scheduled_events import SqlScheduledEvents
    from tasks.records.setup import open_records
    from tasks.rules.scheduled_events import build_event_row

    with open_records(records) as database:
        events = SqlScheduledEvents(database.database).find_newest(_MAX_LISTED, only_open=not all_events)
    print_json_or_text(as_json, build_events_json, print_events, [build_event_row(event) for event in events])


@events_app.command("approve", cls=ActingCommand)
def approve(event: EventArgument, records: RecordsOption = None, as_json: JsonOption = False) -> None:
    """Let an event begin now, for all its machines, as if each had approved it."""
    from flows.event_decisions import approve_event, find_open_event
    from flows.ports.caller import read_login_name
    from tasks.records.scheduled_events import SqlScheduledEvents
    from tasks.records.setup import open_records

    with open_records(records) as database:
        events = SqlScheduledEvents(database.database)
        approved = approve_event(events, find_open_event(events, event), read_login_name())
    _print_decision(approved, f"{approved.event_type} of {', '.join(approved.resources)} may begin.", as_json=as_json)


@events_app.command("withdraw", cls=ActingCommand)
def withdraw(
    event: EventArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why. The report shows it.")] = "",
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw an event: its run does not interrupt the machine. What the run has installed stays."""
    from flows.event_decisions import find_open_event, withdraw_event
    from flows.ports.caller import read_login_name
    from tasks.records.scheduled_events import SqlScheduledEvents
    from tasks.records.setup import open_records

    with open_records(records) as database:
        events = SqlScheduledEvents(database.database)
        withdrawn = withdraw_event(events, find_open_event(events, event), read_login_name(), reason)
    machines = ", ".join(withdrawn.resources)
    _print_decision(withdrawn, f"{withdrawn.event_type} of {machines} is withdrawn.", as_json=as_json)


@events_app.command("forward", cls=ActingCommand)
def forward(
    scope: ScopeArgument,
    target: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The endpoint, as machines reach it.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the forwarder away.")] = False,
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what machines have. Nothing is changed.")] = False,
    at_once: AtOnceOption = 20,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let programs ask 169.254.169.254, as on Azure: lay units down that forward it, on machines that agree to that."""
    from fleetpatch.cli.runtime.exit_codes import to_act_exit_code
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope, open_machines
    from fleetpatch.cli.runtime.row_table import build_list_json, build_list_table
    from fleetpatch.cli.views.events import FORWARDER_FACTS
    from flows.event_forwarding import ForwarderOrder, ForwarderState, change_forwarders, parse_target

    order = ForwarderOrder("" if remove or dry_run else parse_target(target), is_removal=remove, dry_run=dry_run)
    machines = load_machines_in_scope(inventory, scope)[1]
    whom = f"{format_count(len(machines), 'machine')}"
    verb = "Take the forwarder away from" if remove else "Lay a forwarder down on"
    if not (yes or dry_run or confirm(f"{verb} {whom}?", "events forward changes machines and", "Add --yes.")):
        return
    with open_machines(machines, inventory, scope, records, "events") as (ports, opened_machines):
        results = change_forwarders(opened_machines, ports, order, at_once)
    if as_json:
        print_json(build_list_json(FORWARDER_FACTS, results))
    else:
        print_to_stdout(build_list_table(FORWARDER_FACTS, results))
    states = [result.state for result in results]
    raise typer.Exit(int(to_act_exit_code(states, [ForwarderState.FAILED], ForwarderState.REFUSED)))


@events_app.command("serve")
def serve(
    host: Annotated[
        str, typer.Option("--host", envvar="FLEETPATCH_EVENTS_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, envvar="FLEETPATCH_EVENTS_PORT", help="0: any free one.")
    ] = 4281,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", parser=parse_path, help="Where it keeps how far documents are."),
    ] = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
) -> None:
    """Serve machines their scheduled events, over plain HTTP. Ctrl-C or SIGTERM ends it."""
    from flows.long_process import set_signals

    set_signals()
    from fleetpatch.server.event_server import EventServerSettings, serve_events

    settings = EventServerSettings(host, port, inventory, records, state)
    serve_events(settings, lambda text: print_to_stderr(f"fleetpatch events: {text}"))


@token_app.command("add", cls=ActingCommand)
def add_token(machine: MachineArgument, inventory: InventoryOption = None, records: RecordsOption = None) -> None:
    """Make the token of a machine, in place of an earlier one. It is printed once, on stdout, and is not stored."""
    import sys

    from fleetpatch.access.machine_identity import create_event_token
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from tasks.records.setup import open_records

    names = [each.name for each in load_machines_in_scope(inventory, f"name={machine}")[1]]
    with open_records(records) as database:
        text = create_event_token(database.database, names[0])
    print_to_stderr(f"With it, {names[0]} reads and approves its own events, and nothing else. It is shown only now:")
    sys.stdout.write(text + "\n")


@token_app.command("list")
def list_tokens(records: RecordsOption = None, as_json: JsonOption = False) -> None:
    """Show which machines have a token, never the tokens."""
    from fleetpatch.cli.views.events import build_tokens_json, print_tokens
    from tasks.records.event_tokens import SqlEventTokens
    from tasks.records.setup import open_records

    with open_records(records) as database:
        tokens = SqlEventTokens(database.database).list_tokens()
    print_json_or_text(as_json, build_tokens_json, print_tokens, tokens)


@token_app.command("remove", cls=ActingCommand)
def remove_token(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="The machine, also one that is gone.")],
    records: RecordsOption = None,
) -> None:
    """End the token of a machine."""
    from tasks.domain.errors import RequestError
    from tasks.records.event_tokens import SqlEventTokens
    from tasks.records.setup import open_records

    with open_records(records) as database:
        if not SqlEventTokens(database.database).remove(machine):
            raise RequestError(f"{machine!r} has no token", hint="fleetpatch events token list shows them.")
    print_to_stderr(f"The token of {machine} is no longer valid.")


def _print_decision(event: "ScheduledEvent", text: str, *, as_json: bool) -> None:
    from fleetpatch.cli.views.events import build_events_json
    from tasks.rules.scheduled_events import build_event_row

    if as_json:
        print_json(build_events_json([build_event_row(event)])[0])
    else:
        print_to_stderr(text)
