"""How a deployment's plan looks in a terminal, and as JSON."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import typer
from rich.table import Column

from deployments.deploying.deploy import Examined
from deployments.deploying.model import Change, Doing
from flows.cli.screen import err, note, safe, say, table
from tasks.errors import RequestError

_STYLES = {Doing.CREATE: "green", Doing.UPDATE: "yellow", Doing.REMOVE: "red", Doing.KEEP: "dim"}


def tell_changes(todo: Sequence[Change]) -> None:
    """Show what has to be done; what stays as it is in a single line."""
    kept = sum(change.doing is Doing.KEEP for change in todo)
    if kept < len(todo):
        grid = table(Column("", no_wrap=True), Column("what", no_wrap=True), "name", Column("difference", ratio=1))
        for change in todo:
            if change.doing is not Doing.KEEP:
                words = safe("\n".join(change.differences))
                grid.add_row(safe(change.doing, _STYLES[change.doing]), safe(change.kind), safe(change.name), words)
        say(grid)
    say(safe(f"{kept} of {len(todo)} are as they should be."))


def ask(count: int) -> None:
    """Ask the person at the terminal.

    Raises:
        RequestError: there is none.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise RequestError(
            f"{count} things would be changed in Prefect, and nobody is at a terminal to confirm that",
            hint="Add --yes, or --check to see what differs.",
        )
    err().print(f"Make these {count} changes? [y/N] ", end="", markup=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        err().print("Nothing was done.")
        raise typer.Exit(0)


def tell_doing(change: Change) -> None:
    """Say what is being done."""
    note(f"{change.doing} {change.kind} {change.name}")


def tell_next(examined: Examined) -> None:
    """Say where it goes on from here."""
    said = [line.until for each in examined.wanted.deployments for line in each.schedules if line.until is not None]
    if said:
        say(safe(f"Prefect knows dates until {_day(min(said))}; its refresh-schedules flow writes later ones."))


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def deploy_document(examined: Examined) -> dict[str, object]:
    """Return what has to be done as JSON data."""
    return {
        "settled": examined.settled,
        "changes": [
            {
                "doing": change.doing.value,
                "kind": change.kind,
                "name": change.name,
                "differences": list(change.differences),
            }
            for change in examined.changes
        ],
    }
