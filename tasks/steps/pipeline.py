"""The order of the steps, in one place. Plain functions and Prefect tasks both use it."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from inventory.name_lists import join_first_names
from tasks.domain.errors import (
    LOGIN_REFUSALS,
    FleetpatchError,
    HostKeyMismatch,
    InternalError,
    LoginBroken,
    ProviderUnavailable,
    RecordsError,
)
from tasks.domain.model import Assessment, ErrorInfo, Finding, InstallResult, StepRecord
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import (
    PRESENT_UPDATE_STATES,
    FindingLevel,
    OperationState,
    RebootState,
    Step,
    UpdateState,
)
from tasks.rules.machine_checks.findings import describe_blocking_findings
from tasks.rules.runs.figures import EARLIER_PROCESS, find_earlier_work
from tasks.steps.assess import assess_and_plan
from tasks.steps.checkpoint import save_checkpoint
from tasks.steps.component_upgrade import validate_component
from tasks.steps.context.journal import MACHINE_CHANGING_ACTS
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions
from tasks.steps.hooks import run_after_hooks
from tasks.steps.image_upgrade import install_image, is_image_run
from tasks.steps.install import install
from tasks.steps.machine.auto_updaters import restore_updaters
from tasks.steps.machine.guests import bring_guests_back
from tasks.steps.machine.machine_lock import release_lock
from tasks.steps.power import power_off_again
from tasks.steps.precheck import precheck
from tasks.steps.reboot import reboot
from tasks.steps.scheduled_events import close_events, describe_end, explain_no_time_for_notice
from tasks.steps.snapshot_revert import is_revert_begun, settle_snapshot
from tasks.steps.start_checks import (
    explain_no_time_left,
    explain_stop_request,
    is_pending_reboot_first,
    is_visit_needed,
)
from tasks.steps.undo import validate_undo
from tasks.steps.undo_by_snapshot import revert_as_planned, revert_unanswering
from tasks.steps.validate import look_again, validate_and_follow_up

logger = logging.getLogger(__name__)

StepFunction = Callable[[MachineContext], MachineState]


def _validate(context: MachineContext) -> MachineState:
    options = context.options
    if options.component_order is not None:
        return validate_component(context)
    if options.undo_order is not None:
        return validate_undo(context) if context.state.settling is None else look_again(context)
    return validate_and_follow_up(context)


def _install(context: MachineContext) -> MachineState:
    if is_image_run(context.options):
        return install_image(context)
    return revert_as_planned(context) if context.plan.snapshot else install(context)


_MAX_WARNINGS, _MAX_UPDATES = 3, 10
_STATES_AFTER_REBOOT: Mapping[RebootState, OperationState] = {
    RebootState.FAILED: OperationState.FAILED,
    RebootState.UNKNOWN: OperationState.COMPLETED_WITH_WARNINGS,
    RebootState.REQUIRED: OperationState.COMPLETED_WITH_WARNINGS,  # it was due, and it was not done
    RebootState.STARTED: OperationState.COMPLETED_WITH_WARNINGS,
}


STEP_FUNCTIONS: Mapping[Step, StepFunction] = {
    Step.ASSESS: assess_and_plan,
    Step.PRECHECK: precheck,
    Step.INSTALL: _install,
    Step.REBOOT: reboot,
    Step.VALIDATE: _validate,
}


STEP_RETRIES: Final[Mapping[Step, int]] = {
    Step.ASSESS: 2,
    Step.PRECHECK: 2,
    Step.INSTALL: 0,
    Step.REBOOT: 0,
    Step.VALIDATE: 2,
}
"""How often a step is repeated after a transient error in a run that Prefect shows.

