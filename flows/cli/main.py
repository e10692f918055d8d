"""The way in: runs a verb, and turns whatever goes wrong into a message, a hint and an exit code."""

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import typer

from flows.cli import (  # noqa: F401 - each adds its verbs
    approving,
    assess,
    doctor,
    history,
    inventory,
    patch,
    reports,
    resume,
    runs,
    standing,
    unlock,
    version,
)
from flows.cli.app import app
from flows.cli.exits import Code, trouble
from flows.cli.screen import err, log_to_screen, print_json, safe_lines, spell_out

DEBUG: Final = "--debug"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; None: the process's own.

    Returns:
        The exit code, see flows/cli/exits.py.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in words
    words = [DEBUG] * debug + [word for word in words if word != DEBUG]
    spell_out()
    log_to_screen()
    return _written(_run(words, debug=debug), debug=debug)


def _run(words: Sequence[str], *, debug: bool) -> int:
    try:
        code = app(words, prog_name="fleetpatch", standalone_mode=False)
    except typer.Abort:
        return int(Code.INTERRUPTED)
    except BrokenPipeError:
        return _pipe_is_gone()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(Code.UNABLE)
    except BaseException as error:  # noqa: BLE001 - the outermost edge: every error ends as a message here
        return _tell(error, debug=debug, as_json="--json" in words)
    return code if isinstance(code, int) else int(Code.GOOD)


def _tell(error: BaseException, *, debug: bool, as_json: bool) -> int:
    if debug:
        traceback.print_exception(error)
    usage = getattr(error, "format_message", None)  # typer's errors of usage: their class moves between releases
    if usage is not None:
        return _tell_usage(error, str(usage()), as_json=as_json)
    told = trouble(error)
    if as_json:
        with suppress(OSError):  # stdout itself may be what is wrong
            print_json(told.document())
    err().print("error:", safe_lines(told.message), style="bold red", soft_wrap=True)
    if told.hint:
        err().print("hint:", safe_lines(told.hint), soft_wrap=True)
    return int(told.code)


def _tell_usage(error: BaseException, message: str, *, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "fleetpatch"
    hint = f"See `{path} --help`."
    if as_json:
        print_json({"error": {"kind": "Usage", "message": message, "hint": hint, "exitCode": int(Code.USAGE)}})
    if not message and context is not None:  # asked for nothing at all: that is a wish for help
        print(context.get_help())
        return int(Code.USAGE)
    err().print("error:", safe_lines(message), style="bold red", soft_wrap=True)
    err().print("hint:", safe_lines(hint), soft_wrap=True)
    return int(Code.USAGE)


def _written(code: int, *, debug: bool) -> int:
    """Return the exit code, once all that was said has really been written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _pipe_is_gone()
    except OSError as error:
        sys.stdout = None
        return code if code == Code.UNABLE else _tell(error, debug=debug, as_json=False)
    return code


def _pipe_is_gone() -> int:
    """Leave quietly when the reader of our output (`| head`) has gone."""
    sys.stdout = None  # else the interpreter tries to flush it once more
    return int(Code.GOOD)


if __name__ == "__main__":
    sys.exit(main())
