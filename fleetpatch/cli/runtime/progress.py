"""The progress of a run: a live display on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetpatch.cli.runtime.output import get_stderr_console, print_to_stderr, shorten_list, to_safe_text
from inventory.data_class import dataclass
from tasks.domain.model import Window
from tasks.domain.states import OperationState, Step
from tasks.reports.formatting import format_count, format_known_duration
from tasks.reports.sanitizing import sanitize_to_one_line

REFRESHES_PER_SECOND = 4
BAR_WIDTH = 14
INTERRUPT_ECHO_WIDTH = 3  # a terminal writes ^C at the cursor; a full line would then wrap
HEADER_ROWS = 4  # lines of the display that are not machines
WAITING_SECONDS = 15.0
"""After so long, the display says for how long a machine is waited for."""
MAX_WAITING_SECONDS = 300.0
"""The longest time between two lines about machines that are waited for."""
MAX_WAITING_NAMES = 5


@dataclass(frozen=True, slots=True)
class MachineProgress:
    """The progress of one machine."""

    machine: str
    step: Step | None = None
    fraction: float | None = None  # of the step, 0 to 1; None when it is not known
    message: str = ""
    end_state: str = ""  # the state in which the step ended, or "" while it runs
    # When the step began, in seconds of a monotonic clock.
    since: float = field(default_factory=lambda: monotonic())  # noqa: PLW0108 - tests replace it

    @property
    def is_working(self) -> bool:
        """Whether a step of it runs."""
        return self.step is not None and not self.end_state

    @property
    def waited_seconds(self) -> float:
        """For how long its step has run."""
        return monotonic() - self.since

    def continue_with(self, step: Step, fraction: float | None, message: str) -> "MachineProgress":
        """Return its progress in this step, which may have begun before."""
        if self.step is not step or self.end_state:
            return MachineProgress(self.machine, step, fraction, message)
        return replace(self, fraction=fraction, message=message or self.message)

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


class _ProgressDisplay:
    """What displays know of machines. Many threads tell them."""

    def __init__(self, machines: Iterable[str]) -> None:
        self._rows = {name: MachineProgress(name) for name in machines}
        self._lock = threading.Lock()

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Note the progress of a machine."""
        with self._lock:
            before = self._rows.get(machine, MachineProgress(machine))
            self._rows[machine] = before.continue_with(step, fraction, message)

    def _end_step(self, machine: str, step: Step, state: str, message: str) -> None:
        with self._lock:
            before = self._rows.get(machine, MachineProgress(machine))
            self._rows[machine] = replace(before, step=step, fraction=1.0, message=message, end_state=state)


