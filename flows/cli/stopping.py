"""Ctrl-C and SIGTERM: stop starting things, say what still runs where, and never pretend that leaving ends it."""

import signal
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from rich.text import Text

from flows.cli.screen import err, safe
from tasks.seams.records import JournalEntry, JournalMark
from tasks.steps.context import Control

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts what a person asks for. Handlers only count: what follows from it is done outside of them.

    Python runs handlers in the main thread. So the run itself has to be in another one: there, Prefect leaves the
    signals alone, and neither asking nor leaving can break into its work.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._before: dict[int, Any] = {}
        self.asked = ""
        self.leave = False

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Hand the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            self.leave = True
        elif not self.asked:
            self.asked = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            self._control.stop(self.asked)


def still_open(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Return the acts that were begun and whose end nobody has seen yet, oldest first."""
    ended = {(e.machine, e.act, e.key) for e in entries if e.mark is JournalMark.AFTER}
    begun = {(e.machine, e.act, e.key): e for e in entries if e.mark is JournalMark.BEFORE}
    return [entry for key, entry in begun.items() if key not in ended]


def tell_stopping(asked: str, run_ids: Sequence[str], running: Sequence[JournalEntry] | None) -> None:
    """Say that the run is being stopped, what still runs, and how to come back."""
    console = err()
    console.print(Text(f"{asked}: stopping. Nothing new is begun; what runs is watched until it ends.", "bold yellow"))
    _tell_running(running)
    console.print(Text("Ctrl-C (again) leaves at once: what runs on machines goes on all the same."))
    _tell_way_back(run_ids)


def tell_leaving(run_ids: Sequence[str], running: Sequence[JournalEntry] | None) -> None:
    """Say that we leave, and what we leave behind."""
    err().print(Text("Leaving. Nothing on any machine was ended.", style="bold yellow"))
    _tell_running(running)
    _tell_way_back(run_ids)
    for run_id in run_ids:
        err().print(Text(f"To record what became of each machine: fleetpatch resume {run_id} --settle"), soft_wrap=True)


def _tell_running(running: Sequence[JournalEntry] | None) -> None:
    console = err()
    if running is None:
        console.print(Text("What still runs is not known: the records can't be read."))
    elif not running:
        console.print(Text("Nothing that changes a machine is running."))
    else:
        console.print(Text("Still running, and left to end by itself:"))
        for entry in running:
            what = "reboot" if entry.act == "reboot" else f"job {entry.key}"
            console.print(safe(f"{entry.machine}  {entry.act}  {what}"), soft_wrap=True)


def _tell_way_back(run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        err().print(Text(f"Come back with: fleetpatch show {run_id}"), soft_wrap=True)
