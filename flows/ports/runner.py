"""The protocol of a runner: it runs steps and waves, and publishes the report."""

from collections.abc import Callable, Sequence
from typing import Protocol

from tasks.model import Outcome, RunReport, Wave
from tasks.states import Step
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.machine_state import MachineState


class Runner(Protocol):
    """How steps and waves are executed: as plain calls, or as Prefect's flows and tasks."""

    def run_step(self, context: MachineContext, step: Step) -> MachineState:
        """Run one step of one machine."""
        ...

    def run_wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Run one wave: call ``body`` once and return its result."""
        ...

    def publish(self, report: RunReport) -> None:
        """Publish a finished report."""
        ...
