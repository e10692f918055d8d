"""The exit codes of the command, of a run, and of an error with its kind, message and hint."""

import errno
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path

from flows.engine.interruption import describe_undone
from inventory.errors import FleetpatchError, InventoryError
from inventory.files.paths import STORAGE_ERRNOS, find_storage_fault, find_temporary_folder
from tasks.domain.errors import CredentialError, RequestError, WindowClosed
from tasks.domain.model import RunReport
from tasks.domain.run_errors import FleetPatchFailed
from tasks.domain.states import OperationState
from tasks.rules.runs.hooks import determine_state_with_hooks


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


def to_exit_code(report: RunReport, *, was_stopped: bool = False, has_report_error: bool = False) -> ExitCode:
    """Return the exit code of a run that is over.

    Args:
        report: the whole report.
        was_stopped: whether the run was asked to stop. INTERRUPTED is returned if something was not done for that, and
            for every run that is Cancelled.
        has_report_error: whether its report could not be written. CANNOT_RUN is returned if no machine failed.
    """
    code = _to_run_exit_code(report, was_stopped=was_stopped)
    return ExitCode.CANNOT_RUN if has_report_error and code is not ExitCode.MACHINE_FAILED else code


def _to_run_exit_code(report: RunReport, *, was_stopped: bool) -> ExitCode:
    was_stopped = was_stopped or report.run.state is OperationState.CANCELLED
    hooks_state = determine_state_with_hooks(OperationState.SUCCEEDED, report.hooks, stopped=was_stopped)
    if hooks_state is OperationState.FAILED:
        return ExitCode.MACHINE_FAILED
    code = _to_outcomes_exit_code(report)
    if code is ExitCode.SUCCESS and hooks_state is OperationState.COMPLETED_WITH_WARNINGS:
        code = ExitCode.WARNINGS
    is_cut_off = was_stopped and (hooks_state is not OperationState.SUCCEEDED or describe_undone(report.outcomes))
    return ExitCode.INTERRUPTED if is_cut_off and code in {ExitCode.WARNINGS, ExitCode.NOTHING_ATTEMPTED} else code


def _to_outcomes_exit_code(report: RunReport) -> ExitCode:
    attempted = [outcome for outcome in report.outcomes if not (outcome.wave is None and not outcome.steps)]
    states = {outcome.state for outcome in attempted or report.outcomes}
    if states & {OperationState.FAILED, OperationState.UNKNOWN}:
        return ExitCode.MACHINE_FAILED
    if report.run.kind == "plan":  # NotStarted: nothing would begin
        return ExitCode.NOTHING_ATTEMPTED if report.run.state is OperationState.NOT_STARTED else ExitCode.SUCCESS
    if states <= {OperationState.SUCCEEDED}:
        return ExitCode.SUCCESS
    if states == {OperationState.NOT_STARTED}:
        return ExitCode.NOTHING_ATTEMPTED
    return ExitCode.WARNINGS


def choose_exit_code(states: Iterable[Enum], failed: Collection[Enum], refused: Enum) -> ExitCode:
    """Return the exit code of an act on several machines, from the state in which it ended on each.

    Args:
        states: of the machines.
        failed: those that are a failure.
        refused: the state of a machine on which nothing was done.
    """
    all_states = set(states)
    if all_states & set(failed):
        return ExitCode.MACHINE_FAILED
    if all_states == {refused}:
        return ExitCode.NOTHING_ATTEMPTED
    return ExitCode.WARNINGS if refused in all_states else ExitCode.SUCCESS


@dataclass(frozen=True, slots=True)
class ErrorDescription:
    """An error as the command reports it."""

    kind: str
    message: str
    hint: str
    exit_code: ExitCode

    def to_json(self) -> dict[str, object]:
        """Return it as JSON data."""
        return {
            "error": {"kind": self.kind, "message": self.message, "hint": self.hint, "exitCode": int(self.exit_code)}
        }


_PERMISSION_REMEDY = "Give this user access to it and to the folders above it, or choose another place."


