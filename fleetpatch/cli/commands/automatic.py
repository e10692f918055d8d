"""automatic and compliance: what automatic patching does, waits for and misses. Contacts no machine."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import InventoryOption, JsonOption, MachineArgument, RecordsOption, app, parse_path
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.completion import complete_held_update, complete_names, complete_scope
from fleetpatch.cli.runtime.output import confirm, print_json, print_to_stderr, to_safe_text
from flows.ports.caller import read_login_name
from inventory.files.problems import did_you_mean
from inventory.name_lists import format_count
from tasks.domain.errors import FleetpatchError, RequestError

if TYPE_CHECKING:
    from deployments.preview.automatic_status import AutomaticStatus
    from tasks.rules.automatic.model import Rollout
from fleetpatch.cli.app import ALL_MACHINES, ScopeArgument

automatic_app = typer.Typer(
    help="Show what automatic patching does and waits for. Pause it, release held updates, cancel a rollout.",
    invoke_without_command=True,
)
app.add_typer(automatic_app, name="automatic", rich_help_panel="Schedule")

ConfigurationsOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="PATH",
        parser=parse_path,
        help="Configurations. Default: $FLEETPATCH_CONFIGURATIONS, ./configurations, or the user's.",
    ),
]
PausedScopeArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCOPE",
        help='Machines, e.g. "env=prod" or a name. "*" is all of them.',
        autocompletion=complete_scope,
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
    from fleetpatch.cli.views.automatic import print_automatic_status
    from fleetpatch.cli.views.automatic_json import build_automatic_json

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
    from fleetpatch.cli.views.automatic_machine import build_explanation_json, print_explanation

    explanation = explain_automatic(read_status(config, inventory, records), machine)
    if as_json:
        print_json(build_explanation_json(explanation))
    else:
        print_explanation(explanation)


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
    from fleetpatch.cli.views.automatic_json import build_pause_json
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
    from tasks.records.setup import open_records

    now = SystemClock().now()
    _, machines = load_machines_in_scope(inventory or _find_inventory_of_policy(now), scope)
    opt_out = OptOut(scope.strip(), read_login_name(), require_reason(reason), now, parse_until(until, now))
    with open_records(records) as database:
        SqlOptOuts(database.database).add(opt_out)
    if as_json:
        print_json({**build_pause_json(opt_out), "machineCount": len(machines)})
        return
    ends = f"until {opt_out.until.astimezone():%Y-%m-%d %H:%M %Z}" if opt_out.until else "until somebody resumes it"
    print_to_stderr(to_safe_text(f"{scope} is paused {ends}. Machines now: {len(machines)}."))


@automatic_app.command("resume", cls=ActingCommand)
def resume_scope(scope: PausedScopeArgument, records: RecordsOption = None, as_json: JsonOption = False) -> None:
    """End a pause. Give the scope as it was given to `pause`."""
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.automatic.opt_outs import SqlOptOuts
    from tasks.records.setup import open_records

    with open_records(records) as database:
        opt_outs = SqlOptOuts(database.database)
        was_paused = opt_outs.remove(scope.strip())
        left = [opt_out.scope for opt_out in opt_outs.read_active(SystemClock().now())]
    if not was_paused:
        near = did_you_mean(scope, left)
        paused = f"{near}Paused are: {', '.join(left)}." if left else "Nothing is paused."
        raise RequestError(f"the scope {scope!r} is not paused", hint=paused)
    if as_json:
        print_json({"resumed": scope.strip(), "paused": left})
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
    from fleetpatch.cli.views.automatic_json import build_held_json
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.automatic.held_updates import SqlHeldUpdates
    from tasks.records.setup import open_records

    name, _, version = update.partition("=")
    with open_records(records) as database:
        held_updates = SqlHeldUpdates(database.database)
        released = held_updates.release(name.strip(), version.strip(), read_login_name(), SystemClock().now())
        held = [] if released else [opt_out.name for opt_out in held_updates.read_held()]
    if not released:
        hint = f"{did_you_mean(name, held)}`fleetpatch automatic` shows which are."
        raise RequestError(f"the update {update!r} is not held", hint=hint)
    if as_json:
        print_json({"released": [build_held_json(opt_out) for opt_out in released]})
        return
    for opt_out in released:
        print_to_stderr(to_safe_text(f"{opt_out.name} {opt_out.version} is released: the next rollout may contain it."))


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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a rollout: none of its runs starts any more. Runs that have begun end as they would."""
    from dataclasses import replace

    from tasks.domain.errors import SealBroken, SealKeyMissing
    from tasks.domain.protocols.clock import SystemClock
    from tasks.records.automatic.rollouts import SqlRollouts
    from tasks.records.setup import open_records
    from tasks.reports.formatting import format_iso_utc
    from tasks.rules.automatic.model import RolloutState

    now = SystemClock().now()
    with open_records(records) as database:
        rollouts = SqlRollouts(database.database)
        found_rollout = _find_rollout(rollouts.read_newest(), rollout)
        question = f"Cancel the rollout {found_rollout.id} of {format_count(len(found_rollout.updates), 'update')}?"
        if not (yes or confirm(question, f"cancelling the rollout {found_rollout.id}")):
            return
        message = f"cancelled by {read_login_name()}: {require_reason(reason)}"
        try:
            rollouts.find(found_rollout.id, require_seal=True)
        except (SealBroken, SealKeyMissing) as error:  # what is saved is sealed: nothing of its set may be
            found_rollout, message = (
                replace(found_rollout, updates=frozenset(), phases=()),
                f"{message} ({error.message})",
            )
        cancelled = replace(found_rollout, state=RolloutState.CANCELLED, ended_at=now, message=message)
        if not rollouts.save(cancelled):
            raise RequestError(
                f"the rollout {found_rollout.id} has ended meanwhile", hint="`fleetpatch automatic` shows it."
            )
    if as_json:
        print_json(
            {
                "id": found_rollout.id,
                "state": cancelled.state.value,
                "endDateTime": format_iso_utc(now),
                "message": message,
            }
        )
    else:
        print_to_stderr(
            to_safe_text(
                f"The rollout {found_rollout.id} is cancelled. Runs that have begun go on: fleetpatch runs, cancel RUN."
            )
        )