class LineDisplay(_ProgressDisplay):
    """Prints one line for each step that has ended, and who is waited for: for logs, pipes and CI."""

    def __init__(self, machines: Iterable[str] = ()) -> None:
        super().__init__(machines)
        self._over = threading.Event()
        self._printed_at = monotonic()

    def __enter__(self) -> Self:
        threading.Thread(target=self._print_waiting, name="who is waited for", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Say no more who is waited for."""
        self._over.set()

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Print the end of a step."""
        self._end_step(machine, step, state, message)
        detail = f": {sanitize_to_one_line(message)}" if message else ""
        self._print_line(f"{sanitize_to_one_line(machine)}: {step} {state}{detail}")

    def on_message(self, message: str) -> None:
        """Print a message of the whole run."""
        self._print_line(sanitize_to_one_line(message))

    def _print_waiting(self) -> None:
        """Print who is waited for, each time that no line was printed for a while. The while becomes longer."""
        pause = WAITING_SECONDS
        while True:
            printed_at = self._printed_at
            if self._over.wait(max(0.0, printed_at + pause - monotonic())):
                return
            if self._printed_at != printed_at:
                pause = WAITING_SECONDS
                continue
            with self._lock:
                working = sorted((row for row in self._rows.values() if row.is_working), key=lambda row: row.since)
            if working:
                self._print_line(f"waiting for {_describe_waiting(working)}")
                pause = min(pause * 2, MAX_WAITING_SECONDS)
            else:
                self._printed_at = monotonic()

    def _print_line(self, line: str) -> None:
        self._printed_at = monotonic()
        get_stderr_console().print(Text(f"{datetime.now(UTC):%H:%M:%S} {line}"), soft_wrap=True)


class LiveDisplay(_ProgressDisplay):
    """Shows a line for each machine, redrawn in place, below the time that is left in the window."""

    def __init__(self, machines: Iterable[str], window: Window | None, title: str) -> None:
        super().__init__(machines)
        self._window = window
        self._title = title
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

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """End a step in the line of a machine. Print a failure above the display, where it stays."""
        self._end_step(machine, step, state, message)
        if state == OperationState.FAILED:
            title = to_safe_text(f"{machine}: {step} failed", "bold red")
            print_to_stderr(Text.assemble(title, ": ", to_safe_text(message)))

    def on_message(self, message: str) -> None:
        """Print it above the display, where it stays."""
        print_to_stderr(to_safe_text(message, "dim"))

    def build_renderable(self) -> RenderableType:
        """Return the current display."""
        with self._lock:
            rows = list(self._rows.values())
        max_rows = max(3, get_stderr_console().height - HEADER_ROWS)
        visible = (
            sorted(rows, key=lambda row: (row.display_rank, row.since))[:max_rows] if len(rows) > max_rows else rows
        )
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True, max_width=24, overflow="ellipsis")
        grid.add_column(no_wrap=True, width=9)
        grid.add_column(width=BAR_WIDTH)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in visible:
            grid.add_row(
                to_safe_text(row.machine),
                _render_step(row),
                _render_progress_bar(row),
                to_safe_text(_describe_row(row), "dim", 200),
            )
        parts: list[RenderableType] = [self._render_header(rows), grid]
        if len(visible) < len(rows):
            hidden = [row for row in rows if row not in visible]
            waiting, ended = sum(row.step is None for row in hidden), sum(bool(row.end_state) for row in hidden)
            counts = {"working": len(hidden) - waiting - ended, "between steps or done": ended, "waiting": waiting}
            text = ", ".join(f"{count} {label}" for label, count in counts.items() if count)
            parts.append(Text(f"… and {len(hidden)} more: {text}", style="dim"))
        return Constrain(Group(*parts), max(20, get_stderr_console().width - INTERRUPT_ECHO_WIDTH))

    def _render_header(self, rows: list[MachineProgress]) -> Text:
        parts = [self._title]
        if self._window is not None:
            parts.append(describe_time_left(self._window, datetime.now(UTC)))
        working = sum(row.is_working for row in rows)
        parts.append(f"{format_count(len(rows), 'machine')}, {working} working")
        return Text(", ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")


def build_display(machines: Iterable[str], window: Window | None, title: str) -> LiveDisplay | LineDisplay:
    """Return the display that fits stderr. It is a ProgressListener."""
    return LiveDisplay(machines, window, title) if get_stderr_console().is_terminal else LineDisplay(machines)


def describe_time_left(window: Window, now: datetime) -> str:
    """Return in words how much of a window is left."""
    if now < window.start:
        return f"the window opens in {format_known_duration((window.start - now).total_seconds())}"
    seconds = (window.end - now).total_seconds()
    return (
        f"{format_known_duration(seconds)} left"
        if seconds > 0
        else f"the window ended {format_known_duration(-seconds)} ago"
    )


def _describe_row(row: MachineProgress) -> str:
    """Return what a machine does, and for how long, if that is long."""
    if not row.is_working or row.waited_seconds < WAITING_SECONDS:
        return row.message
    return f"{format_known_duration(row.waited_seconds)}{f': {row.message}' if row.message else ''}"


def _describe_waiting(rows: Sequence[MachineProgress]) -> str:
    """Return which machines are waited for, in which step and for how long, the longest first."""
    texts = [
        f"{sanitize_to_one_line(row.machine)} ({row.step} for {format_known_duration(row.waited_seconds)}"
        f"{f': {sanitize_to_one_line(row.message)}' if row.message else ''})"
        for row in rows
    ]
    return ", ".join(shorten_list(texts, MAX_WAITING_NAMES))


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
        has_failed = row.end_state == OperationState.FAILED
        return Text("failed", style="bold red") if has_failed else Text("done", style="green")
    pulse = row.fraction is None or row.fraction == 0.0
    return ProgressBar(total=1.0, completed=row.fraction or 0.0, width=BAR_WIDTH, pulse=pulse, complete_style="cyan")
