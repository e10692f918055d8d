"""plan and patch: show what a run would do, and do it."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.options import OldNoPrefectOption
from flows.cli.patch_options import POLICY_PANEL, RUN_PANEL, build_patch_request, with_patch_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.request.patch_request import PatchRequest
    from inventory.machine import Machine

DryRunOption = Annotated[
    bool | None,
    typer.Option("--dry-run", rich_help_panel=POLICY_PANEL, help="Show what would be done, and change nothing."),
]
YesOption = Annotated[
    bool | None, typer.Option("--yes", "-y", rich_help_panel=RUN_PANEL, help="Do not ask before the run begins.")
]
NoPrefectOption = Annotated[
    bool | None,
    typer.Option(
        "--no-prefect",
        rich_help_panel=RUN_PANEL,
        help="Run without Prefect. Starts faster. Prefect's UI does not show it.",
    ),
]
AsFlowOption = Annotated[
    bool | None, typer.Option("--flow", rich_help_panel=RUN_PANEL, help="Run as a Prefect flow. Prefect's UI shows it.")
]
DetailsOption = Annotated[
    bool | None,
    typer.Option("--details", rich_help_panel=RUN_PANEL, help="Show every update of every machine."),
]


@app.command("plan", rich_help_panel="Patch")
@with_patch_options({"as_flow": AsFlowOption, "details": DetailsOption})
def plan(options: dict[str, Any]) -> None:
    """Show what patch would do: waves, updates, skipped updates and the reason, minutes, reboots. Changes nothing."""
    request = build_patch_request(options | {"dry_run": True})
    _run_patch(request, options, as_flow=bool(options["as_flow"]))


@app.command("patch", rich_help_panel="Patch")
@with_patch_options(
    {
        "dry_run": DryRunOption,
        "yes": YesOption,
        "no_prefect": NoPrefectOption,
        "plain": OldNoPrefectOption,
        "details": DetailsOption,
    }
)
def patch(options: dict[str, Any]) -> None:
    """Patch machines in waves inside a window: assess, install, reboot where needed, validate, report."""
    request = build_patch_request(options)
    _run_patch(request, options, as_flow=not (options["no_prefect"] or options["plain"]), yes=bool(options["yes"]))


def _run_patch(request: "PatchRequest", options: dict[str, Any], *, as_flow: bool, yes: bool = True) -> None:
    from flows.cli.runtime.machine_selection import load_machines_in_scope
    from flows.cli.runtime.run_session import run_request_in_session
    from flows.cli.views.run_result import print_patch_result
    from flows.ports.report_directory import find_report_directory

    _, machines = load_machines_in_scope(request.inventory, request.scope)
    if not request.dry_run and not yes:
        _confirm_patch(request, machines)
    if not request.dry_run:
        request = request.model_copy(update={"report_directory": find_report_directory(request.report_directory)})
    names = [machine.name for machine in machines]
    result = run_request_in_session(request, names, as_flow=as_flow, records=options["records"])
    print_patch_result(
        result, request.report_directory, as_json=bool(options["as_json"]), details=bool(options["details"])
    )
    raise typer.Exit(int(result.exit_code))


def _confirm_patch(request: "PatchRequest", machines: "Sequence[Machine]") -> None:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is no terminal.
    """
    from flows.cli.runtime.output import get_stderr_console
    from flows.cli.views.run_result import print_patch_request
    from tasks.errors import RequestError
    from tasks.reporting.formatting import format_count

    if sys.stdin is None or not sys.stdin.isatty():
        raise RequestError(
            f"patching {format_count(len(machines), 'machine')} needs a confirmation, and there is no terminal",
            hint="Add --yes, or --dry-run to see what would be done.",
        )
    print_patch_request(request, machines)
    get_stderr_console().print("Patch them? [y/N] ", end="", markup=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        get_stderr_console().print("Nothing was done.")
        raise typer.Exit(0)