def _find_rollout(rollouts: "tuple[Rollout, ...]", wanted: str) -> "Rollout":
    """Return the rollout that is to be cancelled.

    Raises:
        RequestError: there is none, or it is over.
    """
    from tasks.rules.automatic.model import RolloutState

    found = next((rollout for rollout in reversed(rollouts) if not wanted or rollout.id == wanted), None)
    if found is None:
        newest = ", ".join(rollout.id for rollout in rollouts[-3:])
        message = f"there is no rollout {wanted!r}" if wanted else "there is no rollout yet"
        raise RequestError(
            message,
            hint=f"{did_you_mean(wanted, [rollout.id for rollout in rollouts])}The newest are: {newest}."
            if newest
            else "The first begins by itself.",
        )
    if found.state is not RolloutState.ROLLING_FORWARD:
        raise RequestError(f"the rollout {found.id} is over: {found.state}", hint="Nothing of it starts any more.")
    return found


def read_status(config: Path | None, inventory: Path | None, records: str | None) -> "AutomaticStatus":
    """Return the status of automatic patching.

    Raises:
        FleetpatchError: there is no policy, or something can't be read.
    """
    from deployments.configuration.loader import find_configurations, load_configurations
    from deployments.preview.automatic_status import read_automatic_status
    from inventory.loader import find_inventory, load_inventory
    from tasks.domain.protocols.clock import SystemClock
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


def require_reason(reason: str) -> str:
    """Return a reason without blanks around it.

    Raises:
        RequestError: it is empty.
    """
    if not reason.strip():
        raise RequestError("--reason is empty", hint="Say why, so that others know whether it still holds.")
    return reason.strip()


def parse_until(text: str, now: datetime) -> datetime | None:
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


@app.command("compliance", rich_help_panel="Look")
def show_compliance(
    scope: ScopeArgument = ALL_MACHINES,
    show_all: Annotated[bool, typer.Option("--all", help="List every machine that has due updates.")] = False,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who misses a deadline of automatic patching, or will at the present pace, and why. Contacts no machine."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.automatic import print_feed_problems
    from fleetpatch.cli.views.compliance import (
        build_compliance_json,
        build_compliance_view,
        print_compliance,
        to_compliance_exit_code,
    )
    from tasks.rules.automatic.forecast import forecast

    status = read_status(config, inventory, records)
    _, machines = load_machines_in_scope(inventory or status.request.inventory, scope)
    names = {machine.name for machine in machines}
    days = max(30.0, status.policy.due_days)
    forecasts = [
        machine_forecast
        for machine_forecast in forecast(status.policy, status.view, status.now, days)
        if machine_forecast.machine in names
    ]
    view = build_compliance_view(status, forecasts)
    if as_json:
        print_json(build_compliance_json(view))
    else:
        print_compliance(view, show_all=show_all)
        print_feed_problems(status)
    if code := to_compliance_exit_code(view):
        raise typer.Exit(int(code))
