"""automatic and compliance: what automatic patching does, waits for and misses. Contacts no machine."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ConfigurationsOption,
    InventoryOption,
    JsonOption,
    MachineArgument,
    RecordsOption,
    YesOption,
    app,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.completion import complete_held_update, complete_names, complete_scope
from fleetpatch.cli.runtime.output import confirm, print_json, print_json_or_text, print_to_stderr, to_safe_text
from flows.ports.caller import read_login_name
from inventory.files.problems import did_you_mean
from inventory.name_lists import format_count
from tasks.domain.assessment import strip_update_id
from tasks.domain.errors import FleetpatchError, RequestError
from tasks.domain.protocols.clock import SystemClock

if TYPE_CHECKING:
    from deployments.preview.automatic_status import AutomaticStatus
    from tasks.rules.automatic.model import Rollout

automatic_app = typer.Typer(
    help="Show what automatic patching does and waits for. Pause it, release held updates, cancel a rollout.",
    invoke_without_command=True,
)
app.add_typer(automatic_app, name="automatic", rich_help_panel="Schedule")

PausedScopeArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCOPE", help='Machines, e.g. "env=prod" or a name. "*" is all of them.', autocompletion=complete_scope
    ),
]


@automatic_app.callback()
def show_automatic(
    context: typer.Context,
    show_all: Annotated[bool, typer.Option("--all", help="List every machine that waits.")] = False,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the policy, the rollout and its phases, who is next, and who waits for what. Changes nothing."""
    if context.invoked_subcommand is not None:
        return
    from fleetpatch.cli.views.automatic import build_automatic_json, print_automatic_status

    status = read_status(config, inventory, records)
    if as_json:
        print_json(build_automatic_json(status))
    else:
        print_automatic_status(status, show_all=show_all)


