"""What other people do on a simulated machine while a run is at work on it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from tasks.domain.states import Step
from tasks.steps.context.run_control import LoggingListener
from tests.support.sim_machine import SimMachine


@dataclass
class At(LoggingListener):
    """Does something once, as a step begins."""

    step: Step
    then: Callable[[], None]
    steps: list[Step] = field(default_factory=list)

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """See Watcher."""
        if step is self.step and step not in self.steps:
            self.then()
        self.steps.append(step)


def works(machine: SimMachine, name: str, seconds: float, *, becomes: str = "", ends_broken: bool = False) -> None:
    """Let somebody change this package from now on, for so long."""
    now, shelf = machine.fake_clock.now(), machine.world.shelf
    machine.world.locks = (*machine.world.locks, (now, now + timedelta(seconds=seconds)))
    shelf[name].broken = True

    def done() -> None:
        shelf[name].installed = becomes or shelf[name].installed
        shelf[name].broken = ends_broken

    machine.at(seconds, done)
