"""plan and patch: say what would be done, and do it."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.patch_options import HOW, RUN, request_from, takes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.request import PatchRequest
    from inventory.machine import Machine

DryRun = Annotated[
    bool | None, typer.Option("--dry-run", rich_help_panel=HOW, help="Only say what would be done; change nothing.")
]
Yes = Annotated[bool | None, typer.Option("--yes", "-y", rich_help_panel=RUN, help="Don't ask before beginning.")]
Plain = Annotated[
    bool | None,
    typer.Option("--plain", rich_help_panel=RUN, help="Without Prefect: quicker to start, not seen in its UI."),
]
AsFlow = Annotated[
    bool | None, typer.Option("--flow", rich_help_panel=RUN, help="As a Prefect flow, to be seen in its UI.")
]
Details = Annotated[
    bool | None, typer.Option("--details", rich_help_panel=RUN, help="Every update of every machine, however many.")
]


@app.command("plan", rich_help_panel="Patch")
@takes({"as_flow": AsFlow, "details": Details})
def plan(options: dict[str, Any]) -> None:
    """Say what patch would do, and change nothing: waves, updates, what is skipped and why, minutes, reboots."""
    request = request_from(options | {"dry_run": True})
    _carry_out(request, options, as_flow=bool(options["as_flow"]))


@app.command("patch", rich_help_panel="Patch")
@takes({"dry_run": DryRun, "yes": Yes, "plain": Plain, "details": Details})
def patch(options: dict[str, Any]) -> None:
    """Patch machines in waves inside a window: assess, install, reboot where needed, validate, report."""
    request = request_from(options)
    _carry_out(request, options, as_flow=not options["plain"], yes=bool(options["yes"]))


def _carry_out(request: "PatchRequest", options: dict[str, Any], *, as_flow: bool, yes: bool = True) -> None:
    from flows.cli.asking import machines_of
    from flows.cli.conduct import conduct
    from flows.cli.ending import tell_patch
    from flows.wiring import report_directory

    _, machines = machines_of(request.inventory, request.scope)
    if not request.dry_run and not yes:
        _confirm(request, machines)
    if not request.dry_run:
        request = request.model_copy(update={"report_directory": report_directory(request.report_directory)})
    names = [machine.name for machine in machines]
    ended = conduct(request, names, as_flow=as_flow, records=options["records"])
    tell_patch(ended, request.report_directory, as_json=bool(options["as_json"]), details=bool(options["details"]))
    raise typer.Exit(int(ended.code))


def _confirm(request: "PatchRequest", machines: "Sequence[Machine]") -> None:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is none.
    """
    from flows.cli.ending import tell_intent
    from flows.cli.screen import err
    from tasks.errors import RequestError

    if sys.stdin is None or not sys.stdin.isatty():
        raise RequestError(
            f"{len(machines)} machines would be patched, and nobody is at a terminal to confirm that",
            hint="Add --yes, or --dry-run to see what would be done.",
        )
    tell_intent(request, machines)
    err().print("Patch them? [y/N] ", end="", markup=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        err().print("Nothing was done.")
        raise typer.Exit(0)
