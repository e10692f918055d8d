"""Ctrl-C and SIGTERM: stop starting things, say what still runs where, and never pretend that leaving ends it."""

import signal
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from rich.text import Text

from flows.cli.runtime.output import get_stderr_console, to_safe_text
from tasks.protocols.records import JournalEntry
from tasks.steps.context.stop_token import StopToken

HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptHandler:
    """Counts what a person asks for. Handlers only count: what follows from it is done outside of them.

    Python runs handlers in the main thread. So the run itself has to be in another one: there, Prefect leaves the
    signals alone, and neither asking nor leaving can break into its work.
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
        """Hand the signals back."""
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.stop_reason:
            self.is_detach_requested = True
        elif not self.stop_reason:
            self.stop_reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            self._stop_token.request_stop(self.stop_reason)


def print_stopping(stop_reason: str, run_ids: Sequence[str], running: Sequence[JournalEntry] | None) -> None:
    """Say that the run is being stopped, what still runs, and how to come back."""
    console = get_stderr_console()
    console.print(
        Text(f"{stop_reason}: stopping. Nothing new is begun; what runs is watched until it ends.", "bold yellow")
    )
    _print_running_acts(running)
    console.print(Text("Ctrl-C (again) leaves at once: what runs on machines goes on all the same."))
    _print_show_commands(run_ids)


def print_detached(run_ids: Sequence[str], running: Sequence[JournalEntry] | None) -> None:
    """Say that we leave, and what we leave behind."""
    get_stderr_console().print(Text("Leaving. Nothing on any machine was ended.", style="bold yellow"))
    _print_running_acts(running)
    _print_show_commands(run_ids)
    for run_id in run_ids:
        get_stderr_console().print(
            Text(f"To record what became of each machine: fleetpatch resume {run_id} --finalize"), soft_wrap=True
        )


def _print_running_acts(running: Sequence[JournalEntry] | None) -> None:
    console = get_stderr_console()
    if running is None:
        console.print(Text("What still runs is not known: the records can't be read."))
    elif not running:
        console.print(Text("Nothing that changes a machine is running."))
    else:
        console.print(Text("Still running, and left to end by itself:"))
        for entry in running:
            what = "reboot" if entry.act == "reboot" else f"job {entry.key}"
            console.print(to_safe_text(f"{entry.machine}  {entry.act}  {what}"), soft_wrap=True)


def _print_show_commands(run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        get_stderr_console().print(Text(f"Come back with: fleetpatch show {run_id}"), soft_wrap=True)