INSTALL and REBOOT are never repeated: a repeated request must have one effect. VALIDATE may also remove unused kernels.
A retry orders the job with the same id, which the machine starts only once.
"""
RETRY_DELAYS_SECONDS: Final = (5.0, 15.0)
RETRY_JITTER: Final = 0.5
"""The delays vary by this part of them, so that many machines behind one lost line are not asked in one moment."""


def find_next_step(machine_state: MachineState, options: PatchOptions) -> Step:
    """Return the next step of a machine, or REPORT if nothing is left to do on it. Pure."""
    if machine_state.error is not None or machine_state.halted:
        return Step.REPORT
    if machine_state.assessment is None or machine_state.plan is None:
        return Step.ASSESS
    if machine_state.install is None and not is_visit_needed(machine_state, options):
        return Step.REPORT
    return (
        _find_step_before_install(machine_state, options)
        if machine_state.install is None
        else _find_step_after_install(machine_state, options)
    )


def call_step_function(context: MachineContext, step: Step) -> MachineState:
    """Execute one step as a plain function. The result is also in ``context.state``."""
    context.state = STEP_FUNCTIONS[step](context)
    return context.state


def call_step_with_retries(context: MachineContext, step: Step) -> MachineState:
    """Execute one step like ``call_step_function``. Repeat it after transient errors, as its Prefect task does."""
    retries = 0 if step is Step.ASSESS and context.is_retry_disabled else STEP_RETRIES[step]
    for delay in RETRY_DELAYS_SECONDS[:retries]:
        try:
            return call_step_function(context, step)
        except FleetpatchError as error:
            if not error.transient or context.stop_token.is_stopping:
                raise
            logger.info("%s: %s is tried again: %s", context.name, step, error.message)
        context.clock.sleep(delay * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER))  # noqa: S311 - no secret
    return call_step_function(context, step)


def run_steps(
    context: MachineContext, execute_step: Callable[[MachineContext, Step], MachineState], *, last: Step = Step.REPORT
) -> MachineState:
    """Execute all the steps that a machine still needs. An error of the machine is stored in its state, not raised.

    A step may wait: then ``context.wait`` says until when, and another call goes on with it.

    ``execute_step`` is the runner's: it calls the step's function, or runs a Prefect task. ``last`` is the last
    step; REPORT: all. A machine that waits for its second look (``find_settle_end``) keeps its turn until then.
    """
    try:
        if last is Step.REPORT and not is_turn_over(context.state):
            _revert_unanswering(context)
        is_over = is_turn_over(context.state) or is_revert_begun(context.state.snapshot)
        while not is_over and (step := find_next_step(context.state, context.options)) is not Step.REPORT:
            if (until := find_settle_end(context)) is not None:
                context.report_progress(Step.VALIDATE, f"it is looked at again at {until:%H:%M:%S} UTC")
                return context.state
            _run_step(context, step, execute_step)
            is_over = step is last or bool(context.state.halted) or context.wait is not None
        if context.wait is None and (last is Step.REPORT or is_turn_over(context.state)):
            if not is_turn_over(context.state):
                settle_snapshot(context)
            hand_back_machine(context)
    finally:
        is_done = find_next_step(context.state, context.options) is Step.REPORT
        if last is not Step.ASSESS or not context.keeps_connection or is_done:
            context.transport.close()
    return context.state


def find_settle_end(context: MachineContext) -> datetime | None:
    """Return when the second look at a changed machine is due; None: now, or there is none."""
    settling = context.state.settling
    if settling is None or context.state.error is not None or context.clock.now() >= settling.until:
        return None
    return settling.until


def _revert_unanswering(context: MachineContext) -> None:
    try:
        revert_unanswering(context)
    except FleetpatchError as error:
        if isinstance(error, RecordsError):
            context.stop_token.request_stop(f"the records failed: {error.message}")
        context.state = replace(context.state, error=ErrorInfo.from_error(error))


def is_turn_over(machine_state: MachineState) -> bool:
    """Return whether an earlier process has begun to power the machine off: only that is left to do."""
    return machine_state.power is not None and machine_state.power.off_began


def hand_back_machine(context: MachineContext) -> None:
    """Restore updaters, run the hooks after, and release the lock, on a machine that executes no more steps.

    A machine that the run has powered on is powered off again.
    """
    try:
        close_events(context, describe_end(context))
        if not is_turn_over(context.state):
            bring_guests_back(context)
            restore_updaters(context)
            run_after_hooks(context)
            release_lock(context)
        if context.state.power is not None:
            power_off_again(context)
    finally:
        context.transport.close()


def _run_step(
    context: MachineContext, step: Step, execute_step: Callable[[MachineContext, Step], MachineState]
) -> None:
    """Execute one step if it may begin, and add its record. An error becomes part of the machine's state.

    If the records fail, the whole run is asked to stop: it must not continue without records.
    """
    clock = context.clock
    waited = context.wait
    began = waited.since if waited is not None else clock.now()
    try:
        halted = _explain_no_step_start(context, step)
        if halted:
            context.state = replace(context.state, halted=halted, halted_as=OperationState.NOT_STARTED)
            return
        if waited is None:
            context.report_progress(step, "", 0.0)
        context.state = execute_step(context, step)
        if context.wait is not None:
            context.wait = replace(context.wait, since=began)
            return
        state, message = evaluate_step(context.state, step, download_only=context.options.download_only)
        if step is not Step.ASSESS:
            save_checkpoint(context, step, *_build_records(context, step, began, state, message))
    except FleetpatchError as error:
        if isinstance(error, RecordsError):
            context.stop_token.request_stop(f"the records failed: {error.message}")
        if isinstance(error, ProviderUnavailable) and not _has_begun_change(context):
            state, message = OperationState.NOT_STARTED, error.message
            context.state = replace(context.state, halted=message, halted_as=state)
        else:
            info = ErrorInfo.from_error(_find_broken_login(context, step, error))
            if isinstance(error, HostKeyMismatch) and step is not Step.ASSESS:
                info = replace(info, message=error.describe_in_run())
            state, message = _store_error_in_state(context, step, began, info)
    except Exception as error:  # a bug of ours must fail one machine, never the report of all machines
        logger.exception("%s: %s failed unexpectedly", context.name, step)
        hint = "This is a fault in fleetpatch; its log has the details."
        info = ErrorInfo.from_error(InternalError(f"{type(error).__name__}: {error}", hint=hint))
        state, message = _store_error_in_state(context, step, began, info)
    records = _build_records(context, step, began, state, message)
    context.state = replace(context.state, steps=(*context.state.steps, *records))
    context.listener.on_step_finished(context.name, step, state.value, message or describe_result(context.state, step))


def _build_records(
    context: MachineContext, step: Step, began: datetime, state: OperationState, message: str
) -> Sequence[StepRecord]:
    """Return the record of a step, behind that of the same step in an earlier process of the run, if it worked then.

    So the time in which no process looked at the machine is nobody's work.
    """
    record = StepRecord(step, began, context.clock.now(), state, message)
    earlier = None
    if context.state.was_changed_before_resume and step is Step.INSTALL and context.state.install is not None:
        earlier = find_earlier_work(context.state.install.transactions, context.state.steps, began)
    return (record,) if earlier is None else (StepRecord(step, *earlier, state, EARLIER_PROCESS), record)


def _find_broken_login(context: MachineContext, step: Step, error: FleetpatchError) -> FleetpatchError:
    """Return the error, or that the machine refuses the login since this run has changed it."""
    is_refused = isinstance(error, LOGIN_REFUSALS) and step not in {Step.ASSESS, Step.PRECHECK}
    if not is_refused or context.state.baseline is None:
        return error
    if step is Step.INSTALL and not _has_begun_change(context):
        return error
    return LoginBroken(
        f"the login worked before the update and is refused since: {error.message}",
        machine=context.name,
        hint="Log in at its console, and look at what its logins, its shell and its administrator rights need.",
    )


def _has_begun_change(context: MachineContext) -> bool:
    entries = context.records.read_entries(context.run.id, context.name)
    return any(entry.mark is JournalMark.BEFORE and entry.act in MACHINE_CHANGING_ACTS for entry in entries)


def describe_result(machine_state: MachineState, step: Step) -> str:
    """Return the plan in a few words after the assessment, for people who follow the run; otherwise ""."""
    if step is not Step.ASSESS or machine_state.assessment is None:
        return ""
    plan, packages = machine_state.plan, machine_state.assessment.packages
    if plan is None:
        return f"updates pending: {len(packages.updates)}" if packages is not None else ""
    return f"updates chosen: {len(plan.chosen)} of {len(plan.chosen) + len(plan.skipped)}"


def _store_error_in_state(
    context: MachineContext, step: Step, began: datetime, info: ErrorInfo
) -> tuple[OperationState, str]:
    """Store the error of a step in the machine's state. Return the state of the step, and its message."""
    context.wait = None
    context.state = replace(context.state, error=info)
    # keep also the reason why a machine could not be assessed
    if step is Step.ASSESS and context.state.assessment is None:
        seconds = (context.clock.now() - began).total_seconds()
        unanswered = Assessment(context.name, began, seconds, error=info, run_id=context.run.id)
        context.state = replace(context.state, assessment=unanswered)
    return OperationState.FAILED, info.message


