"""What a run needs from outside: clock, records, machines, and how its work is spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inventory.machine import Inventory, Machine
from tasks.model import Facts, Outcome, RunReport, Wave
from tasks.seams.clock import Clock
from tasks.seams.manager import PackageManager
from tasks.seams.records import Records
from tasks.seams.transport import Transport
from tasks.states import Step
from tasks.steps.context import Control, MachineRun, SilentWatcher, Watcher, Work
from tasks.steps.order import perform


class Runner(Protocol):
    """How the work of a run is spread: plainly, or as Prefect's flows and tasks."""

    def step(self, work: Work, step: Step) -> MachineRun:
        """Carry out one step of one machine."""
        ...

    def wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Carry out one wave: call ``body`` once and return what it returns."""
        ...

    def publish(self, report: RunReport) -> None:
        """Show a finished report where people of this runner look."""
        ...


class PlainRunner:
    """Everything in this process, without Prefect."""

    def step(self, work: Work, step: Step) -> MachineRun:
        """Call the step's function."""
        return perform(work, step)

    def wave(self, wave: Wave, body: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:  # noqa: ARG002 - the seam's
        """Call the body."""
        return body()

    def publish(self, report: RunReport) -> None:
        """Nothing to do: the caller has the report."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The way out of a run, the same for all its machines."""

    inventory: Inventory
    clock: Clock
    records: Records
    connect: Callable[[Machine], Transport]
    manager_for: Callable[[Facts], PackageManager]
    watch: Watcher = field(default_factory=SilentWatcher)
    control: Control = field(default_factory=Control)
    logs: Callable[[RunReport], dict[str, str]] = lambda report: {}  # noqa: ARG005 - no raw output is kept anywhere
