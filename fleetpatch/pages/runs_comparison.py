"""Two runs side by side: what differs, the most important first."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from fleetpatch.pages.paging import build_page
from fleetpatch.pages.run import RunHead, build_head, find_run, read_state
from fleetpatch.runs.run_state import MachineLine, RunState
from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from inventory.data_class import dataclass
from tasks.domain.rows.runs import RunRow
from tasks.domain.states import OperationState
from tasks.records.queries.runs import RunFilter, UpdateResultCounts, count_update_results, read_run_rows

_SLOWER_SECONDS: Final = 60.0
_SLOWER_SHARE: Final = 0.5
_BAD: Final = frozenset({OperationState.FAILED, OperationState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class MachineDifference:
    """A machine in both runs."""

    name: str
    left: MachineLine | None  # None: the left run does not have it
    right: MachineLine | None  # None: the right run does not have it
    what: tuple[str, ...]  # what differs, in words; () if nothing does
    rank: int  # its place in the list


@dataclass(frozen=True, slots=True)
class UpdateDifference:
    """An update with other results in one run than in the other."""

    name: str
    version: str
    left: UpdateResultCounts | None
    right: UpdateResultCounts | None


def compare_machines(left: RunState, right: RunState) -> list[MachineDifference]:
    """Return all machines of both runs: those that got worse, then other changes, then those without any. Pure."""
    lefts, rights = ({machine.name: machine for machine in state.machines} for state in (left, right))
    machine_comparisons = [
        _compare_machine(name, lefts.get(name), rights.get(name)) for name in dict.fromkeys((*rights, *lefts))
    ]
    return sorted(
        machine_comparisons,
        key=lambda difference: (
            difference.rank,
            min(line.rank for line in (difference.right, difference.left) if line),
            difference.name,
        ),
    )


def _compare_machine(name: str, left: MachineLine | None, right: MachineLine | None) -> MachineDifference:
    if left is None:
        return MachineDifference(name, left, right, ("only in the right run",), 4)
    if right is None:
        return MachineDifference(name, left, right, ("only in the left run",), 5)
    differences, rank = list(_describe_differences(left, right)), 9
    if left.state != right.state:
        differences.insert(0, "state")
        rank = 0 if right.state in _BAD else 1 if left.state in _BAD else 2
    elif differences:
        rank = 6 if differences == ["wave"] else 3
    return MachineDifference(name, left, right, tuple(differences), rank)


def _describe_differences(left: MachineLine, right: MachineLine) -> list[str]:
    before, after = left.result, right.result
    if before is None or after is None:
        return []
    differences: list[str] = []
    if before.updates_installed != after.updates_installed:
        differences.append("installed updates")
    if before.updates_failed != after.updates_failed:
        differences.append("failed updates")
    if before.reboot != after.reboot:
        differences.append("reboot")
    if before.seconds is not None and after.seconds is not None:
        change = after.seconds - before.seconds
        if abs(change) >= max(_SLOWER_SECONDS, _SLOWER_SHARE * before.seconds):
            differences.append("slower" if change > 0 else "faster")
    if left.wave != right.wave:
        differences.append("wave")
    return differences


def compare_updates(
    left: Mapping[tuple[str, str], UpdateResultCounts], right: Mapping[tuple[str, str], UpdateResultCounts]
) -> list[UpdateDifference]:
    """Return the updates whose results differ: more failures first, then what only one run has. Pure."""
    update_differences = [
        UpdateDifference(name, version, left.get((name, version)), right.get((name, version)))
        for name, version in dict.fromkeys((*right, *left))
        if left.get((name, version)) != right.get((name, version))
    ]

    def rank(each: UpdateDifference) -> tuple[int, str]:
        more = (each.right.failed if each.right else 0) - (each.left.failed if each.left else 0)
        return (-more, each.name)

    return sorted(update_differences, key=rank)


router = build_viewers_router()
MAX_UPDATES: Final = 200
CHOICES: Final = 40


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the two runs."""

    head: RunHead
    state: RunState


@router.get("/runs/compare")
def compare_runs(request: Request, left: str = "", right: str = "", page: int = 1) -> Response:
    """Compare two runs. Without both, offer runs to choose from: those of the same configuration or scope first."""
    context = get_context(request)
    left, right = left.strip(), right.strip()
    ids = {name: find_run(context, run_id).id for name, run_id in (("left", left), ("right", right)) if run_id}
    if len(ids) < 2:
        return _ask(request, ids)
    if (left, right) != (ids["left"], ids["right"]):
        return RedirectResponse(f"/runs/compare?{urlencode(ids)}", 303)
    sides = [_read_compared_run(context, ids[name]) for name in ("left", "right")]
    machines = compare_machines(sides[0].state, sides[1].state)
    database = context.records.database
    updates = compare_updates(*(count_update_results(database, ids[name]) for name in ("left", "right")))
    changed = [machine for machine in machines if machine.what]
    return render_page(
        request,
        "runs_comparison.html.j2",
        sides=sides,
        page=build_page(request, changed, page),
        same=len(machines) - len(changed),
        updates=updates[:MAX_UPDATES],
        updates_left_out=max(0, len(updates) - MAX_UPDATES),
    )


def _read_compared_run(context: WebContext, run_id: str) -> ComparedRun:
    run = find_run(context, run_id)
    return ComparedRun(build_head(context, run), read_state(context, run))


def _ask(request: Request, ids: dict[str, str]) -> Response:
    context = get_context(request)
    lines = read_run_rows(context.records.database, RunFilter(), 0, 400)
    known_line = next((each for each in lines if each.run_id in ids.values()), None)

    def rank(line: RunRow) -> int:
        if known_line is None:
            return 0
        alike = (line.kind, line.configuration, line.scope) == (
            known_line.kind,
            known_line.configuration,
            known_line.scope,
        )
        return 0 if alike else 1 if line.kind == known_line.kind else 2

    choices = sorted((each for each in lines if each.run_id not in ids.values()), key=rank)
    return render_page(request, "runs_comparison_choice.html.j2", ids=ids, choices=choices[:CHOICES], known=known_line)
