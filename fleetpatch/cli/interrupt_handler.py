"""Handles Ctrl-C while the command is still loading: it ends with the usual message and without a traceback."""

import os
import signal
import threading
from types import FrameType
from typing import Final

INTERRUPTED_EXIT_CODE: Final = 130  # same as in fleetpatch/cli/runtime/exit_codes.py, which loads slowly


def install_interrupt_handler() -> None:
    """End the process at once on Ctrl-C, unless the parent process ignores SIGINT."""
    if threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _exit_on_interrupt)


def restore_interrupt_handler() -> None:
    """Restore Python's default handler for Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is _exit_on_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_on_interrupt(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED_EXIT_CODE)
