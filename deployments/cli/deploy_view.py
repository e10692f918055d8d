"""How a deployment's plan looks in a terminal, and as JSON."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import typer
from rich.table import Column
from rich.text import Text

from deployments.cli.config_view import tell_finding
from deployments.config.finding import Finding
from deployments.deploying.ahead import Ahead, Standing
from deployments.deploying.deploy import Examined
from deployments.deploying.model import Change, Doing
from flows.cli.screen import err, note, out, safe, safe_lines, say, table
from tasks.errors import RequestError
from tasks.reporting.text import plural
from tasks.rules.calendar.schedule import Occurrence
from tasks.rules.window import say_duration, zone_of

_STYLES = {
    Doing.CREATE: "green",
    Doing.UPDATE: "yellow",
    Doing.REMOVE: "red",
    Doing.CANCEL: "red",
    Doing.KEEP: "dim",
}


def tell_changes(todo: Sequence[Change]) -> None:
    """Show what has to be done; what stays as it is in a single line."""
    kept = sum(change.doing is Doing.KEEP for change in todo)
    if kept < len(todo):
        grid = table(Column("", no_wrap=True), Column("what", no_wrap=True), "name", Column("difference", ratio=1))
        for change in todo:
            if change.doing is not Doing.KEEP:
                words = safe_lines("\n".join(change.differences))
                grid.add_row(safe(change.doing, _STYLES[change.doing]), safe(change.kind), safe(change.name), words)
        say(grid)
    say(safe(f"{kept} of {len(todo)} are as they should be."))


def tell_faults(faults: Sequence[Finding]) -> None:
    """Show what is wrong with configurations."""
    for each in faults:
        tell_finding(each)
    if faults:
        say("")


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


@contextmanager
def told_how_far(count: int) -> Iterator[Callable[[Change], None]]:
    """Give what is to be called before each change; say how many were made, and at which one it ended if it did."""
    begun: list[Change] = []
    try:
        yield begun.append
    except Exception:
        if begun:
            at = f"{begun[-1].doing} {begun[-1].kind} {begun[-1].name}"
            note(
                f"{len(begun) - 1} of {count} changes were made; this one failed: {at}. Deploying again does the rest."
            )
        raise
    note(f"{count} changes were made.")


def tell_next(examined: Examined, found: Sequence[Ahead], runs: Mapping[str, Standing], now: datetime) -> None:
    """Say when the next windows open, and which of them Prefect will not start any more.

    Args:
        examined: what was deployed.
        found: what is ahead of each configuration.
        runs: how far the run of each present window has come, by deployment.
        now: aware.
    """
    for each in found:
        say(_line(each, runs.get(each.deployment, Standing.NONE), now))
    for configuration in examined.configurations.every:
        if not configuration.enabled:
            say(safe(f"{configuration.name}: switched off, its windows don't open", style="dim"))
    said = [line.until for each in examined.wanted.deployments for line in each.schedules if line.until is not None]
    if said:
        say(safe(f"Prefect knows dates until {_day(min(said))}; its refresh-schedules flow writes later ones."))
    for each in found:
        if each.current is not None and runs.get(each.deployment) is Standing.NONE:
            _tell_unstarted(each, each.current)


def tell_where(pool: str, page: str | None, *, serve: bool) -> None:
    """Say where the runs are seen, and who carries them out."""
    seen = f" See them at {page}" if page else ""
    if serve:
        say(safe(f"Runs of the work pool {pool} are carried out here, until Ctrl-C.{seen}"))
    else:
        say(safe(f"Runs are carried out by workers of the work pool {pool}: `fleetpatch deploy --serve` is one.{seen}"))


def tell_stopped() -> None:
    """Say what becomes of runs that were under way when the worker stopped."""
    note(
        "Stopped. If a run was under way here, what it began on machines goes on; the next `fleetpatch deploy --serve` "
        "takes it up within minutes. `fleetpatch runs` says which."
    )


def _line(each: Ahead, run: Standing, now: datetime) -> Text:
    name = each.deployment.partition("/")[2]
    text = Text.assemble(safe(name, style="bold"), f", {plural(each.machines, 'machine')}: ")
    windows = []
    if each.current is not None and run is not Standing.NONE:
        due = each.current.start - each.lead > now
        how = "starts" if due else "has started" if run is Standing.BEGUN else "waits for a worker"
        windows.append(f"{_span(each.current, each)}, its run {how}")
    if each.coming is not None:
        lead = f", its run starts {say_duration(each.lead.total_seconds())} before" if each.lead else ""
        ahead = say_duration((each.coming.start - now).total_seconds())
        windows.append(f"next window {_span(each.coming, each)}, in {ahead}{lead}")
    if not windows:
        windows.append("no window is left" if each.current is None else "no later window")
    return text.append_text(safe("; ".join(windows)))


def _tell_unstarted(each: Ahead, window: Occurrence) -> None:
    due = (window.start - each.lead).astimezone(zone_of(each.zone))
    say(
        Text.assemble(
            ("! ", "yellow"),
            safe(
                f"{each.configuration.name}: Prefect starts no run for the window {_span(window, each)}: it was due at "
                f"{due:%H:%M}, and Prefect makes none in the past. To patch in what is left of the window, start it:"
            ),
        )
    )
    out().print(safe(f"  {each.by_hand}"), soft_wrap=True)  # one line, to be copied


def _span(window: Occurrence, each: Ahead) -> str:
    start, end = (moment.astimezone(zone_of(each.zone)) for moment in (window.start, window.end))
    until = f"{end:%H:%M}" if start.date() == end.date() else f"{end:%a %H:%M}"
    return f"{start:%a %Y-%m-%d %H:%M} to {until} {each.zone}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def deploy_document(examined: Examined, faults: Sequence[Finding]) -> dict[str, object]:
    """Return what has to be done as JSON data, and what is wrong with configurations."""
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
        "faults": [
            {"configuration": each.configuration, "key": each.key, "message": each.message, "remedy": each.remedy}
            for each in faults
        ],
    }
