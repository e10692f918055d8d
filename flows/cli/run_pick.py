"""Which run is meant: by its id, by a beginning of it, or the last one."""

from dataclasses import replace

from tasks.errors import RecordsError, RequestError
from tasks.model import Assessment, Outcome, RunInfo, RunReport, UpdateResult
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.records.summary import RunSummary
from tasks.rules.counts import UpdateCounts
from tasks.states import OperationState, UpdateState

LAST = "last"


def history(records: str | None) -> History:
    """Open the records for reading.

    Raises:
        RecordsError: they can't be reached.
    """
    return History(open_records(records))


def picked(of: History, run: str) -> RunInfo:
    """Return the run that is meant.

    Raises:
        RequestError: there is none, or it may be several.
        RecordsError: the records can't be read.
    """
    newest = of.runs(1)
    if not newest:
        raise RequestError("there is no run yet", hint="Begin with: fleetpatch assess")
    if run == LAST:
        return newest[0]
    if not run.isascii():  # no run has such an id, and not every database can be asked for any text
        raise RequestError(f"there is no run {run!r}", hint="`fleetpatch runs` lists them.")
    try:
        return of.run(run)
    except RecordsError as error:  # the records were read a moment ago, so it is what was asked for
        raise RequestError(error.message, hint="`fleetpatch runs` lists them.") from error


def whole(of: History, run_id: str, machine: str | None = None) -> RunReport:
    """Return a run's report, or a machine's part of it, in which every machine that was looked at has an outcome.

    A run that was left, or that is still under way, has machines without one. What becomes of them is not known, and
    that is said: nothing else would be true.
    """
    report = of.report(run_id, machine)
    return replace(report, outcomes=(*report.outcomes, *_open_ones(report)))


def summed_up(of: History, run_id: str) -> RunSummary:
    """Return a run's summary, in which every machine that was looked at has an outcome, as ``whole`` has it."""
    found = of.summary(run_id)
    open_ones = _open_ones(found.report)
    report = replace(found.report, outcomes=(*found.report.outcomes, *open_ones))
    results = {each.machine: found.pending.get(each.machine, UpdateCounts()) for each in open_ones}
    return RunSummary(report, {**found.results, **results}, found.pending)


def _open_ones(report: RunReport) -> list[Outcome]:
    if not report.run.claims_machines or report.run.state not in {OperationState.IN_PROGRESS, OperationState.UNKNOWN}:
        return []
    known = {outcome.machine for outcome in report.outcomes}
    return [_open(report.run, each) for each in report.assessments if each.machine not in known]


def _open(run: RunInfo, assessment: Assessment) -> Outcome:
    under_way = run.state is OperationState.IN_PROGRESS
    why = "the run has not come to its end" if under_way else "the run was left before it saw this machine's end"
    packages = assessment.packages
    updates = tuple(
        UpdateResult(update, UpdateState.PENDING, why, update.installed)
        for update in (packages.updates if packages else ())
    )
    state = OperationState.IN_PROGRESS if under_way else OperationState.UNKNOWN
    return Outcome(run.id, assessment.machine, state, why, updates, started_at=assessment.at, error=assessment.error)
