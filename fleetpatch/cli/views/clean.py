"""Shows what fleetpatch has left on machines, and what became of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from flows.cleaning import BAD_STATES, CleanResult, CleanState
from inventory.name_lists import format_count
from tasks.steps.machine.cleaning import Remain, Remains

_STYLES: Mapping[CleanState, str] = {
    CleanState.CLEANED: "green",
    CleanState.NOTHING_FOUND: "dim",
    CleanState.TO_BE_CLEANED: "",
    CleanState.INCOMPLETE: "red",
    CleanState.REFUSED: "yellow",
    CleanState.NOT_REACHED: "red",
    CleanState.FAILED: "red",
}


def print_results(results: Sequence[CleanResult]) -> None:
    """Print the state of each machine, and what is or was there."""
    grid = build_table(build_unwrapped_column("machine"), build_unwrapped_column("state"), "what")
    for result in results:
        lines = [to_safe_text(line) for line in _iterate_lines(result)]
        grid.add_row(
            to_safe_text(result.machine), Text(result.state.value, style=_STYLES[result.state]), Text("\n").join(lines)
        )
    print_to_stdout(grid)


def _iterate_lines(result: CleanResult) -> Iterator[str]:
    if result.message:
        yield result.message
    if result.remedy:
        yield result.remedy
    remains = result.remains or Remains()
    if result.state not in {CleanState.REFUSED, CleanState.NOTHING_FOUND}:
        things = remains.found or remains.removed
        jobs = Counter(thing.what for thing in things)["job"]
        if jobs:
            yield format_count(jobs, "job")
        yield from (f"{thing.what}: {thing.path}" for thing in things if thing.what != "job")
        yield from (f"not removed: {thing.path}: {thing.why}" for thing in remains.failed)
    yield from remains.restored
    yield from (f"stays: {thing.path}: {thing.why}" for thing in remains.left)


def build_clean_json(results: Sequence[CleanResult], *, dry_run: bool) -> dict[str, object]:
    """Return what became of machines as JSON data."""
    return {
        "dryRun": dry_run,
        "machines": [
            {
                "machineName": result.machine,
                "status": result.state.value,
                "message": result.message or None,
                "remedy": result.remedy or None,
                "found": _build_things((result.remains or Remains()).found),
                "removed": _build_things((result.remains or Remains()).removed),
                "notRemoved": _build_things((result.remains or Remains()).failed),
                "left": _build_things((result.remains or Remains()).left),
                "restored": list((result.remains or Remains()).restored),
            }
            for result in results
        ],
    }


def _build_things(things: Sequence[Remain]) -> list[dict[str, str | None]]:
    return [{"what": remnant.what or None, "path": remnant.path, "reason": remnant.why or None} for remnant in things]


def to_exit_code(results: Sequence[CleanResult]) -> ExitCode:
    """Return the exit code: 1 if a machine was not reached or not cleaned completely, 3 or 4 if one was refused."""
    states = {result.state for result in results}
    if states & BAD_STATES:
        return ExitCode.MACHINE_FAILED
    if states == {CleanState.REFUSED}:
        return ExitCode.NOTHING_ATTEMPTED
    return ExitCode.WARNINGS if CleanState.REFUSED in states else ExitCode.SUCCESS
