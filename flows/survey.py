"""Assess and plan for all machines of a run, before its first wave."""

from collections.abc import Sequence

from flows.machine_pool import side_by_side
from flows.ports import Runner
from tasks.rules.failure_budget import FailureBudget, Tally, Verdict, is_unreachable, too_many_unreachable
from tasks.states import Step
from tasks.steps.context import Control, Work
from tasks.steps.order import walk


def survey(works: Sequence[Work], at_once: int, runner: Runner, control: Control) -> None:
    """Ask all machines, so many at once. The runner tries machines that don't answer again, if it does so at all."""
    side_by_side(works, at_once, lambda work: walk(work, runner.step, last=Step.ASSESS), control)


def quick_survey(works: Sequence[Work], at_once: int, runner: Runner, control: Control, budget: FailureBudget) -> None:
    """Ask all machines, each once: those that answer don't wait while the others are tried again.

    When so many don't answer that nothing would be begun, those are tried again at once.
    """
    for work in works:
        work.is_asked_once = True
    survey(works, at_once, runner, control)
    for work in works:
        work.is_asked_once = False
    lost = sum(is_unreachable(work.run.error) for work in works)
    if too_many_unreachable(budget, Tally(len(works), {Verdict.UNREACHABLE: lost})):
        late = [work for work in works if may_answer_later(work) and not control.stopping]
        for work in late:
            work.forget_assessment()
        survey(late, at_once, runner, control)


def may_answer_later(work: Work) -> bool:
    """Whether a machine has no plan, and asking it again may go better."""
    return work.run.plan is None and work.run.error is not None and work.run.error.transient
