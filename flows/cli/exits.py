"""How the command ends: exit codes, and what an error looks like to a person and to a program."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from inventory.errors import FleetpatchError, InventoryError
from tasks.errors import CredentialError, FleetPatchFailed, RecordsError, RequestError, WindowClosed
from tasks.model import RunReport
from tasks.rules.hooks import state_with
from tasks.states import OperationState


class Code(IntEnum):
    """The command's exit codes. They are documented in docs/command.md and don't change."""

    GOOD = 0
    FAILED = 1  # of some machine; the report is whole
    USAGE = 2  # the inventory, the scope or the request can't be used; nothing was done
    WARNINGS = 3
    NOTHING = 4  # nothing was attempted: the window was closed, or too short
    UNABLE = 5  # fleetpatch itself can't run: records, environment
    INTERRUPTED = 130


class CannotRun(FleetpatchError):
    """fleetpatch itself can't run here: its environment lacks something."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as it is told: what, what to do about it, and the exit code."""

    kind: str
    message: str
    hint: str
    code: Code

    def document(self) -> dict[str, object]:
        """Return it as JSON data."""
        return {"error": {"kind": self.kind, "message": self.message, "hint": self.hint, "exitCode": int(self.code)}}


_NO_RIGHT = "Give this user the right to it and to the folders above it, or choose another place."
_REMEDIES: Mapping[int | None, str] = {
    errno.ENOSPC: "Make room there, or choose another place.",
    errno.EDQUOT: "Make room there, or choose another place.",
    errno.EROFS: "Choose another place: nothing can be written there.",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
}


def trouble(error: BaseException) -> Trouble:
    """Return how an error is told. Errors that nobody foresaw say so."""
    kind = type(error).__name__
    if isinstance(error, FleetpatchError):
        return Trouble(kind, str(error), error.hint, _code(error))
    if isinstance(error, KeyboardInterrupt):
        return Trouble("Interrupted", "interrupted", "", Code.INTERRUPTED)
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_nowhere():
        return Trouble(kind, "the folder that this was started in is gone", "Change to one that is there.", Code.UNABLE)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return Trouble(kind, f"this path is too long: {error.filename!s:.100}…", "Give a shorter one.", Code.USAGE)
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        where = f"{error.filename}: " if error.filename else ""
        return Trouble(kind, f"{where}{error.strerror}", _REMEDIES[error.errno], Code.UNABLE)
    hint = "This is a fault in fleetpatch, or in its environment: `fleetpatch doctor` checks that; --debug shows more."
    return Trouble(kind, f"{kind}: {error}", hint, Code.UNABLE)


def _is_nowhere() -> bool:
    """Whether this process's folder was deleted."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _code(error: FleetpatchError) -> Code:
    match error:
        case FleetPatchFailed():
            return Code.FAILED
        case InventoryError() | RequestError() | CredentialError():
            return Code.USAGE
        case WindowClosed():
            return Code.NOTHING
        case RecordsError() | _:
            return Code.UNABLE


def code_of(report: RunReport, *, stopped: bool = False, unwritten: bool = False) -> Code:
    """Return the exit code of a run that came to its end.

    Args:
        report: the whole report.
        stopped: whether somebody asked the run to stop. Its code says so where that kept something from being done.
        unwritten: whether its report could not be written. Its code says so where no machine failed.
    """
    code = _of_run(report, stopped=stopped)
    return Code.UNABLE if unwritten and code is not Code.FAILED else code


def _of_run(report: RunReport, *, stopped: bool) -> Code:
    code = _with_hooks(_of_outcomes(report), state_with(OperationState.SUCCEEDED, report.hooks, stopped=stopped))
    return Code.INTERRUPTED if stopped and code in {Code.WARNINGS, Code.NOTHING} else code


def _with_hooks(code: Code, state: OperationState) -> Code:
    """Return the code when the hooks of the run and its waves count too: by the state that they alone would give."""
    if state is OperationState.FAILED:
        return Code.FAILED
    return Code.WARNINGS if code is Code.GOOD and state is OperationState.COMPLETED_WITH_WARNINGS else code


def _of_outcomes(report: RunReport) -> Code:
    ours = [outcome for outcome in report.outcomes if not (outcome.wave is None and not outcome.steps)]
    states = {outcome.state for outcome in ours or report.outcomes}
    if states & {OperationState.FAILED, OperationState.UNKNOWN}:
        return Code.FAILED
    if report.run.kind == "plan" or states <= {OperationState.SUCCEEDED}:
        return Code.GOOD
    if states == {OperationState.NOT_STARTED}:
        return Code.NOTHING
    return Code.WARNINGS
