"""What a run tells of its machines while it goes on."""

from tasks.domain.states import Step
from tasks.steps.context.run_control import LoggingListener


class ToldLines(LoggingListener):
    """Remembers the lines about machines.

    ``lines``: (machine, line), in their order. The end of a step is ``STEP ends: STATE``.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Remember it, unless it says nothing."""
        if message:
            self.lines.append((machine, message))

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        """Remember it."""
        self.lines.append((machine, f"{step} ends: {state}"))

    def of(self, machine: str) -> list[str]:
        """Return the lines about one machine."""
        return [line for name, line in self.lines if name == machine]
