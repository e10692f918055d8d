"""A frozen set: what one run has tested is what the next may install. Finds it in the records."""

from collections.abc import Callable

from flows.request import AssessRequest, PatchRequest
from tasks.errors import RecordsError, RecordsUnavailable, RequestError
from tasks.model import FrozenSet, RunInfo, RunReport
from tasks.records.history import History
from tasks.states import OPEN, OperationState, UpdateState

LAST = "last:"
LOOKED_AT = 1000
"""Among so many of the newest runs the last one of a configuration is looked for."""


def pinned(
    request: PatchRequest | AssessRequest, find: Callable[[str], FrozenSet], *, planned: bool = False
) -> tuple[PatchRequest | AssessRequest, FrozenSet | None]:
    """Return the request with the run named whose updates are to be taken over, and what that run has installed.

    ``last:…`` becomes that run's id, so that whoever resumes the run means the same one.

    Args:
        request: what is asked for.
        find: looks a run up.
        planned: the plans stand already. A run that can't be found any more must not keep others from finishing then:
            nothing is chosen anew.

    Raises:
        RequestError: there is no such run, or nothing can be taken over from it.
        RecordsError: the records can't be read.
    """
    if not isinstance(request, PatchRequest) or not request.updates.as_in_run:
        return request, None
    try:
        frozen = find(request.updates.as_in_run)
    except RequestError:
        if not planned:
            raise
        return request, FrozenSet(request.updates.as_in_run)
    updates = request.updates.model_copy(update={"as_in_run": frozen.run_id})
    return request.model_copy(update={"updates": updates}), frozen


def frozen_of(history: History, named: str) -> FrozenSet:
    """Return what an earlier run has installed somewhere; what it chose, when it was only a plan.

    Args:
        history: the records.
        named: the run's id, a beginning of it that no other run has, or ``last:CONFIGURATION``: the newest run of that
            configuration which is over and began anything.

    Raises:
        RequestError: there is no such run, it has not come to its end, or it only assessed machines.
        RecordsError: the records can't be read.
    """
    run = _last_of(history, named.removeprefix(LAST).strip()) if named.startswith(LAST) else _named(history, named)
    if run.kind == "assess":
        raise RequestError(
            f"run {run.id} only assessed machines: it has tested no update",
            hint="Name a run that patched or planned: `fleetpatch runs` lists them.",
        )
    if run.state in OPEN:
        raise RequestError(
            f"run {run.id} has not come to its end ({run.state}): what it has tested is not known yet",
            hint=f"Wait for it, or finish it: fleetpatch resume {run.id}",
        )
    return FrozenSet(run.id, _updates(history.report(run.id)))


def _updates(report: RunReport) -> frozenset[tuple[str, str]]:
    if report.run.kind == "plan":
        return frozenset((update.name, update.available) for plan in report.plans for update in plan.chosen)
    return frozenset(
        (result.update.name, result.version_after or result.update.available)
        for outcome in report.outcomes
        for result in outcome.updates
        if result.state is UpdateState.INSTALLED
    )


def _named(history: History, named: str) -> RunInfo:
    try:
        return history.run(named)
    except RecordsUnavailable:
        raise
    except RecordsError as error:
        raise RequestError(f"as_in_run: {error.message}", hint="`fleetpatch runs` lists the runs.") from error


def _last_of(history: History, configuration: str) -> RunInfo:
    over = (run for run in history.runs(LOOKED_AT, kind="patch") if run.state not in OPEN)
    for run in over:
        if run.request.get("configuration") == configuration and run.state is not OperationState.NOT_STARTED:
            return run
    raise RequestError(
        f"as_in_run: no finished run of configuration {configuration!r} is among the newest {LOOKED_AT}",
        hint="Patch that ring first, or name a run by its id: `fleetpatch runs` lists them.",
    )