def evaluate_step(
    machine_state: MachineState, step: Step, *, download_only: bool = False
) -> tuple[OperationState, str]:
    """Return the state of a step that raised nothing, and a short reason. Pure.

    Succeeded: it did what was due, or nothing was due. What was due and was not done has another state.
    """
    if machine_state.halted:
        return machine_state.halted_as, machine_state.halted
    if step is Step.PRECHECK:
        return _evaluate_findings(machine_state.findings)
    if step is Step.REBOOT and machine_state.reboots:
        result = machine_state.reboots[-1]
        return _STATES_AFTER_REBOOT.get(result.state, OperationState.SUCCEEDED), f"{result.state}: {result.reason}"
    if step is Step.INSTALL and machine_state.install is not None:
        return _evaluate_install(machine_state.install, download_only=download_only)
    if step is Step.VALIDATE and machine_state.validation is not None:
        return _evaluate_findings(machine_state.validation.findings)
    return OperationState.SUCCEEDED, ""


def _evaluate_findings(findings: Sequence[Finding]) -> tuple[OperationState, str]:
    if blocking := describe_blocking_findings(findings):
        return OperationState.FAILED, blocking
    warnings = [str(finding) for finding in findings if finding.level is FindingLevel.WARN]
    state = OperationState.COMPLETED_WITH_WARNINGS if warnings else OperationState.SUCCEEDED
    return state, join_first_names(warnings, _MAX_WARNINGS)


