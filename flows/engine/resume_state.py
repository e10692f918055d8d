"""What an earlier process of a run has left behind, for the one that takes it up again."""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.request.patch_request import PatchRequest
from tasks.errors import RequestError
from tasks.model import Assessment, MachinePlan, Outcome, RunInfo, Wave
from tasks.protocols.records import JournalEntry
from tasks.records.queries.history import History
from tasks.states import UNFINISHED_RUN_STATES


@dataclass(frozen=True, slots=True)
class ResumeState:
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
    plans: Mapping[str, MachinePlan]
    assessments: Mapping[str, Assessment]
    outcomes: tuple[Outcome, ...]
    journal: Mapping[str, tuple[JournalEntry, ...]]


def require_resumable(run: RunInfo) -> RunInfo:
    """Return a run that may be taken up.

    Raises:
        RequestError: it may not, and why.
    """
    if not run.may_change_machines:
        raise RequestError(f"run {run.id} only looked at machines", hint="There is nothing to resume; start it again.")
    if run.state not in UNFINISHED_RUN_STATES:
        raise RequestError(
            f"run {run.id} is over: {run.state}", hint=f"See `fleetpatch show {run.id}`; start a new run for the rest."
        )
    return run


def read_resume_state(history: History, run_id: str) -> ResumeState:
    """Return what is known of a run that is to be taken up again.

    Args:
        history: the records.
        run_id: its id, or a beginning of it that no other run has.

    Raises:
        RecordsError: there is no such run, or it can't be read.
        RequestError: it is over, or it never changed anything.
    """
    report = history.read_report(run_id)
    run = report.run
    require_resumable(run)
    journal: dict[str, list[JournalEntry]] = {}
    for entry in history.read_journal(run.id):
        journal.setdefault(entry.machine, []).append(entry)
    planned = {plan.machine: plan for plan in report.plans}
    assessments = {
        name: history.read_planned_assessment(run.id, name, plan.assessed_at) for name, plan in planned.items()
    }
    return ResumeState(
        run=run,
        waves=report.waves if planned else (),
        plans=planned,
        assessments={name: found for name, found in assessments.items() if found is not None},
        outcomes=report.outcomes,
        journal={name: tuple(entries) for name, entries in journal.items()},
    )


def parse_recorded_request(run: RunInfo) -> PatchRequest:
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
