"""The progress of a run: a live display on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.cli.runtime.output import get_stderr_console, print_to_stderr, to_safe_text
from tasks.model import Window
from tasks.reporting.formatting import format_count, format_known_duration
from tasks.reporting.sanitizing import sanitize_to_one_line
from tasks.states import OperationState, Step

REFRESHES_PER_SECOND = 4
BAR_WIDTH = 14
INTERRUPT_ECHO_WIDTH = 3  # a terminal writes ^C at the cursor; a full line would then wrap
HEADER_ROWS = 4  # lines of the display that are not machines


@dataclass(frozen=True, slots=True)
class MachineProgress:
    """The progress of one machine.

    Attributes:
        fraction: of the step, 0 to 1; None when it is not known.
        end_state: the state in which the step ended, or "" while it runs.
    """

    machine: str
    step: Step | None = None
    fraction: float | None = None
    message: str = ""
    end_state: str = ""

    @property
    def display_rank(self) -> int:
        """Its order when there is no room for all: failures, then working machines, then the others."""
        if self.end_state == OperationState.FAILED:
            return 0
        if self.step is None:
            return 4
        if self.end_state:
            return 3 if self.step in {Step.VALIDATE, Step.ASSESS} else 2
        return 1


class LineDisplay:
    """Prints one line for each step that has ended: for logs, pipes and CI."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Do nothing."""

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Do nothing: only the end of a step is printed."""

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Print the end of a step."""
        detail = f": {sanitize_to_one_line(message)}" if message else ""
        self._print_line(f"{sanitize_to_one_line(machine)}: {step} {state}{detail}")

    def on_message(self, message: str) -> None:
        """Print a message of the whole run."""
        self._print_line(sanitize_to_one_line(message))

    def _print_line(self, line: str) -> None:
        get_stderr_console().print(Text(f"{datetime.now(UTC):%H:%M:%S} {line}"), soft_wrap=True)


class LiveDisplay:
    """Shows a line for each machine, redrawn in place, below the time that is left in the window."""

    def __init__(self, machines: Iterable[str], window: Window | None, title: str) -> None:
        self._rows = {name: MachineProgress(name) for name in machines}
        self._window = window
        self._title = title
        self._lock = threading.Lock()
        self._live = Live(
            console=get_stderr_console(),
            get_renderable=self.build_renderable,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            auto_refresh=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove the display."""
        self._live.stop()

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Update the line of a machine."""
        with self._lock:
            before = self._rows.get(machine, MachineProgress(machine))
            shown_message = message or (before.message if before.step is step else "")
            self._rows[machine] = MachineProgress(machine, step, fraction, shown_message)

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """End a step in the line of a machine. Print a failure above the display, where it stays."""
        with self._lock:
            before = self._rows.get(machine, MachineProgress(machine))
            self._rows[machine] = replace(before, step=step, fraction=1.0, message=message, end_state=state)
        if state == OperationState.FAILED:
            print_to_stderr(
                Text.assemble(
                    (f"{sanitize_to_one_line(machine)}: {step} failed", "bold red"), ": ", to_safe_text(message)
                )
            )

    def on_message(self, message: str) -> None:
        """Print it above the display, where it stays."""
        print_to_stderr(to_safe_text(message, "dim"))

    def build_renderable(self) -> RenderableType:
        """Return the current display."""
        with self._lock:
            rows = list(self._rows.values())
        max_rows = max(3, get_stderr_console().height - HEADER_ROWS)
        shown = sorted(rows, key=lambda row: row.display_rank)[:max_rows] if len(rows) > max_rows else rows
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True, max_width=24, overflow="ellipsis")
        grid.add_column(no_wrap=True, width=9)
        grid.add_column(width=BAR_WIDTH)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in shown:
            grid.add_row(
                to_safe_text(row.machine),
                _render_step(row),
                _render_progress_bar(row),
                to_safe_text(row.message, "dim", 200),
            )
        parts: list[RenderableType] = [self._render_header(rows), grid]
        if len(shown) < len(rows):
            parts.append(Text(_describe_hidden_rows([row for row in rows if row not in shown]), style="dim"))
        return Constrain(Group(*parts), max(20, get_stderr_console().width - INTERRUPT_ECHO_WIDTH))

    def _render_header(self, rows: list[MachineProgress]) -> Text:
        parts = [self._title]
        if self._window is not None:
            parts.append(describe_time_left(self._window, datetime.now(UTC)))
        working = sum(row.step is not None and not row.end_state for row in rows)
        parts.append(f"{format_count(len(rows), 'machine')}, {working} working")
        return Text(" · ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")


def build_display(machines: Iterable[str], window: Window | None, title: str) -> LiveDisplay | LineDisplay:
    """Return the display that fits stderr. It is a ProgressListener."""
    return LiveDisplay(machines, window, title) if get_stderr_console().is_terminal else LineDisplay()


def describe_time_left(window: Window, now: datetime) -> str:
    """Return in words how much of a window is left."""
    if now < window.start:
        return f"the window opens in {format_known_duration((window.start - now).total_seconds())}"
    left = (window.end - now).total_seconds()
    return f"{format_known_duration(left)} left" if left > 0 else f"the window ended {format_known_duration(-left)} ago"


def _render_step(row: MachineProgress) -> Text:
    if row.step is None:
        return Text("waiting", style="dim")
    if row.end_state == OperationState.FAILED:
        return Text(row.step, style="bold red")
    return Text(row.step, style="green" if row.end_state else "cyan")


def _render_progress_bar(row: MachineProgress) -> RenderableType:
    if row.step is None:
        return Text("")
    if row.end_state:
        return (
            Text("failed", style="bold red") if row.end_state == OperationState.FAILED else Text("done", style="green")
        )
    pulse = row.fraction is None or row.fraction == 0.0
    return ProgressBar(total=1.0, completed=row.fraction or 0.0, width=BAR_WIDTH, pulse=pulse, complete_style="cyan")


def _describe_hidden_rows(rows: list[MachineProgress]) -> str:
    waiting = sum(row.step is None for row in rows)
    ended = sum(bool(row.end_state) for row in rows)
    parts = [(len(rows) - waiting - ended, "working"), (ended, "between steps or done"), (waiting, "waiting")]
    return f"… and {len(rows)} more: " + ", ".join(f"{count} {words}" for count, words in parts if count)