def _evaluate_install(install: InstallResult, *, download_only: bool) -> tuple[OperationState, str]:
    def join_names(state: UpdateState) -> str:
        return join_first_names([one.update.name for one in install.results if one.state is state], _MAX_UPDATES)

    if failed := join_names(UpdateState.FAILED):
        return OperationState.FAILED, f"failed: {failed}"
    if unset := join_names(UpdateState.SETUP_FAILED):
        return OperationState.COMPLETED_WITH_WARNINGS, f"setup failed: {unset}"
    reasons = [result.reason for result in install.results if result.state is UpdateState.NOT_ATTEMPTED]
    if not reasons or (download_only and install.staged_seconds is not None):
        return OperationState.SUCCEEDED, ""
    if any(result.state in PRESENT_UPDATE_STATES for result in install.results):
        return OperationState.COMPLETED_WITH_WARNINGS, f"not attempted: {join_names(UpdateState.NOT_ATTEMPTED)}"
    return OperationState.NOT_STARTED, reasons[0]


def _find_step_before_install(machine_state: MachineState, options: PatchOptions) -> Step:
    if machine_state.baseline is None:
        return Step.PRECHECK
    if machine_state.early_reboot is None:
        return Step.REBOOT if is_pending_reboot_first(machine_state, options) else Step.INSTALL
    return Step.REPORT if machine_state.early_reboot.state is RebootState.FAILED else Step.INSTALL


def _find_step_after_install(machine_state: MachineState, options: PatchOptions) -> Step:
    if options.download_only:
        return Step.REPORT
    if machine_state.follow_up is not None:
        return Step.INSTALL
    if machine_state.reboot is None:
        return Step.REBOOT
    is_validated = machine_state.validation is not None and machine_state.settling is None
    over = machine_state.reboot.state is RebootState.FAILED or is_validated
    return Step.REPORT if over else Step.VALIDATE


def _explain_no_step_start(context: MachineContext, step: Step) -> str:
    """Return why a step may not begin, or "". A machine that was changed always gets its remaining steps."""
    if context.state.install is not None or context.state.was_changed_before_resume:
        return ""
    if reason := explain_stop_request(context):
        return reason
    if step is Step.ASSESS:
        return ""
    return (
        context.run_context.explain_spent_budget()
        or explain_no_time_left(context)
        or explain_no_time_for_notice(context)
    )
