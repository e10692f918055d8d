"""An error as the command reports it: its kind, message, hint and exit code."""

import errno
from collections.abc import Mapping
from pathlib import Path

from fleetpatch.cli.runtime.exit_codes import ExitCode
from inventory.data_class import dataclass
from inventory.errors import FleetpatchError, InventoryError
from inventory.files.paths import STORAGE_ERRNOS, find_storage_fault, find_temporary_folder
from tasks.domain.errors import CredentialError, RequestError, WindowClosed
from tasks.domain.run_errors import FleetPatchFailed


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
        code = next(
            (code for error_type, code in _EXIT_CODES_BY_ERROR if isinstance(error, error_type)), ExitCode.CANNOT_RUN
        )
        code = ExitCode.NO_STORAGE if error.is_storage_fault else code
        return ErrorDescription(kind, str(error), error.hint, code)
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
    prefix = f"{error.filename}: " if error.filename else ""
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_working_directory():
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
            return ErrorDescription(kind, f"{prefix}{fault.reason}", fault.hint, ExitCode.NO_STORAGE)
    if error.errno in _REMEDIES_BY_ERRNO:
        code = ExitCode.NO_STORAGE if error.errno in STORAGE_ERRNOS else ExitCode.CANNOT_RUN
        return ErrorDescription(kind, f"{prefix}{error.strerror}", _REMEDIES_BY_ERRNO[error.errno], code)
    return None


def _has_working_directory() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True
