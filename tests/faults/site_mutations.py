"""Runs of several sites with one line of reason taken out: see mutations.py."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from flows.engine import resume_state
from flows.engine.failure_counter import FailureCounter
from flows.engine.shard_state import ShardGate
from flows.engine.shard_watch import ShardWatch
from flows.engine.shard_work import ShardWork
from flows.ports.ports import GateDecision
from flows.ports.shards import ShardView
from tasks.domain.model import Outcome
from tasks.domain.states import OperationState
from tasks.rules.runs.shards import find_whole_run_id
from tests.faults import sites
from tests.faults.breaks import Break, apply_all, replace_attribute, wrap_attribute


def _begin_again(inner: Any) -> Any:
    """Let a process that resumes a run start its shards anew, instead of looking for those that were begun."""

    def build(self: Any, *arguments: Any) -> None:
        inner(self, *arguments)
        self._begun = []

    return build


def _end_when_silent(inner: Any) -> Any:
    def look(self: Any, *arguments: Any) -> ShardView:
        view: ShardView = inner(self, *arguments)
        if view.silent_since is None or view.run is None:
            return view
        return replace(view, run=replace(view.run, state=OperationState.FAILED))

    return look


def _without_counting(inner: Any) -> Any:
    def take_over(self: Any, taken: Any, outcome: Outcome) -> None:
        with patch.object(FailureCounter, "add_outcome", lambda *_: None):
            inner(self, taken, outcome)

    return take_over


def _without_a_second_look(_self: Any, active: Any, reason: str) -> str:
    return "" if active.has_begun else reason


def _take_the_first(inner: Any) -> Any:
    """Let each outcome of a shard be one of its first machine's state."""

    def take_outcomes(self: Any, taken: Any, active: Any, new: Any) -> None:
        first: Any = next(iter(new), None)
        inner(self, taken, active, [replace(outcome, state=first.state, updates=first.updates) for outcome in new])

    return take_outcomes


def _believe_the_request(stack: ExitStack) -> None:
    def believe(history: Any, request: Any, _flow_run_id: str) -> Any:
        return history.find_run(find_whole_run_id(request.shard))

    stack.enter_context(patch.object(sites, "require_shard", believe))


SITE_MUTANTS: dict[str, tuple[str, Break]] = {
    "a resumed run forgets the shards that it has begun": (
        "one order for one act",
        wrap_attribute(ShardWork, "__init__", _begin_again),
    ),
    "a run without plans begins again beside its shards": (
        "the report is true",
        replace_attribute(resume_state, "has_begun_waves", lambda _entries: False),
    ),
    "a silent site counts as over": (
        "one outcome per machine",
        wrap_attribute(sites.SiteRuns, "look", _end_when_silent),
    ),
    "failures at one site do not count for the others": (
        "the failure budget is kept",
        wrap_attribute(ShardWork, "_take_over", _without_counting),
    ),
    "shards are not asked to stop": (
        "the failure budget is kept",
        replace_attribute(ShardWatch, "_forward_stop", lambda *_: None),
    ),
    "a closed shard begins all the same": (
        "one outcome per machine",
        apply_all(
            replace_attribute(ShardGate, "__call__", lambda *_: GateDecision()),
            _believe_the_request,
            replace_attribute(ShardWatch, "_close", _without_a_second_look),
        ),
    ),
    "the outcome of another machine is taken over": (
        "the report is true",
        wrap_attribute(ShardWork, "_take_outcomes", _take_the_first),
    ),
}
