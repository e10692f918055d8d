"""The waves of one run, one after the other: who is begun, who is tried again, and who is held back."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from flows.ceremony import Ceremony
from flows.failure_count import FailureCount
from flows.machine_pool import side_by_side
from flows.ports import Ports, Runner
from flows.request import PatchRequest
from flows.survey import may_answer_later
from tasks.errors import RecordsError
from tasks.model import Outcome, Wave
from tasks.rules.failure_budget import is_unreachable
from tasks.states import OperationState, Step
from tasks.steps.context import Work
from tasks.steps.order import give_back, remember, walk
from tasks.steps.report import settle_outcome

UNAPPROVED = "it could not be reached when the plan was made, so what would be done on it was not approved"


class WaveSequence:
    """Takes the machines of a run through its waves.

    Args:
        ports: the way out.
        runner: how the work is spread.
        ceremony: what surrounds the waves.
        request: what was asked for.
        failures: the run's failures so far.
        outcomes: of the machines that are done; the others' are added.
        settle: makes a machine's outcome and keeps it.
        keep_plan: stores a plan that was made after all others, before anything is done on its machine.

    Attributes:
        left_open: the machines that a suspended run leaves for whoever goes on with it; they have no outcome yet.
    """

    def __init__(
        self,
        ports: Ports,
        runner: Runner,
        ceremony: Ceremony,
        request: PatchRequest,
        failures: FailureCount,
        *,
        outcomes: list[Outcome],
        settle: Callable[[Work], Outcome],
        keep_plan: Callable[[Work], None],
    ) -> None:
        self._ports = ports
        self._runner = runner
        self._ceremony = ceremony
        self._policy = request.wave_policy()
        self._must_be_approved = request.approval.required
        self._failures = failures
        self._outcomes = outcomes
        self._settle = settle
        self._keep_plan = keep_plan
        self._is_first = True
        self.left_open: set[str] = set()

    def run(self, order: Sequence[Wave], works: dict[str, Work], refused: str) -> None:
        """Run one wave after the other. Once ``refused`` says why, no further machine begins."""
        ceremony = self._ceremony
        unreachable = [name for name, work in works.items() if is_unreachable(work.run.error)]
        self._failures.start(order, self._outcomes, unreachable)
        for wave in order:
            self._failures.start_wave(wave)
            mine = [works[name] for name in wave.machines if name in works]
            if not refused and self._failures.why and not self._ports.control.stopping:
                mine = self._hold_back(mine, spent(self._failures))
            if mine and not refused:
                if self._outcomes and self._policy.pause_seconds:
                    ceremony.rest(self._ports.clock.now() + timedelta(seconds=self._policy.pause_seconds))
                refused = ceremony.open_wave(wave)
            if mine and self._ports.control.suspended:
                mine = self._hold_back(mine, f"the run is suspended: {self._ports.control.reason}")
            if refused:
                mine = self._hold_back(mine, refused)
            if mine:
                rest = replace(wave, machines=tuple(work.name for work in mine))  # the others are done
                self._ports.watch.said(f"wave {wave.number} of {len(order)}: {', '.join(rest.machines)}")
                self._outcomes += self._runner.wave(rest, functools.partial(self._wave, mine))
                self._is_first = False
            self._failures.end_wave()
            if self.left_open.intersection(wave.machines):
                continue  # what comes after a wave comes when all of it is done
            closed = ceremony.close_wave(wave)
            refused = refused or closed

    def _wave(self, works: Sequence[Work]) -> list[Outcome]:
        """Start the machines of one wave. Those that did not answer yet come last, so that the others don't wait."""
        answering_first = sorted(works, key=lambda work: work.run.error is not None)
        return side_by_side(answering_first, self._policy.at_once, self._turn, self._ports.control)

    def _turn(self, work: Work) -> Outcome:
        if self._failures.why and not is_under_way(work) and not self._ports.control.stopping:
            outcome = self._halt(work, spent(self._failures))
        else:
            self._plan_late(work)
            walk(work, self._runner.step)
            outcome = self._settled(work)
        self._failures.add(outcome)
        return outcome

    def _settled(self, work: Work) -> Outcome:
        """Return what became of a machine, and keep it, unless the machine is left open."""
        if not is_open(work):
            return self._settle(work)
        try:
            remember(work, Step.PRECHECK)  # its claim is given back: who goes on asks its pre-check again
        except RecordsError:
            return self._settle(work)
        self.left_open.add(work.name)
        return settle_outcome(work)

    def _plan_late(self, work: Work) -> None:
        """Assess and plan for a machine that was not there when all others were assessed; it may be now."""
        left_out = work.run.plan is None and work.run.error is None  # of a run that was resumed
        if not (left_out or may_answer_later(work)) or is_under_way(work):
            return
        if self._must_be_approved:
            if left_out:
                work.run = replace(work.run, halted=UNAPPROVED, halted_as=OperationState.NOT_STARTED)
            return
        if self._ports.control.stopping or self._ports.clock.now() >= work.context.window.end:
            return
        work.forget_assessment()
        work.is_asked_once = not self._is_first  # in later waves it had time enough since it was asked
        walk(work, self._runner.step, last=Step.ASSESS)
        if work.run.plan is not None:
            self._keep_plan(work)

    def _hold_back(self, works: Sequence[Work], why: str) -> list[Work]:
        """Let machines go without anything being done to them, and return those that are under way already."""
        waiting = [work for work in works if not is_under_way(work)]
        if waiting:
            self._ports.watch.said(f"not begun: {', '.join(work.name for work in waiting)}: {why}")
        for work in waiting:
            self._outcomes.append(self._halt(work, why))
            self._failures.add(self._outcomes[-1])
        return [work for work in works if is_under_way(work)]

    def _halt(self, work: Work, why: str) -> Outcome:
        if work.run.error is None:
            work.run = replace(work.run, halted=why, halted_as=OperationState.NOT_STARTED)
        give_back(work)
        return self._settled(work)


def spent(failures: FailureCount) -> str:
    """Return that the failure budget is spent, and how, or ""."""
    why = failures.why
    return f"the failure budget is spent: {why}" if why else ""


def is_open(work: Work) -> bool:
    """Whether a suspended run leaves a machine for whoever goes on: nothing was ordered on it, and no hook has run."""
    run = work.run
    untouched = run.error is None and run.install is None and not run.begun and not run.hooks
    held = bool(run.halted) and run.halted_as is OperationState.NOT_STARTED
    rebooted = any(result.count for result in run.reboots)
    return work.context.control.suspended and held and untouched and not rebooted


def is_under_way(work: Work) -> bool:
    """Whether an earlier process of the run may have changed a machine, or have run hooks for it."""
    return work.run.begun or work.run.entered
