"""Pinned updates: a run installs only what an earlier run has tested, or what a rollout contains.

A run of a rollout may have waited for a worker while people acted, so it is also asked whether it may still begin.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from flows.request.patch_request import PatchRequest
from inventory.errors import InventoryError
from inventory.machine import Machine
from inventory.scope import Scope
from tasks.domain.errors import RecordsError, RecordsUnavailable, RequestError, SealBroken, SealKeyMissing
from tasks.domain.model import PinnedUpdates, RunInfo
from tasks.domain.protocols.records import ROLLOUT_PREFIX
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState, UpdateState
from tasks.records.automatic.opt_outs import OptOut, SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.queries.history import History
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import RolloutState

LAST_RUN_PREFIX = "last:"
MAX_RUNS_SEARCHED = 1000
"""How many of the newest runs are searched for the last run of a configuration."""


def resolve_pinned_updates(
    request: PatchRequest, find_updates: Callable[[str], PinnedUpdates], *, has_plans: bool = False
) -> tuple[PatchRequest, PinnedUpdates]:
    """Return the request with the id of the run whose updates are pinned, and the updates of that run.

    ``last:…`` is replaced by that run's id, so that a resumed run uses the same one.

    Args:
        request: a request whose ``as_in_run`` names a run.
        find_updates: finds the updates of a run.
        has_plans: whether the run already has plans. Then nothing is selected again, and a pinned run that no longer
            exists does not prevent the run from finishing.

    Raises:
        RequestError: the pinned run does not exist, or it has no updates to pin.
        RecordsError: the records can't be read.
    """
    try:
        pinned_updates = find_updates(request.updates.as_in_run)
    except (RequestError, SealBroken, SealKeyMissing):
        if not has_plans:
            raise
        return request, PinnedUpdates(request.updates.as_in_run)
    updates = request.updates.model_copy(update={"as_in_run": pinned_updates.run_id})
    return request.model_copy(update={"updates": updates}), pinned_updates


def find_pinned_updates(history: History, run_name: str) -> PinnedUpdates:
    """Return the updates that an earlier run has installed on any machine, or has selected if it was only a plan.

    Args:
        history: the records.
        run_name: the run's id, a unique prefix of it, or ``last:CONFIGURATION``: the newest run of that configuration
            that is over and began anything. ``rollout:ID`` is the frozen set of a rollout of automatic patching.

    Raises:
        RequestError: the run does not exist, is not over, or only assessed machines; or there is no such rollout.
        SealBroken: the rollout was changed in the database.
        SealKeyMissing: another controller has sealed the rollout.
        RecordsError: the records can't be read.
    """
    if run_name.startswith(ROLLOUT_PREFIX):
        rollout_id = run_name.removeprefix(ROLLOUT_PREFIX).strip()
        rollout = SqlRollouts(history.database).find(rollout_id, require_seal=True)
        if rollout is None:
            hint = "`fleetpatch automatic` lists the rollouts."
            raise RequestError(f"as_in_run: there is no rollout {rollout_id!r}", hint=hint)
        return PinnedUpdates(f"{ROLLOUT_PREFIX}{rollout.id}", rollout.updates)
    run = (
        _find_last_run(history, run_name.removeprefix(LAST_RUN_PREFIX).strip())
        if run_name.startswith(LAST_RUN_PREFIX)
        else _find_run(history, run_name)
    )
    if run.kind == "assess":
        raise RequestError(
            f"run {run.id} only assessed machines: it has tested no update",
            hint="Name a run that patched or planned: `fleetpatch runs` lists them.",
        )
    if run.state in UNFINISHED_RUN_STATES:
        raise RequestError(
            f"run {run.id} has not come to its end ({run.state}): what it has tested is not known yet",
            hint=f"Wait for it, or finish it: fleetpatch resume {run.id}",
        )
    report = history.read_report(run.id)
    if report.run.kind == "plan":
        return PinnedUpdates(run.id, frozenset(update.key for plan in report.plans for update in plan.chosen))
    results = (result for outcome in report.outcomes for result in outcome.updates)
    return PinnedUpdates(run.id, frozenset(result.key for result in results if result.state is UpdateState.INSTALLED))


def _find_run(history: History, run_name: str) -> RunInfo:
    try:
        return history.find_run(run_name)
    except RecordsUnavailable:
        raise
    except RecordsError as error:
        raise RequestError(f"as_in_run: {error.message}", hint="`fleetpatch runs` lists the runs.") from error


_WITHOUT_TEST: Final = frozenset({OperationState.NOT_STARTED, OperationState.CANCELLED})
"""The states of runs that have not tested their updates on all machines."""


def _find_last_run(history: History, configuration: str) -> RunInfo:
    finished_runs = (
        run for run in history.read_runs(MAX_RUNS_SEARCHED, kind="patch") if run.state not in UNFINISHED_RUN_STATES
    )
    for run in finished_runs:
        if run.request.get("configuration") == configuration and run.state not in _WITHOUT_TEST:
            return run
    raise RequestError(
        f"as_in_run: no finished run of configuration {configuration!r} is among the newest {MAX_RUNS_SEARCHED}",
        hint="Patch that ring first, or name a run by its id: `fleetpatch runs` lists them.",
    )


def find_machines_opted_out(machines: Sequence[Machine], opt_outs: Sequence[OptOut]) -> dict[str, str]:
    """Return the words of each paused machine's opt-out; of several, the oldest counts."""
    reasons_by_machine: dict[str, str] = {}
    for opt_out in opt_outs:
        until = f", until {opt_out.until:%Y-%m-%d %H:%M} UTC" if opt_out.until is not None else ""
        reason = f": {opt_out.reason}" if opt_out.reason else ""
        try:
            scope = Scope.parse(opt_out.scope)
        except InventoryError:  # it pauses every machine, as its writer wanted a pause
            scope = None
        for machine in machines:
            if scope is None or scope.matches(machine):
                reasons_by_machine.setdefault(machine.name, f"paused by {opt_out.who}{until}{reason}")
    return reasons_by_machine


def limit_rollout_run(
    database: Database, request: PatchRequest, read_machines: Callable[[], Sequence[Machine]], now: datetime
) -> tuple[PatchRequest, str]:
    """Return the request of a rollout's run without machines that were paused meanwhile, or why it may not begin.

    ``request``: of a run whose machines are named in ``only_machines``.
    ``read_machines``: returns those of the inventory; called only if anybody has paused something.

    Raises:
        RecordsError: the records can't be read.
    """
    rollout = SqlRollouts(database).find(request.updates.as_in_run.removeprefix(ROLLOUT_PREFIX).strip())
    if rollout is not None and rollout.state in {RolloutState.CANCELLED, RolloutState.FAULTED}:
        return request, f"{rollout.id} is {rollout.state}: {rollout.message}"
    opt_outs = SqlOptOuts(database).read_active(now)
    paused = find_machines_opted_out(read_machines(), opt_outs) if opt_outs else {}
    left = [name for name in request.only_machines if name not in paused]
    if request.only_machines and not left:
        name = request.only_machines[0]
        return request, f"all its machines are paused; {name}: {paused[name]}"
    return request.model_copy(update={"only_machines": left}), ""
