"""What a person sees of a run while it goes on: a picture that moves, or plain lines where there is no terminal."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.cli.screen import err, note, safe
from tasks.model import Window
from tasks.reporting.text import duration, one_line, plural
from tasks.states import OperationState, Step

REFRESHES = 4  # a second
BAR_WIDTH = 14
ECHO_WIDTH = 3  # a terminal writes ^C where the cursor is; in a full line that would shift the whole picture
HEADER_ROWS = 4  # what the picture needs beside its machines


class Display(Protocol):
    """A Watcher that is switched on and off, and that can be told what the whole run is about."""

    def progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """See Watcher."""
        ...

    def finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """See Watcher."""
        ...

    def said(self, message: str) -> None:
        """See Watcher."""
        ...

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Show nothing more."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """How far a machine is.

    Attributes:
        fraction: of the step, 0 to 1; None when nobody can tell.
        ended: the state in which the step ended, or "" while it goes on.
    """

    machine: str
    step: Step | None = None
    fraction: float | None = None
    message: str = ""
    ended: str = ""

    @property
    def rank(self) -> int:
        """Where it stands when there is no room for all: failures first, then what moves, then what rests."""
        if self.ended == OperationState.FAILED:
            return 0
        if self.step is None:
            return 4
        if self.ended:
            return 3 if self.step in {Step.VALIDATE, Step.ASSESS} else 2
        return 1


def display(machines: Iterable[str], window: Window | None, title: str) -> Display:
    """Return the display that fits where stderr goes."""
    return LiveDisplay(machines, window, title) if err().is_terminal else LineDisplay()


class LineDisplay:
    """One plain line for each step that has ended: for logs, pipes and CI."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing to take down."""

    def progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Say nothing: only ends are told."""

    def finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Print the end of a step."""
        detail = f": {one_line(message)}" if message else ""
        self._print(f"{one_line(machine)}: {step} {state}{detail}")

    def said(self, message: str) -> None:
        """Print what concerns the whole run."""
        self._print(one_line(message))

    def _print(self, line: str) -> None:
        err().print(Text(f"{datetime.now(UTC):%H:%M:%S} {line}"), soft_wrap=True)


class LiveDisplay:
    """A line for each machine, redrawn in place, with the time that is left in the window on top."""

    def __init__(self, machines: Iterable[str], window: Window | None, title: str) -> None:
        self._rows = {name: Row(name) for name in machines}
        self._window = window
        self._title = title
        self._turn = threading.Lock()
        self._live = Live(
            console=err(), get_renderable=self.picture, refresh_per_second=REFRESHES, transient=True, auto_refresh=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the picture away."""
        self._live.stop()

    def progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Move a machine's line."""
        with self._turn:
            before = self._rows.get(machine, Row(machine))
            said = message or (before.message if before.step is step else "")
            self._rows[machine] = Row(machine, step, fraction, said)

    def finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """End a step on a machine's line; a failure is also told above the picture, where it stays."""
        with self._turn:
            before = self._rows.get(machine, Row(machine))
            self._rows[machine] = replace(before, step=step, fraction=1.0, message=message, ended=state)
        if state == OperationState.FAILED:
            note(Text.assemble((f"{one_line(machine)}: {step} failed", "bold red"), ": ", safe(message)))

    def said(self, message: str) -> None:
        """Show it above the picture, where it stays."""
        note(safe(message, "dim"))

    def picture(self) -> RenderableType:
        """Return the picture as it is now."""
        with self._turn:
            rows = list(self._rows.values())
        room = max(3, err().height - HEADER_ROWS)
        shown = sorted(rows, key=lambda row: row.rank)[:room] if len(rows) > room else rows
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True, max_width=24, overflow="ellipsis")
        grid.add_column(no_wrap=True, width=9)
        grid.add_column(width=BAR_WIDTH)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in shown:
            grid.add_row(safe(row.machine), _step(row), _bar(row), safe(row.message, "dim", 200))
        parts: list[RenderableType] = [self._header(rows), grid]
        if len(shown) < len(rows):
            parts.append(Text(_rest([row for row in rows if row not in shown]), style="dim"))
        return Constrain(Group(*parts), max(20, err().width - ECHO_WIDTH))

    def _header(self, rows: list[Row]) -> Text:
        parts = [self._title]
        if self._window is not None:
            parts.append(time_left(self._window, datetime.now(UTC)))
        working = sum(row.step is not None and not row.ended for row in rows)
        parts.append(f"{plural(len(rows), 'machine')}, {working} at work")
        return Text(" · ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")


def time_left(window: Window, now: datetime) -> str:
    """Return how much of a window is left, in words."""
    if now < window.start:
        return f"the window opens in {duration((window.start - now).total_seconds())}"
    left = (window.end - now).total_seconds()
    return f"{duration(left)} left" if left > 0 else f"the window ended {duration(-left)} ago"


def _step(row: Row) -> Text:
    if row.step is None:
        return Text("waiting", style="dim")
    if row.ended == OperationState.FAILED:
        return Text(row.step, style="bold red")
    return Text(row.step, style="green" if row.ended else "cyan")


def _bar(row: Row) -> RenderableType:
    if row.step is None:
        return Text("")
    if row.ended:
        return Text("failed", style="bold red") if row.ended == OperationState.FAILED else Text("done", style="green")
    pulse = row.fraction is None or row.fraction == 0.0
    return ProgressBar(total=1.0, completed=row.fraction or 0.0, width=BAR_WIDTH, pulse=pulse, complete_style="cyan")


def _rest(rows: list[Row]) -> str:
    waiting = sum(row.step is None for row in rows)
    ended = sum(bool(row.ended) for row in rows)
    parts = [(len(rows) - waiting - ended, "at work"), (ended, "between steps or done"), (waiting, "waiting")]
    return f"… and {len(rows)} more: " + ", ".join(f"{count} {words}" for count, words in parts if count)