_REMEDIES_BY_ERRNO: Mapping[int | None, str] = {
    errno.ENOSPC: "Make room on the disk (df -h shows all), or choose another place.",
    errno.EDQUOT: "Make room (quota -s shows the limit), or choose another place.",
    errno.EROFS: "Choose another place: this one is read-only.",
    errno.EACCES: _PERMISSION_REMEDY,
    errno.EPERM: _PERMISSION_REMEDY,
}
_EXIT_CODES_BY_ERROR: tuple[tuple[type[FleetpatchError], ExitCode], ...] = (
    (FleetPatchFailed, ExitCode.MACHINE_FAILED),
    (InventoryError, ExitCode.BAD_INPUT),
    (RequestError, ExitCode.BAD_INPUT),
    (CredentialError, ExitCode.BAD_INPUT),
    (WindowClosed, ExitCode.NOTHING_ATTEMPTED),
)


def describe_error(error: BaseException) -> ErrorDescription:
    """Return how the command reports an error. An unexpected error is reported as a fault in fleetpatch."""
    kind = type(error).__name__
    if isinstance(error, FleetpatchError):
        return ErrorDescription(kind, str(error), error.hint, _find_exit_code(error))
    format_usage = getattr(error, "format_message", None)  # typer's usage errors: their class differs between releases
    if format_usage is not None:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "fleetpatch"
        text = str(format_usage()).replace("Value error, ", "")
        hint = f"See `{path} --help`."
        if context is not None and "scope" in context.params and "unexpected extra argument" in text:
            hint = "A scope is one word in quotes: '*' for all, 'web-1|web-2' for several machines."
        return ErrorDescription("Usage", text, hint, ExitCode.BAD_INPUT)
    if isinstance(error, KeyboardInterrupt):
        return ErrorDescription("Interrupted", "interrupted", "", ExitCode.INTERRUPTED)
    if isinstance(error, OSError) and (description := _describe_os_error(kind, error)) is not None:
        return description
    hint = "This is a fault in fleetpatch or in its environment. `fleetpatch doctor` checks it. --debug shows more."
    return ErrorDescription(kind, f"{kind}: {error}", hint, ExitCode.CANNOT_RUN)


def _describe_os_error(kind: str, error: OSError) -> ErrorDescription | None:
    """Return how the command reports an error that has a known remedy; None if it has none."""
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_working_directory_deleted():
        return ErrorDescription(
            kind, "the current folder does not exist any more", "Change to a folder that exists.", ExitCode.CANNOT_RUN
        )
    if error.errno == errno.ENAMETOOLONG:
        return ErrorDescription(
            kind, f"this path is too long: {error.filename!s:.100}…", "Give a shorter one.", ExitCode.BAD_INPUT
        )
    if "usable temporary directory" in str(error) or error.errno in STORAGE_ERRNOS:
        path, number = (Path(error.filename), error.errno or 0) if error.filename else (find_temporary_folder(), 0)
        if fault := find_storage_fault(path, Path(), number=number):
            where = f"{error.filename}: " if error.filename else ""
            return ErrorDescription(kind, f"{where}{fault.reason}", fault.hint, ExitCode.NO_STORAGE)
    if error.errno in _REMEDIES_BY_ERRNO:
        where = f"{error.filename}: " if error.filename else ""
        code = ExitCode.NO_STORAGE if error.errno in STORAGE_ERRNOS else ExitCode.CANNOT_RUN
        return ErrorDescription(kind, f"{where}{error.strerror}", _REMEDIES_BY_ERRNO[error.errno], code)
    return None


def _is_working_directory_deleted() -> bool:
    """Whether the current folder of this process was deleted."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _find_exit_code(error: FleetpatchError) -> ExitCode:
    if error.is_storage_fault:
        return ExitCode.NO_STORAGE
    return next((code for kind, code in _EXIT_CODES_BY_ERROR if isinstance(error, kind)), ExitCode.CANNOT_RUN)
