"""A frozen set: what one run has tested is what the next may install. Finds it in the records."""

from collections.abc import Callable

from flows.request.assess_request import AssessRequest
from flows.request.patch_request import PatchRequest
from tasks.errors import RecordsError, RecordsUnavailable, RequestError
from tasks.model import PinnedUpdates, RunInfo, RunReport
from tasks.records.queries.history import History
from tasks.states import UNFINISHED_RUN_STATES, OperationState, UpdateState

LAST_RUN_PREFIX = "last:"
MAX_RUNS_SEARCHED = 1000
"""Among so many of the newest runs the last one of a configuration is looked for."""


def resolve_pinned_updates(
    request: PatchRequest | AssessRequest, find_updates: Callable[[str], PinnedUpdates], *, has_plans: bool = False
) -> tuple[PatchRequest | AssessRequest, PinnedUpdates | None]:
    """Return the request with the run named whose updates are to be taken over, and what that run has installed.

    ``last:…`` becomes that run's id, so that whoever resumes the run means the same one.

    Args:
        request: what is asked for.
        find_updates: looks a run up.
        has_plans: the plans stand already. A run that can't be found any more must not keep others from finishing then:
            nothing is chosen anew.

    Raises:
        RequestError: there is no such run, or nothing can be taken over from it.
        RecordsError: the records can't be read.
    """
    if not isinstance(request, PatchRequest) or not request.updates.as_in_run:
        return request, None
    try:
        pinned_updates = find_updates(request.updates.as_in_run)
    except RequestError:
        if not has_plans:
            raise
        return request, PinnedUpdates(request.updates.as_in_run)
    updates = request.updates.model_copy(update={"as_in_run": pinned_updates.run_id})
    return request.model_copy(update={"updates": updates}), pinned_updates


def find_pinned_updates(history: History, run_name: str) -> PinnedUpdates:
    """Return what an earlier run has installed somewhere; what it chose, when it was only a plan.

    Args:
        history: the records.
        run_name: the run's id, a beginning of it that no other run has, or ``last:CONFIGURATION``: the newest run of
            that configuration which is over and began anything.

    Raises:
        RequestError: there is no such run, it has not come to its end, or it only assessed machines.
        RecordsError: the records can't be read.
    """
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
    return PinnedUpdates(run.id, _collect_updates(history.read_report(run.id)))


def _collect_updates(report: RunReport) -> frozenset[tuple[str, str]]:
    if report.run.kind == "plan":
        return frozenset((update.name, update.available) for plan in report.plans for update in plan.chosen)
    return frozenset(
        (result.update.name, result.version_after or result.update.available)
        for outcome in report.outcomes
        for result in outcome.updates
        if result.state is UpdateState.INSTALLED
    )


def _find_run(history: History, run_name: str) -> RunInfo:
    try:
        return history.find_run(run_name)
    except RecordsUnavailable:
        raise
    except RecordsError as error:
        raise RequestError(f"as_in_run: {error.message}", hint="`fleetpatch runs` lists the runs.") from error


def _find_last_run(history: History, configuration: str) -> RunInfo:
    finished_runs = (
        run for run in history.read_runs(MAX_RUNS_SEARCHED, kind="patch") if run.state not in UNFINISHED_RUN_STATES
    )
    for run in finished_runs:
        if run.request.get("configuration") == configuration and run.state is not OperationState.NOT_STARTED:
            return run
    raise RequestError(
        f"as_in_run: no finished run of configuration {configuration!r} is among the newest {MAX_RUNS_SEARCHED}",
        hint="Patch that ring first, or name a run by its id: `fleetpatch runs` lists them.",
    )
