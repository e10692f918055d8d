"""Ctrl-C while the command is still being loaded: it ends as it does later, and not with a list of imports."""

import os
import signal
import threading
from types import FrameType
from typing import Final

INTERRUPTED_EXIT_CODE: Final = 130  # flows/cli/runtime/exit_codes.py has it too, and takes its time to load


def install_interrupt_handler() -> None:
    """Let Ctrl-C end the process at once and quietly, unless the parent process ignores it."""
    if threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _exit_on_interrupt)


def restore_interrupt_handler() -> None:
    """Let Ctrl-C be what it is in every Python program."""
    if signal.getsignal(signal.SIGINT) is _exit_on_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_on_interrupt(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED_EXIT_CODE)
