"""A named fault on a Windows machine, and what such cases share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.faults.controllers import RUN, Broken
from tests.faults.lab_cases import GOOD
from tests.faults.windows_stage import BOOTS, PLAIN, SLOW, WindowsStage, scenario
from tests.lab.windows.patching import kb, result_of
from tests.lab.windows.scenario import Scenario


@dataclass(frozen=True, slots=True)
class WindowsCase:
    """What is played, and on which machine."""

    play: Callable[[WindowsStage], None]
    machine: Mapping[str, Any] = field(default_factory=dict)

    def scenario(self) -> Scenario:
        """Return what the machine is like."""
        return scenario("WIN", **self.machine)


def expect(stage: WindowsStage, *states: OperationState, run: str = RUN) -> None:
    """The run is over, truly reported, and its machine in one of these states."""
    stage.judge(run)
    outcome = stage.outcome(run)
    if outcome.state not in states:
        raise Broken(f"{outcome.state}: {outcome.reason}")


def all_is_done(stage: WindowsStage) -> None:
    """Every update was installed once, and the machine was rebooted once."""
    expect(stage, *GOOD)
    times = [stage.host.times(number) for number in (SLOW, PLAIN, BOOTS)]
    if times != [1, 1, 1] or stage.outcome().reboot is not RebootState.COMPLETED:
        raise Broken(f"installed {times} times, reboot {stage.outcome().reboot}: {stage.outcome().reason}")


def state_of(stage: WindowsStage, number: int, run: str = RUN) -> tuple[UpdateState, str]:
    """Return what the report says of an update, and why."""
    result = result_of(stage.outcome(run), number)
    return result.state, result.reason


def while_installing(on: WindowsStage, strike: Callable[[], object], number: int = SLOW, **fields: Any) -> None:
    """Patch, and let something happen while the update is being installed, which is let go on by what happens."""
    on.host.hold()

    def then() -> None:
        on.host.served.machine.wait_until(lambda state: state["activity"] is not None)
        strike()

    on.patch(at=f"installing {kb(number)}", then=then, **fields)


def nothing_is_installed(stage: WindowsStage) -> None:
    """No installation was begun on the machine."""
    if any(stage.host.installed().values()):
        raise Broken(f"something was installed: {stage.host.installed()}")
