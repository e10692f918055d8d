"""Ctrl-C and SIGTERM: stop the run or detach from it, and print what still runs on machines."""

import signal
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stderr, to_safe_text
from tasks.domain.protocols.records import JournalEntry
from tasks.steps.context.run_control import StopToken

HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptHandler:
    """Records signals. The handlers only set flags; the main thread acts on them.

    Python runs handlers in the main thread. The run is in another thread: there Prefect does not touch the signals,
    and no signal interrupts the run.
    """

    def __init__(self, stop_token: StopToken) -> None:
        self._stop_token = stop_token
        self._previous_handlers: dict[int, Any] = {}
        self.stop_reason = ""
        self.is_detach_requested = False

    def __enter__(self) -> Self:
        for number in HANDLED_SIGNALS:
            self._previous_handlers[number] = signal.signal(number, self._handle_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Restore the previous handlers."""
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.stop_reason:
            self.is_detach_requested = True
        elif not self.stop_reason:
            self.stop_reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            self._stop_token.request_stop(self.stop_reason)


def print_stopping(stop_reason: str, run_ids: Sequence[str], running: Sequence[JournalEntry] | None) -> None:
    """Print that the run stops, what still runs, and how to see the run."""
    print_to_stderr(Text(f"{stop_reason}: stopping. Nothing new begins. Waiting for jobs that run.", "bold yellow"))
    _print_running_acts(running)
    print_to_stderr("Press Ctrl-C to detach at once. Jobs on machines keep running.")
    _print_show_commands(run_ids)


def print_detached(run_ids: Sequence[str], running: Sequence[JournalEntry] | None) -> None:
    """Print that the command detaches, and what still runs."""
    print_to_stderr(Text("Detached. Jobs on machines keep running.", style="bold yellow"))
    _print_running_acts(running)
    _print_show_commands(run_ids)
    for run_id in run_ids:
        print_to_stderr(f"To record the result: fleetpatch resume {run_id} --finalize")


def _print_running_acts(running: Sequence[JournalEntry] | None) -> None:
    if running is None:
        print_to_stderr("It is not known what still runs: the records cannot be read.")
    elif not running:
        print_to_stderr("No job or reboot is running.")
    else:
        print_to_stderr("Still running:")
        for entry in running:
            subject = "reboot" if entry.act == "reboot" else f"job {entry.key}"
            print_to_stderr(to_safe_text(f"{entry.machine}  {entry.act}  {subject}"))


def _print_show_commands(run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        print_to_stderr(f"To see the run: fleetpatch show {run_id}")
