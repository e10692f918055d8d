"""What an earlier process of a run has left behind, for the one that takes it up again."""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.request import PatchRequest
from tasks.errors import RequestError
from tasks.model import Assessment, Outcome, Plan, RunInfo, Wave
from tasks.records.history import History
from tasks.seams.records import JournalEntry
from tasks.states import OPEN


@dataclass(frozen=True, slots=True)
class Past:
    """A run as far as it had come.

    Attributes:
        waves: empty when it did not come to them: nothing was changed then, and it begins anew.
        plans: by machine.
        assessments: by machine, those that the plans were made from.
        outcomes: of machines that are done.
        journal: by machine, oldest first.
    """

    run: RunInfo
    waves: tuple[Wave, ...]
    plans: Mapping[str, Plan]
    assessments: Mapping[str, Assessment]
    outcomes: tuple[Outcome, ...]
    journal: Mapping[str, tuple[JournalEntry, ...]]


def resumable(run: RunInfo) -> RunInfo:
    """Return a run that may be taken up.

    Raises:
        RequestError: it may not, and why.
    """
    if not run.claims_machines:
        raise RequestError(f"run {run.id} only looked at machines", hint="There is nothing to resume; start it again.")
    if run.state not in OPEN:
        raise RequestError(
            f"run {run.id} is over: {run.state}", hint=f"See `fleetpatch show {run.id}`; start a new run for the rest."
        )
    return run


def past_of(history: History, run_id: str) -> Past:
    """Return what is known of a run that is to be taken up again.

    Args:
        history: the records.
        run_id: its id, or a beginning of it that no other run has.

    Raises:
        RecordsError: there is no such run, or it can't be read.
        RequestError: it is over, or it never changed anything.
    """
    report = history.report(run_id)
    run = report.run
    resumable(run)
    journal: dict[str, list[JournalEntry]] = {}
    for entry in history.journal(run.id):
        journal.setdefault(entry.machine, []).append(entry)
    planned = {plan.machine: plan for plan in report.plans}
    assessments = {name: history.assessment(run.id, name, plan.assessed_at) for name, plan in planned.items()}
    return Past(
        run=run,
        waves=report.waves if planned else (),
        plans=planned,
        assessments={name: found for name, found in assessments.items() if found is not None},
        outcomes=report.outcomes,
        journal={name: tuple(entries) for name, entries in journal.items()},
    )


def request_of(run: RunInfo) -> PatchRequest:
    """Return what a recorded run was asked to do.

    Raises:
        RequestError: this version can't read it.
    """
    try:
        return PatchRequest.model_validate(dict(run.request))
    except ValueError as error:
        raise RequestError(
            f"the request of run {run.id} can't be read by this version: {error}",
            hint="Resume it with the version that began it.",
        ) from error
