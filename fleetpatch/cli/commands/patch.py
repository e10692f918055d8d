"""assess, plan and patch: read what is pending, show what a run would do, and do it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from shlex import quote
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from fleetpatch.cli.app import (
    ALL_MACHINES,
    AtOnceOption,
    FlowOption,
    InventoryOption,
    JsonOption,
    NoRefreshOption,
    RecordsOption,
    ReportOption,
    ScopeArgument,
    app,
)
from fleetpatch.cli.runtime.output import confirm, print_to_stderr, require_terminal
from inventory.files.problems import did_you_mean
from inventory.machine import Machine
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.protocols.clock import SystemClock
from tasks.reports.formatting import format_count
from tasks.rules.calendar.local_time import format_duration

if TYPE_CHECKING:
    from flows.request.patch_request import PatchRequest
    from inventory.machine import MachineSet

_LONG_WAIT = timedelta(hours=1)
_DETAILS_FLAG = typer.Option("--details", rich_help_panel="Run", help="Show every update of every machine.")
_PLAN_FLAGS: Mapping[str, Any] = {
    "as_flow": typer.Option("--flow", rich_help_panel="Run", help="Run as a Prefect flow. Prefect's UI shows it."),
    "details": _DETAILS_FLAG,
}
_PATCH_FLAGS: Mapping[str, Any] = {
    "dry_run": typer.Option(
        "--dry-run", rich_help_panel="Policies", help="Show what would be done, and change nothing."
    ),
    "yes": typer.Option("--yes", "-y", rich_help_panel="Run", help="Do not ask before the run begins."),
    "no_prefect": typer.Option(
        "--no-prefect", rich_help_panel="Run", help="Run without Prefect. Starts faster. Prefect's UI does not show it."
    ),
    "details": _DETAILS_FLAG,
}


class LazyCommand(TyperCommand):
    """A verb whose callback builds the command when it is used, so that the help of other verbs is quick."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:  # noqa: ANN401 - those of Typer's own base
        """Return the context of the command itself."""
        build_command: Any = self.callback
        return build_command().make_context(*arguments, **settings)


def plan(options: dict[str, Any]) -> None:
    """Show what patch would do: waves, updates, skipped updates and the reason, minutes, reboots. Changes nothing."""
    patch({**options, "dry_run": True, "no_prefect": not options["as_flow"], "yes": True, "reaches_sites": True})


def patch(options: dict[str, Any]) -> None:
    """Patch machines in waves inside a window: assess, install, reboot where needed, validate, report."""
    from fleetpatch.cli.request_parsing import build_patch_request
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.runtime.prefect_server import reaches_sites_by_prefect
    from fleetpatch.cli.runtime.run_session import run_request_in_session
    from fleetpatch.cli.views.run_result import print_result
    from flows.policy.enforcement import build_starter, enforce_policy
    from flows.ports.caller import read_login_name
    from tasks.reports.report_directory import find_report_directory

    request = build_patch_request(options)
    inventory, machines = load_machines_in_scope(request.inventory, request.scope)
    _require_in_scope(options["only"] or (), machines, request.scope)
    # Early, so that nobody is asked in vain. The engine asks the policy again when the run begins.
    enforce_policy(request, inventory, build_starter(read_login_name()), SystemClock().now())
    if not request.dry_run:
        wait = request.window.to_window(SystemClock().now()).start - SystemClock().now()
        if wait > _LONG_WAIT:
            print_to_stderr(
                f"The window opens in {format_duration(wait.total_seconds())}. Until then this command waits, and it "
                "must not be closed. A configuration with this window runs without a terminal: `fleetpatch deploy`."
            )
    if not request.dry_run and not options["yes"]:
        _confirm_patch(request, machines, inventory.sets, options["records"])
    if not request.dry_run:
        request = request.model_copy(update={"report_directory": find_report_directory(request.report_directory)})
    as_flow = not options["no_prefect"] or ("reaches_sites" in options and reaches_sites_by_prefect(machines))
    result = run_request_in_session(
        request, [machine.name for machine in machines], as_flow=as_flow, records=options["records"]
    )
    print_result(result, request.report_directory, as_json=bool(options["as_json"]), details=bool(options["details"]))
    raise typer.Exit(int(result.exit_code))


