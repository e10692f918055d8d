"""The state that an earlier process of a run left, for the process that resumes it."""

from collections.abc import Mapping

from flows.engine.shard_entries import has_begun_waves
from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from tasks.domain.errors import RequestError, RunNotFound
from tasks.domain.model import Assessment, Facts, MachinePlan, Outcome, RunInfo, Wave
from tasks.domain.protocols.records import JournalEntry
from tasks.domain.states import UNFINISHED_RUN_STATES
from tasks.records.queries.history import History
from tasks.rules.runs.shards import find_whole_run_of


@dataclass(frozen=True, slots=True)
class ResumeState:
    """The state of a run that is resumed.

    Attributes:
        waves: empty if the run has no plan and has handed no machine to another run. Then nothing was changed, and it
            begins again.
        plans: the plans by machine.
        assessments: by machine, the assessments behind the plans.
        outcomes: the outcomes of finished machines.
        journal: the entries by machine, the oldest first.
        judged_request: the request for which rules hold, if that is another one: that of the whole run, for the
            machines of a shard.
    """

    run: RunInfo
    waves: tuple[Wave, ...]
    plans: Mapping[str, MachinePlan]
    assessments: Mapping[str, Assessment]
    outcomes: tuple[Outcome, ...]
    journal: Mapping[str, tuple[JournalEntry, ...]]
    judged_request: PatchRequest | None = None

    @property
    def known_facts(self) -> tuple[tuple[str, Facts | None], ...]:
        """The facts of the machines by name, without those that were left out for their second name."""
        finished = tuple((outcome.machine, outcome.facts) for outcome in self.outcomes)
        return (*finished, *((name, assessment.facts) for name, assessment in self.assessments.items()))


def require_resumable(run: RunInfo) -> RunInfo:
    """Return the run if it can be resumed. Raise RequestError if it can't, with the reason."""
    if not run.may_change_machines:
        raise RequestError(f"run {run.id} only looked at machines", hint="There is nothing to resume; start it again.")
    if run.state not in UNFINISHED_RUN_STATES:
        raise RequestError(
            f"run {run.id} is over: {run.state}", hint=f"See `fleetpatch show {run.id}`; start a new run for the rest."
        )
    return run


def read_resume_state(history: History, run_id: str) -> ResumeState:
    """Return the recorded state of a run that is to be resumed.

    Args:
        history: the records; with ``require_seals``, because the run does what is recorded there.
        run_id: the run's id, or a unique prefix of it.

    Raises:
        RecordsError: the run does not exist, or it can't be read.
        RequestError: the run is over, or it only read machines.
        SealBroken: something of it was changed in the database.
        SealKeyMissing: another controller has sealed something of it.
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
    whole = find_whole_run_of(run)
    return ResumeState(
        run=run,
        waves=report.waves if planned or has_begun_waves(journal.get("", ())) else (),
        plans=planned,
        assessments={name: assessment for name, assessment in assessments.items() if assessment is not None},
        outcomes=report.outcomes,
        journal={name: tuple(entries) for name, entries in journal.items()},
        judged_request=build_judged_request(parse_recorded_request(run), history.find_run(whole)) if whole else None,
    )


def build_judged_request(request: PatchRequest, whole: RunInfo) -> PatchRequest:
    """Return what was asked of a whole run, for the machines of a shard. Pure.

    Raises:
        RequestError: this version can't read it.
    """
    whole_request = parse_recorded_request(whole)
    return whole_request.model_copy(update={"only_machines": request.only_machines, "inventory": request.inventory})


def parse_recorded_request(run: RunInfo) -> PatchRequest:
    """Return the request of a recorded run. Raise RequestError if this version can't read it."""
    try:
        return PatchRequest.model_validate(dict(run.request))
    except ValueError as error:
        raise RequestError(
            f"the request of run {run.id} can't be read by this version: {error}",
            hint="Resume it with the version that began it.",
        ) from error


def find_recorded_run(history: History, run_id: str) -> RunInfo | None:
    """Return the run of a complete id; None if the records do not have it: old runs are deleted.

    Raises:
        RecordsError: the records can't be read, or with ``require_seals`` they were changed.
    """
    try:
        run = history.find_run(run_id)
    except RunNotFound:
        return None
    return run if run.id == run_id else None
