"""The order of the steps, once. Plain functions and Prefect tasks both walk it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from tasks.errors import FleetpatchError, InternalError, RecordsError
from tasks.model import Assessment, ErrorInfo, StepRecord
from tasks.states import OperationState, RebootState, Step, UpdateState
from tasks.steps import journal
from tasks.steps.assess import assess, plan
from tasks.steps.claim import release
from tasks.steps.context import MachineRun, PatchOptions, Work
from tasks.steps.hooks import after_machine
from tasks.steps.install import install
from tasks.steps.precheck import precheck
from tasks.steps.progress import ACT, progress_of
from tasks.steps.reboot import reboot
from tasks.steps.turn import asked_to_stop, no_time_left, pending_goes_first, worth_a_visit
from tasks.steps.updaters import restore
from tasks.steps.validate import validate

logger = logging.getLogger(__name__)

StepFunction = Callable[[Work], MachineRun]


_REBOOT_ENDS: Mapping[RebootState, OperationState] = {
    RebootState.FAILED: OperationState.FAILED,
    RebootState.REQUIRED: OperationState.COMPLETED_WITH_WARNINGS,  # wanted, and not taken
    RebootState.STARTED: OperationState.COMPLETED_WITH_WARNINGS,
}


def assess_and_plan(work: Work) -> MachineRun:
    """Assess, and decide at once what would be done, unless nothing is going to be: one visit to the machine."""
    work.run = assess(work)
    return work.run if work.context.run.kind == "assess" else plan(work)


FUNCTIONS: Mapping[Step, StepFunction] = {
    Step.ASSESS: assess_and_plan,
    Step.PRECHECK: precheck,
    Step.INSTALL: install,
    Step.REBOOT: reboot,
    Step.VALIDATE: validate,
}


def next_step(run: MachineRun, options: PatchOptions) -> Step:
    """Return the step that comes next on a machine; REPORT when nothing is left to do on it. Pure."""
    if run.error is not None or run.halted:
        return Step.REPORT
    if run.assessment is None or run.plan is None:
        return Step.ASSESS
    if run.install is None and not worth_a_visit(run, options):
        return Step.REPORT
    return _before_install(run, options) if run.install is None else _after_install(run, options)


def perform(work: Work, step: Step) -> MachineRun:
    """Carry one step out as a plain function. Its result is the work's at once, whatever becomes of its caller."""
    work.run = FUNCTIONS[step](work)
    return work.run


def walk(work: Work, perform: Callable[[Work, Step], MachineRun], *, last: Step = Step.REPORT) -> MachineRun:
    """Take a machine from where it is through all the steps that it needs, and never raise for what goes wrong on it.

    Args:
        work: the machine's turn; its ``run`` is kept up to date.
        perform: how a step is carried out: ``perform`` of this module, or as a Prefect task.
        last: stop once this step has had its turn; REPORT walks to the end.
    """
    try:
        while (step := next_step(work.run, work.context.options)) is not Step.REPORT:
            take(work, step, perform)
            if step is last or work.run.halted:
                break
        if last is Step.REPORT:
            restore(work)
            after_machine(work)
            release(work)
    finally:
        work.transport.close()
    return work.run


def give_back(work: Work) -> None:
    """Undo what an earlier process of the run left on a machine that is not walked any more: pause, hooks, claim."""
    try:
        restore(work)
        after_machine(work)
        release(work)
    finally:
        work.transport.close()


def take(work: Work, step: Step, perform: Callable[[Work, Step], MachineRun]) -> None:
    """Carry one step out if it may begin, with its record; an error becomes part of the machine's run.

    When the records fail, the whole run is asked to stop: it holds rather than go on unrecorded.
    """
    clock, watch = work.context.clock, work.context.watch
    began = clock.now()
    try:
        halted = _may_not_begin(work, step)
        if halted:
            work.run = replace(work.run, halted=halted, halted_as=OperationState.NOT_STARTED)
            return
        watch.progress(work.name, step, 0.0, "")
        work.run = perform(work, step)
        state, message = how_it_went(work.run, step)
        if step is not Step.ASSESS:
            remember(work, step)
    except FleetpatchError as error:
        if isinstance(error, RecordsError):
            work.context.control.stop(f"the records failed: {error.message}")
        info = ErrorInfo.of(error)
        state, message = _failed(work, step, began, info)
    except Exception as error:  # a fault of ours must cost one machine its run, never the fleet its report
        logger.exception("%s: %s failed in a way that was not foreseen", work.name, step)
        hint = "This is a fault in fleetpatch; its log has the details."
        info = ErrorInfo.of(InternalError(f"{type(error).__name__}: {error}", hint=hint))
        state, message = _failed(work, step, began, info)
    work.run = work.run.noted(StepRecord(step, began, clock.now(), state, message))
    watch.finished(work.name, step, state.value, message)


def remember(work: Work, step: Step) -> None:
    """Store how far the machine has come, so that another process could go on from here.

    Raises:
        RecordsError: it can't be stored.
    """
    journal.done(work, step, ACT, step.value, progress_of(work.run))


def _failed(work: Work, step: Step, began: datetime, info: ErrorInfo) -> tuple[OperationState, str]:
    work.run = replace(work.run, error=info)
    if step is Step.ASSESS and work.run.assessment is None:  # why a machine gave no answer is worth keeping too
        seconds = (work.context.clock.now() - began).total_seconds()
        unanswered = Assessment(work.name, began, seconds, error=info, run_id=work.context.run.id)
        work.run = replace(work.run, assessment=unanswered)
    return OperationState.FAILED, info.message


def how_it_went(run: MachineRun, step: Step) -> tuple[OperationState, str]:
    """Return how a step that raised nothing has ended, and in a word why. Pure."""
    if run.halted:
        return OperationState.FAILED, run.halted
    if step is Step.REBOOT and run.reboots:
        result = run.reboots[-1]
        return _REBOOT_ENDS.get(result.state, OperationState.SUCCEEDED), f"{result.state}: {result.reason}"
    if step is Step.INSTALL and run.install is not None:
        failed_updates = [r.update.name for r in run.install.results if r.state is UpdateState.FAILED]
        if failed_updates:
            return OperationState.FAILED, f"failed: {', '.join(failed_updates[:10])}"
    if step is Step.VALIDATE and run.validation is not None and not run.validation.healthy:
        return OperationState.FAILED, "; ".join(
            f"{finding.check}: {finding.message}" for finding in run.validation.blocking
        )
    return OperationState.SUCCEEDED, ""


def _before_install(run: MachineRun, options: PatchOptions) -> Step:
    if run.baseline is None:
        return Step.PRECHECK
    if run.early_reboot is None:
        return Step.REBOOT if pending_goes_first(run, options) else Step.INSTALL
    return Step.REPORT if run.early_reboot.state is RebootState.FAILED else Step.INSTALL


def _after_install(run: MachineRun, options: PatchOptions) -> Step:
    if options.download_only:
        return Step.REPORT
    if run.reboot is None:
        return Step.REBOOT
    over = run.reboot.state is RebootState.FAILED or run.validation is not None
    return Step.REPORT if over else Step.VALIDATE


def _may_not_begin(work: Work, step: Step) -> str:
    """Return why a step may not begin any more, or "". What was begun on a machine is looked after to its end."""
    if work.run.install is not None or work.run.begun:
        return ""
    if why := asked_to_stop(work):
        return why
    return "" if step is Step.ASSESS else work.context.budget_spent() or no_time_left(work)
