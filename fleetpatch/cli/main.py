"""Runs a verb, and turns every error into a message, a hint and an exit code."""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import typer

from fleetpatch.cli.app import app
from fleetpatch.cli.runtime.completion import serve_completion
from fleetpatch.cli.runtime.error_description import describe_error
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import configure_logging, escape_unencodable_output, print_error, print_json
from flows.prefect_api.server_settings import SAFE_PATH
from inventory.files.settings_file import apply_settings_file

DEBUG_OPTION: Final = "--debug"
_PLUGINS_OFF: Final = "PYDANTIC_DISABLE_PLUGINS"
"""pydantic searches all packages that are installed for plugins. That takes long, and fleetpatch uses none."""
_WITHOUT_SETTINGS: Final = frozenset({"--help", "-h", "--version"})
"""Options that work whatever is in the settings file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; None: the process's own.

    Returns:
        The exit code, see fleetpatch/cli/runtime/exit_codes.py.
    """
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG_OPTION in command_line
    command_line = [DEBUG_OPTION] * debug + [word for word in command_line if word != DEBUG_OPTION]
    os.environ.update(SAFE_PATH)  # before Prefect is loaded
    os.environ.setdefault(_PLUGINS_OFF, "__all__")
    escape_unencodable_output()
    configure_logging()
    if arguments is None:
        from tasks.reports.export.parquet_library import leave_numpy_out

        leave_numpy_out()  # the command prints rows, and builds no frames of them
    with serve_completion():
        code = _run_command(command_line, debug=debug)
    code = _flush_stdout(code, debug=debug)
    if arguments is None and "flows.prefect_api.flow_end" in sys.modules:  # Prefect may have something to send
        sys.modules["flows.prefect_api.flow_end"].end_process_if_prefect_hangs(code)
    if arguments is None:
        gc.freeze()  # the process ends: Python need not look for unused objects
    return code


def _run_command(words: Sequence[str], *, debug: bool) -> int:
    try:
        if not _WITHOUT_SETTINGS.intersection(words) and words != ["version"]:
            apply_settings_file(os.environ)  # before Prefect is loaded
        code = app(words, prog_name="fleetpatch", standalone_mode=False)
    except typer.Abort:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        return _handle_closed_pipe()
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else int(ExitCode.CANNOT_RUN)
    except BaseException as error:  # noqa: BLE001 - the outermost edge: every error ends as a message here
        return _print_error(error, debug=debug, as_json="--json" in words)
    return code if isinstance(code, int) else int(ExitCode.SUCCESS)


def _print_error(error: BaseException, *, debug: bool, as_json: bool) -> int:
    if debug:
        traceback.print_exception(error)
    description = describe_error(error)
    if as_json:
        with suppress(OSError):  # stdout itself may be the fault
            print_json(description.to_json())
    context = getattr(error, "ctx", None)
    if not description.message and context is not None:  # no verb: show the help
        print(context.get_help())
    else:
        print_error(description.message, description.hint)
    return int(description.exit_code)


def _flush_stdout(code: int, *, debug: bool) -> int:
    """Return the exit code after all output is written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _handle_closed_pipe()
    except OSError as error:
        sys.stdout = None
        return code if code == ExitCode.CANNOT_RUN else _print_error(error, debug=debug, as_json=False)
    return code


def _handle_closed_pipe() -> int:
    """End without an error when the reader of the output (`| head`) is gone."""
    sys.stdout = None  # else the interpreter tries to flush it once more
    return int(ExitCode.SUCCESS)


if __name__ == "__main__":
    sys.exit(main())