def _require_in_scope(names: Sequence[str], machines: Sequence[Machine], scope: str) -> None:
    """Raise RequestError for a name of ``--only`` that is not in the scope. In a request file it may be older."""
    machine_names = {machine.name for machine in machines}
    for name in names:
        if name not in machine_names:
            hint = f"{did_you_mean(name, machine_names)}To see its machines: fleetpatch inventory list {quote(scope)}"
            raise RequestError(f"--only: no machine {name!r} is in the scope {scope!r}", hint=hint)


def _confirm_patch(
    request: "PatchRequest", machines: Sequence[Machine], sets: "Sequence[MachineSet]", records: str | None
) -> None:
    """Ask the person at the terminal. RequestError: there is no terminal."""
    from fleetpatch.cli.runtime.run_lookup import open_history
    from fleetpatch.cli.views.patch_request import print_patch_request
    from tasks.records.automatic.sightings import with_first_seen

    subject, hint = (
        f"patching {format_count(len(machines), 'machine')}",
        "Add --yes, or see what would be done: fleetpatch plan.",
    )
    require_terminal(subject, hint)
    selection = request.to_patch_options().selection
    try:
        history = open_history(records)
        assessments = history.read_latest_assessments([machine.name for machine in machines], answered=True)
        states = (assessment.packages for assessment in assessments.values())
        selection = with_first_seen(history.database, selection, states)
    except RecordsError:  # the question has no numbers then; the run says what is wrong with the records
        assessments = None
    print_patch_request(request, machines, SystemClock().now(), sets, assessments, selection)
    if not confirm("Patch them?", subject, hint):
        raise typer.Exit(0)


def _add_patch_verb(
    name: str, verb: Callable[[dict[str, Any]], None], flags: Mapping[str, Any], *, is_act: bool
) -> None:
    """Add a verb with the options of a patch request and flags of its own. It receives them as one map.

    An act runs as ``fleetpatch.cli.runtime.acting_command.ActingCommand``, which writes it into the audit log.
    """

    @app.command(name, cls=LazyCommand, rich_help_panel="Patch", help=verb.__doc__)
    @cache
    def build_command() -> Any:  # noqa: ANN401 - of Typer's
        from fleetpatch.cli.request_options import build_patch_command

        return build_patch_command(name, verb, flags, is_act=is_act)


_add_patch_verb("plan", plan, _PLAN_FLAGS, is_act=False)
_add_patch_verb("patch", patch, _PATCH_FLAGS, is_act=True)


@app.command("assess", rich_help_panel="Look")
def assess(
    scope: ScopeArgument = ALL_MACHINES,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    no_refresh: NoRefreshOption = False,
    at_once: AtOnceOption = 50,
    report: ReportOption = None,
    as_flow: FlowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read pending updates and required reboots of machines. Changes only package lists."""
    from fleetpatch.cli.request_parsing import build_request, remove_unset_values
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.runtime.prefect_server import reaches_sites_by_prefect
    from fleetpatch.cli.runtime.run_session import run_request_in_session
    from fleetpatch.cli.views.run_result import print_result
    from flows.request.read_requests import AssessRequest

    tree = {
        "scope": scope,
        "inventory": inventory,
        "refresh": not no_refresh,
        "at_once": at_once,
        "report_directory": report,
    }
    request = build_request(AssessRequest, remove_unset_values(tree), verb="assess")
    _, machines = load_machines_in_scope(request.inventory, request.scope)
    names, as_flow = [machine.name for machine in machines], as_flow or reaches_sites_by_prefect(machines)
    result = run_request_in_session(request, names, as_flow=as_flow, records=records)
    print_result(result, request.report_directory, as_json=as_json)
    raise typer.Exit(int(result.exit_code))
