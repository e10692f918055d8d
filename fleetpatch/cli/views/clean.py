"""Shows what fleetpatch has left on machines, and what became of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, to_safe_text
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from flows.cleaning import CleanResult, CleanState
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


RESULT_FACTS: Final[Sequence[Fact[CleanResult]]] = (
    Fact("machineName", lambda result: result.machine, "machine"),
    Fact("status", lambda result: result.state, "state", lambda result: Text(result.state, _STYLES[result.state])),
    Fact("", lambda result: Text("\n").join(map(to_safe_text, _iterate_lines(result))), "what", wraps=True),
    Fact("message", lambda result: result.message or None),
    Fact("remedy", lambda result: result.remedy or None),
    Fact("found", lambda result: _build_remains((result.remains or Remains()).found)),
    Fact("removed", lambda result: _build_remains((result.remains or Remains()).removed)),
    Fact("notRemoved", lambda result: _build_remains((result.remains or Remains()).failed)),
    Fact("left", lambda result: _build_remains((result.remains or Remains()).left)),
    Fact("restored", lambda result: (result.remains or Remains()).restored),
)


def print_clean_results(results: Sequence[CleanResult]) -> None:
    """Print the state of each machine, and what is or was there."""
    print_to_stdout(build_list_table(RESULT_FACTS, results))


def _iterate_lines(result: CleanResult) -> Iterator[str]:
    if result.message:
        yield result.message
    if result.remedy:
        yield result.remedy
    remains = result.remains or Remains()
    if result.state not in {CleanState.REFUSED, CleanState.NOTHING_FOUND}:
        all_remains = remains.found or remains.removed
        jobs = Counter(remain.what for remain in all_remains)["job"]
        if jobs:
            yield format_count(jobs, "job")
        yield from (f"{remain.what}: {remain.path}" for remain in all_remains if remain.what != "job")
        yield from (f"not removed: {remain.path}: {remain.why}" for remain in remains.failed)
    yield from remains.restored
    yield from (f"stays: {remain.path}: {remain.why}" for remain in remains.left)


def build_clean_json(results: Sequence[CleanResult], *, dry_run: bool) -> dict[str, object]:
    """Return what became of machines as JSON data."""
    return {"dryRun": dry_run, "machines": build_list_json(RESULT_FACTS, results)}


def _build_remains(remains: Sequence[Remain]) -> list[dict[str, str | None]]:
    return [{"what": remain.what or None, "path": remain.path, "reason": remain.why or None} for remain in remains]
