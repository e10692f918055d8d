"""Finds a run by its id, by a unique beginning of it, or as the last one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.domain.errors import RequestError, RunNotFound
from tasks.domain.model import Outcome, RunInfo, RunReport, UpdateResult
from tasks.domain.protocols.leases import LeaseStatus
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState, UpdateState
from tasks.records.queries.history import History
from tasks.records.queries.other_fleets import describe_other_fleets
from tasks.records.queries.run_summary import RunSummary
from tasks.records.setup import open_records
from tasks.rules.runs.figures import UpdateCounts

LAST_RUN = "last"


def open_history(records: str | None) -> History:
    """Open the records for reading. Raise RecordsError if they cannot be reached."""
    return History(open_records(records))


def find_run(history: History, run: str) -> RunInfo:
    """Return the run with this id, or with this beginning of an id, or the last run.

    Raises:
        RequestError: there is none, or there are several.
        RecordsError: the records can't be read.
    """
    if run == LAST_RUN:
        if newest := history.read_runs(1):
            return newest[0]
        other_fleets = describe_other_fleets(history.database)
        raise RequestError("there is no run yet", hint=other_fleets or "Start with: fleetpatch assess")
    if not run.isascii():  # no run has such an id, and some databases refuse such text
        raise RequestError(f"there is no run {run!r}", hint="`fleetpatch runs` lists them.")
    try:
        return history.find_run(run)
    except RunNotFound as error:
        raise RequestError(error.message, hint=error.hint) from error


def read_full_report(history: History, run_id: str, machine: str | None = None) -> RunReport:
    """Return a run's report, or a machine's part of it, in which every assessed machine has an outcome.

    A run that is abandoned or in progress has machines without an outcome. Their outcome here is Unknown or InProgress.
    """
    report = history.read_report(run_id, machine)
    return replace(report, outcomes=(*report.outcomes, *_build_open_outcomes(report)))


def read_full_summary(history: History, run_id: str) -> RunSummary:
    """Return a run's summary, in which every assessed machine has an outcome: see ``read_full_report``."""
    summary = history.read_summary(run_id)
    open_outcomes = _build_open_outcomes(summary.report)
    report = replace(summary.report, outcomes=(*summary.report.outcomes, *open_outcomes))
    results = {outcome.machine: summary.pending.get(outcome.machine, UpdateCounts()) for outcome in open_outcomes}
    return RunSummary(report, {**summary.results, **results}, summary.pending)


def _build_open_outcomes(report: RunReport) -> list[Outcome]:
    run = report.run
    if not run.may_change_machines or run.state not in {OperationState.IN_PROGRESS, OperationState.UNKNOWN}:
        return []
    reason = "the process of the run ended before it recorded this machine's result"
    reason = "the run is not over" if run.state is OperationState.IN_PROGRESS else reason
    machine_names = {outcome.machine for outcome in report.outcomes}
    return [
        Outcome(
            run.id,
            assessment.machine,
            run.state,
            reason,
            tuple(
                UpdateResult(update, UpdateState.PENDING, reason, update.installed)
                for update in (assessment.packages.updates if assessment.packages else ())
            ),
            started_at=assessment.at,
            error=assessment.error,
        )
        for assessment in report.assessments
        if assessment.machine not in machine_names
    ]


def read_open_run_leases(runs: Sequence[RunInfo], records: str | None) -> Mapping[str, LeaseStatus | None]:
    """Return the run leases of those runs that change machines and are not over."""
    open_runs = [run for run in runs if run.may_change_machines and run.state in UNFINISHED_RUN_STATES]
    if not open_runs:
        return {}
    with open_records(records) as records_database:
        return {run.id: records_database.leases.find_lease(run.id) for run in open_runs}


def find_unfinished_acts(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Return the acts that began and have no recorded end, oldest first."""
    ended = {(e.machine, e.act, e.key) for e in entries if e.mark is JournalMark.AFTER}
    # a shard is no act on a machine: its end is that of its run
    begun = {(e.machine, e.act, e.key): e for e in entries if e.mark is JournalMark.BEFORE and e.act != SHARD_ACT}
    return [entry for key, entry in begun.items() if key not in ended]
