"""The exit codes of the command and of a run."""

from collections.abc import Collection, Iterable
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

from tasks.domain.states import OperationState

if TYPE_CHECKING:  # no exit code of --help or of an error needs a run's report
    from tasks.domain.model import RunReport


class ExitCode(IntEnum):
    """The command's exit codes. They are documented in docs/reference/command.md and don't change."""

    SUCCESS = 0
    MACHINE_FAILED = 1  # the report is complete
    BAD_INPUT = 2  # inventory, scope or request is not valid; nothing was done
    WARNINGS = 3
    NOTHING_ATTEMPTED = 4  # nothing was attempted: the window was closed, or too short
    CANNOT_RUN = 5  # fleetpatch itself cannot run: records, environment
    NO_STORAGE = 6  # a disk of the controller is full or read-only: nothing can be written
    INTERRUPTED = 130


def to_run_exit_code(report: "RunReport", *, was_stopped: bool = False, has_report_error: bool = False) -> ExitCode:
    """Return the exit code of a run that is over.

    ``was_stopped``: whether the run was asked to stop. INTERRUPTED is returned if something was not done for that, and
    for every run that is Cancelled.
    ``has_report_error``: whether its report could not be written. CANNOT_RUN is returned if no machine failed.
    """
    code = _to_hooks_and_outcomes_exit_code(report, was_stopped=was_stopped)
    return ExitCode.CANNOT_RUN if has_report_error and code is not ExitCode.MACHINE_FAILED else code


def _to_hooks_and_outcomes_exit_code(report: "RunReport", *, was_stopped: bool) -> ExitCode:
    from flows.engine.interruption import describe_undone
    from tasks.rules.runs.hooks import determine_state_with_hooks

    was_stopped = was_stopped or report.run.state is OperationState.CANCELLED
    hooks_state = determine_state_with_hooks(OperationState.SUCCEEDED, report.hooks, stopped=was_stopped)
    if hooks_state is OperationState.FAILED:
        return ExitCode.MACHINE_FAILED
    code = _to_outcomes_exit_code(report)
    if code is ExitCode.SUCCESS and hooks_state is OperationState.COMPLETED_WITH_WARNINGS:
        code = ExitCode.WARNINGS
    is_cut_off = was_stopped and (hooks_state is not OperationState.SUCCEEDED or describe_undone(report.outcomes))
    return ExitCode.INTERRUPTED if is_cut_off and code in {ExitCode.WARNINGS, ExitCode.NOTHING_ATTEMPTED} else code


def _to_outcomes_exit_code(report: "RunReport") -> ExitCode:
    from tasks.rules.undo import is_in_vain

    # without the machines that their owner keeps this configuration from: they have no wave, no steps and no error
    attempted = [
        outcome
        for outcome in report.outcomes
        if outcome.wave is not None or outcome.steps or outcome.error or report.run.kind == "assess"
    ]
    states = {outcome.state for outcome in attempted or report.outcomes}
    if states & {OperationState.FAILED, OperationState.UNKNOWN}:
        return ExitCode.MACHINE_FAILED
    nothing_done = is_in_vain(report.plans)  # of an undo
    if report.run.kind == "plan":  # NotStarted: nothing would begin
        unread = sum(outcome.error is not None for outcome in report.outcomes)
        if unread:  # machines of other sites: their plan is not known
            return ExitCode.WARNINGS if unread < len(report.outcomes) else ExitCode.NOTHING_ATTEMPTED
        nothing_done = nothing_done or report.run.state is OperationState.NOT_STARTED
        return ExitCode.NOTHING_ATTEMPTED if nothing_done else ExitCode.SUCCESS
    if states <= {OperationState.SUCCEEDED}:
        return ExitCode.SUCCESS
    if nothing_done or states == {OperationState.NOT_STARTED}:
        return ExitCode.NOTHING_ATTEMPTED
    return ExitCode.WARNINGS


def to_act_exit_code(states: Iterable[Enum], failed: Collection[Enum], refused: Enum) -> ExitCode:
    """Return the exit code of an act on several machines, from the state in which it ended on each.

    ``failed``: those that are a failure.
    ``refused``: the state of a machine on which nothing was done.
    """
    all_states = set(states)
    if all_states & set(failed):
        return ExitCode.MACHINE_FAILED
    if all_states == {refused}:
        return ExitCode.NOTHING_ATTEMPTED
    return ExitCode.WARNINGS if refused in all_states else ExitCode.SUCCESS


def find_worst_exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code of the worst end of several runs: people must know of it. SUCCESS if there is none."""
    order = (ExitCode.MACHINE_FAILED, ExitCode.INTERRUPTED, ExitCode.NO_STORAGE, ExitCode.CANNOT_RUN)
    ranked = (*order, ExitCode.BAD_INPUT, ExitCode.WARNINGS, ExitCode.NOTHING_ATTEMPTED, ExitCode.SUCCESS)
    return min(codes, key=ranked.index, default=ExitCode.SUCCESS)
