"""What the run of a shard reads of the whole run: that it may begin, and the plans of its machines.

Whoever may use Prefect can start a flow run with the id of a shard. So nothing of its request is believed: what it does
stands in the sealed journal of the whole run, with the plans.
"""

from dataclasses import replace
from datetime import datetime

from flows.engine.resume_state import (
    ResumeState,
    build_judged_request,
    find_recorded_run,
    parse_recorded_request,
    read_resume_state,
)
from flows.engine.shard_entries import parse_shard_entry
from flows.ports.ports import GateDecision
from flows.request import PatchRequest, RunRequest
from inventory.sites import find_site
from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo, RunReport, Wave
from tasks.domain.protocols.records import SHARD_ACT, JournalEntry, JournalMark
from tasks.domain.states import UNFINISHED_RUN_STATES, OperationState
from tasks.records.queries.history import History
from tasks.rules.runs.shards import find_whole_run_id
from tasks.steps.context.run_control import StopToken

_FORGED_HINT = "Nothing was touched. Only a run that has several sites or very many machines starts such runs."


def require_shard(history: History, request: RunRequest, flow_run_id: str) -> RunInfo:
    """Return the whole run of a shard, if it has begun exactly this shard and wants it still.

    Args:
        history: the records; with ``require_seals``, because the run does what is recorded there.
        request: of the shard's run.
        flow_run_id: its flow run.

    Raises:
        RequestError: the whole run has begun no such shard, or is over; or another flow run has carried it out.
        RecordsError: the records can't be read, or were changed.
    """
    whole = history.find_run(find_whole_run_id(request.shard))
    begun, closed = _find_entries(history, request.shard)
    if begun is None:
        raise RequestError(f"no run has begun the shard {request.shard}", hint=_FORGED_HINT)
    is_left = whole.state is OperationState.UNKNOWN and not whole.may_change_machines  # nothing resumes it
    if whole.state not in UNFINISHED_RUN_STATES or is_left:
        raise RequestError(f"run {whole.id}, of which this is a part, is over: {whole.state}")
    if closed is not None:
        raise RequestError(f"run {whole.id} does not want it any more: {closed.detail.get('reason')}")
    entry = parse_shard_entry(begun)
    if entry.shard.site != find_site():
        raise RequestError(f"the shard {request.shard} is of the site {entry.shard.site}, and this is {find_site()}")
    if entry.request.model_copy(update={"inventory": None}) != request.model_copy(update={"inventory": None}):
        raise RequestError(f"run {whole.id} has begun the shard {request.shard} otherwise", hint=_FORGED_HINT)
    own = find_recorded_run(history, request.shard)
    if own is not None and (own.state not in UNFINISHED_RUN_STATES or own.flow_run_id != flow_run_id):
        raise RequestError(f"another flow run has begun the run {request.shard} already: {own.flow_run_id or 'none'}")
    return whole


def read_shard_state(history: History, request: PatchRequest, run: RunInfo, now: datetime) -> ResumeState:
    """Return the state from which a shard's run begins: the plans that the whole run has made, or has had approved.

    Args:
        history: the records; with ``require_seals``, because the run does what is recorded there.
        request: of the shard's run.
        run: the whole run.
        now: the present time.

    Raises:
        RecordsError: the records can't be read, or were changed.
    """
    whole, own = history.read_report(run.id), replace(run, id=request.shard, started_at=now, flow_run_id="")
    names = frozenset(request.only_machines)
    plans = {plan.machine: plan for plan in whole.plans if plan.machine in names}
    assessments = {
        name: history.read_planned_assessment(run.id, name, plan.assessed_at) for name, plan in plans.items()
    }
    return ResumeState(
        run=own,
        waves=(Wave(1, tuple(name for wave in whole.waves for name in wave.machines if name in names)),),
        plans=plans,
        # its own copies: a process that resumes it reads them
        assessments={
            name: replace(assessment, run_id=own.id)
            for name, assessment in assessments.items()
            if assessment is not None
        },
        outcomes=(),
        journal={},
        judged_request=build_judged_request(request, run),
    )


def read_left_state(history: History, run_id: str) -> ResumeState:
    """Return the recorded state of a run that is to be resumed, also of a shard that died before it saved its plans.

    Such a shard begins with the plans of the whole run, as at its first start: nobody has approved others. See
    ``read_resume_state`` for the arguments and the errors.
    """
    state = read_resume_state(history, run_id)
    if state.waves or state.judged_request is None:
        return state
    request = parse_recorded_request(state.run)
    whole = history.find_run(find_whole_run_id(request.shard))
    planned = read_shard_state(history, request, whole, state.run.started_at)
    return replace(planned, run=state.run, outcomes=state.outcomes, journal=state.journal)


class ShardGate:
    """Decides whether a shard's run may begin: the whole run still wants it. People have approved that."""

    def __init__(self, history: History, request: PatchRequest) -> None:
        self._history, self._request = history, request

    def __call__(self, _planned: RunReport, _stop_token: StopToken) -> GateDecision:
        """Return the decision. The run is in the records already, so the whole run sees it before it is closed."""
        _, closed = _find_entries(self._history, self._request.shard)
        if closed is None:
            return GateDecision()
        whole = find_whole_run_id(self._request.shard)
        return GateDecision(refusal=f"run {whole} does not want it any more: {closed.detail.get('reason')}")


def _find_entries(history: History, shard: str) -> tuple[JournalEntry | None, JournalEntry | None]:
    """Return the entries of the whole run's journal with which it has begun a shard, and closed it."""
    marks = {
        entry.mark: entry
        for entry in history.read_journal(find_whole_run_id(shard))
        if entry.act == SHARD_ACT and entry.key == shard
    }
    return marks.get(JournalMark.BEFORE), marks.get(JournalMark.AFTER)
