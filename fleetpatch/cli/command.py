"""The console command. Ctrl-C while it loads, and packages of another program, end it with a message."""

# ruff: noqa: E402 - what may end the program stands before what loads slowly
import gc
import os
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

_CANNOT_RUN, _INTERRUPTED = 5, 130
"""As in fleetpatch/cli/runtime/exit_codes.py, which can't be imported yet."""


def _require_own_packages() -> None:
    """End the program with a message if a package is another program's.

    Their names are common: ``flows`` or ``tasks`` of another program, earlier on the path, would be used instead.
    """
    folder = Path(__file__).parent.parent.parent
    for name in ("flows", "tasks", "deployments", "inventory"):
        spec = find_spec(name)
        locations = [] if spec is None else [Path(location) for location in spec.submodule_search_locations or ()]
        if folder / name not in locations[:1]:
            fault = f"{locations[0]} of another program is found instead" if locations else "it is missing"
            print(
                f"error: the package `{name}` of fleetpatch is not used: {fault}\n"
                "  PYTHONPATH must not name a folder with such a package. "
                "Install fleetpatch into an environment of its own: pipx, uv tool or a venv.",
                file=sys.stderr,
            )
            sys.exit(_CANNOT_RUN)


def _exit_on_interrupt(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(_INTERRUPTED)


def _occupy_standard_descriptors() -> None:
    """Let no file have the number of an input, output or error that was not given: messages would go into it."""
    descriptor = 0
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


_occupy_standard_descriptors()
gc.set_threshold(200_000, 20, 20)  # Python's 700 takes a third of the time of a command that reads a whole fleet
_require_own_packages()
if threading.current_thread() is threading.main_thread() and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else the parent process ignores it
):
    signal.signal(signal.SIGINT, _exit_on_interrupt)

from fleetpatch.cli.main import main

if signal.getsignal(signal.SIGINT) is _exit_on_interrupt:
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