@automatic_app.command("explain")
def explain_machine(
    machine: MachineArgument,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show when a machine is patched automatically or why it is not, and until when each update is due."""
    from deployments.preview.automatic_status import explain_automatic
    from fleetpatch.cli.views.automatic_explanation import build_automatic_explanation_json, print_automatic_explanation

    explanation = explain_automatic(read_status(config, inventory, records), machine)
    print_json_or_text(as_json, build_automatic_explanation_json, print_automatic_explanation, explanation)


@automatic_app.command("pause", cls=ActingCommand)
def pause(
    scope: PausedScopeArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why. Everybody can read it.")],
    until: Annotated[
        str,
        typer.Option(
            "--until",
            metavar="TIME",
            help="When it ends by itself, e.g. 2026-12-24 or 2026-12-24T22:00. Default: never.",
        ),
    ] = "",
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take machines out of automatic patching, from now on. A run that has begun ends as it would."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.runtime.row_table import build_list_json
    from fleetpatch.cli.views.automatic import PAUSE_FACTS
    from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
    from tasks.records.setup import open_records

    now = SystemClock().now()
    _, machines = load_machines_in_scope(inventory or _find_inventory_of_policy(now), scope)
    opt_out = OptOut(scope.strip(), read_login_name(), require_reason_option(reason), now, parse_pause_end(until, now))
    with open_records(records) as database:
        SqlOptOuts(database.database).add(opt_out)
    if as_json:
        print_json({**build_list_json(PAUSE_FACTS, [opt_out])[0], "machineCount": len(machines)})
        return
    ends = f"until {opt_out.until.astimezone():%Y-%m-%d %H:%M %Z}" if opt_out.until else "until somebody resumes it"
    print_to_stderr(to_safe_text(f"{scope} is paused {ends}. Machines now: {len(machines)}."))


@automatic_app.command("resume", cls=ActingCommand)
def resume_scope(scope: PausedScopeArgument, records: RecordsOption = None, as_json: JsonOption = False) -> None:
    """End a pause. Give the scope as it was given to `pause`."""
    from tasks.records.automatic.opt_outs import SqlOptOuts
    from tasks.records.setup import open_records

    with open_records(records) as database:
        opt_outs = SqlOptOuts(database.database)
        was_paused = opt_outs.remove(scope.strip())
        scopes = [opt_out.scope for opt_out in opt_outs.read_active(SystemClock().now())]
    if not was_paused:
        near = did_you_mean(scope, scopes)
        paused = f"{near}Paused are: {', '.join(scopes)}." if scopes else "Nothing is paused."
        raise RequestError(f"the scope {scope!r} is not paused", hint=paused)
    if as_json:
        print_json({"resumed": scope.strip(), "paused": scopes})
    else:
        print_to_stderr(to_safe_text(f"{scope} is no longer paused."))


@automatic_app.command("release", cls=ActingCommand)
def release_update(
    update: Annotated[
        str,
        typer.Argument(
            metavar="NAME[=VERSION]",
            help="An update that is held. No version: all.",
            autocompletion=complete_held_update,
        ),
    ],
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the next rollout contain an update that is held because it failed."""
    from fleetpatch.cli.runtime.row_table import build_list_json
    from fleetpatch.cli.views.automatic import HELD_UPDATE_FACTS
    from tasks.records.automatic.held_updates import SqlHeldUpdates
    from tasks.records.setup import open_records

    name, _, version = update.partition("=")
    with open_records(records) as database:
        held_updates = SqlHeldUpdates(database.database)
        released = held_updates.release(name.strip(), version.strip(), read_login_name(), SystemClock().now())
        held_names = [] if released else [held_update.name for held_update in held_updates.read_held()]
    if not released:
        hint = f"{did_you_mean(name, held_names)}`fleetpatch automatic` shows which are."
        raise RequestError(f"the update {update!r} is not held", hint=hint)
    if as_json:
        print_json({"released": build_list_json(HELD_UPDATE_FACTS, released)})
        return
    for held_update in released:
        released_name = f"{held_update.name} {strip_update_id(held_update.version)}"
        text = f"{released_name} is released: the next rollout may contain it."
        print_to_stderr(to_safe_text(text))


@automatic_app.command("cancel", cls=ActingCommand)
def cancel_rollout(
    rollout: Annotated[
        str,
        typer.Argument(
            metavar="[ROLLOUT]",
            help="Its id. Default: the one that is under way.",
            autocompletion=complete_names("rollouts"),
        ),
    ] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why. Everybody can read it.")] = "cancelled",
    yes: YesOption = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a rollout: none of its runs starts any more. Runs that have begun end as they would."""
    from dataclasses import replace

    from tasks.domain.errors import SealBroken, SealKeyMissing
    from tasks.records.automatic.rollouts import SqlRollouts
    from tasks.records.setup import open_records
    from tasks.reports.formatting import format_iso_utc
    from tasks.rules.automatic.model import RolloutState

    now = SystemClock().now()
    with open_records(records) as database:
        rollouts = SqlRollouts(database.database)
        current = _find_rollout(rollouts.read_newest(), rollout)
        question = f"Cancel the rollout {current.id} of {format_count(len(current.updates), 'update')}?"
        if not (yes or confirm(question, f"cancelling the rollout {current.id}")):
            return
        message = f"cancelled by {read_login_name()}: {require_reason_option(reason)}"
        try:
            rollouts.find(current.id, require_seal=True)
        except (SealBroken, SealKeyMissing) as error:  # what is saved is sealed: nothing of its set may be
            current = replace(current, updates=frozenset(), phases=())
            message = f"{message} ({error.message})"
        cancelled = replace(current, state=RolloutState.CANCELLED, ended_at=now, message=message)
        if not rollouts.save(cancelled):
            raise RequestError(f"the rollout {current.id} has ended meanwhile", hint="`fleetpatch automatic` shows it.")
    if as_json:
        state, end = cancelled.state.value, format_iso_utc(now)
        print_json({"id": cancelled.id, "state": state, "endDateTime": end, "message": message})
    else:
        print_to_stderr(
            f"The rollout {cancelled.id} is cancelled. Runs that have begun go on: fleetpatch runs, cancel RUN."
        )


def _find_rollout(rollouts: "tuple[Rollout, ...]", wanted: str) -> "Rollout":
    """Return the rollout that is to be cancelled. RequestError: there is none, or it is over."""
    from tasks.rules.automatic.model import RolloutState

    match = next((rollout for rollout in reversed(rollouts) if not wanted or rollout.id == wanted), None)
    if match is None:
        ids = [rollout.id for rollout in rollouts]
        newest = f"{did_you_mean(wanted, ids)}The newest are: {', '.join(ids[-3:])}."
        message = f"there is no rollout {wanted!r}" if wanted else "there is no rollout yet"
        raise RequestError(message, hint=newest if ids else "The first begins by itself.")
    if match.state is not RolloutState.ROLLING_FORWARD:
        raise RequestError(f"the rollout {match.id} is over: {match.state}", hint="Nothing of it starts any more.")
    return match


def read_status(config: Path | None, inventory: Path | None, records: str | None) -> "AutomaticStatus":
    """Return the status of automatic patching.

    Raises:
        FleetpatchError: there is no policy, or something can't be read.
    """
    from deployments.configuration.loader import find_configurations, load_configurations
    from deployments.preview.automatic_status import read_automatic_status
    from inventory.loader import find_inventory, load_inventory
    from tasks.records.setup import open_records

    now = SystemClock().now()
    configurations = find_configurations(config)
    request = load_configurations(configurations, now.date()).automatic
    if request is None:
        raise RequestError(
            f"{configurations} has no policy of automatic patching",
            hint="Write a file with `automatic: {}` there. docs/how-to/automatic-patching.md says more.",
        )
    loaded_inventory = load_inventory(find_inventory(inventory or request.inventory))
    with open_records(records) as database:
        return read_automatic_status(request, loaded_inventory, database, now)


def _find_inventory_of_policy(now: datetime) -> Path | None:
    """Return the inventory that the policy names. Without a usable policy it is the default one: a pause can't wait."""
    from deployments.configuration.loader import find_configurations, load_configurations

    try:
        request = load_configurations(find_configurations(None), now.date()).automatic
    except FleetpatchError:
        return None
    return None if request is None else request.inventory


def require_reason_option(reason: str) -> str:
    """Return a reason without blanks around it. Raise RequestError if it is empty."""
    if not reason.strip():
        raise RequestError("--reason is empty", hint="Say why, so that others know whether it still holds.")
    return reason.strip()


def parse_pause_end(text: str, now: datetime) -> datetime | None:
    """Return a time that a person gave; without an offset it is in the zone of this computer. "": None.

    Raises:
        RequestError: it is no time, or not in the future.
    """
    if not text.strip():
        return None
    try:
        until = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError) as error:
        hint = "Give a date such as 2026-12-24, or a time such as 2026-12-24T22:00."
        raise RequestError(f"--until {text!r} is no time", hint=hint) from error
    if until <= now:
        raise RequestError(f"--until {text} is over", hint="Give a time in the future.")
    return until
