"""The real engine over one Windows machine of the tests: real scripts, its own PowerShell, and no WinRM between."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from flows.engine.fleet_run import FleetRun
from flows.engine.undo_orders import find_undo_order
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from inventory.machine import Inventory, Machine
from tasks.domain.model import Outcome, UpdateResult
from tasks.domain.protocols.transport import Transport
from tasks.domain.undo import UndoOrder
from tasks.machines.managers.registry import find_manager
from tasks.records.queries.history import History
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.scenario import Scenario
from tests.support.fake_leases import FakeLeases
from tests.support.fake_records import FakeHistory, FakeRecords
from tests.support.fleet import SimFleet, outcome_of
from tests.support.unused_ports import UNUSED_PORTS

NAME = "win-1"


class WindowsFleet:
    """One machine, and runs over it."""

    def __init__(self, warm: WarmMachine) -> None:
        self.warm = warm
        self.place = warm.make_place()
        self.records = FakeRecords()
        self._runs = 0

    @classmethod
    @contextmanager
    def opened(cls, scenario: Scenario) -> Iterator["WindowsFleet"]:
        """Switch the machine on."""
        with WarmMachine.opened(scenario) as warm:
            yield cls(warm)
            assert warm.windows.stand_in_errors() == [], "a script asked for what Windows does not have"

    def _connect(self, _: Machine) -> Transport:
        return self.warm.open_host(self.place)

    def _find_undo_order(self, run: str) -> UndoOrder:
        return find_undo_order(cast("History", FakeHistory(self.records)), run)

    def patch(self, *masks: str, minutes: float = 600, **fields: Any) -> Outcome:
        """Patch it with the updates that the masks name (all by default), and return its outcome."""
        self._runs += 1
        ports = Ports(
            inventory=Inventory((Machine(name=NAME, address="192.0.2.1"),)),
            clock=CLOCK,
            records=self.records,
            leases=FakeLeases(),
            connect=self._connect,
            find_manager=find_manager,
            listener=LoggingListener(),
            stop_token=StopToken(),
            find_undo_order=self._find_undo_order,
            **UNUSED_PORTS,
        )
        request = SimFleet().request(*masks, minutes=minutes, **fields)
        run = FleetRun(request, ports, LocalRunner(), run_id=f"20260310-01000{self._runs}-aaaaaa")
        return outcome_of(run.execute(), NAME)


def results(outcome: Outcome) -> dict[str, UpdateResult]:
    """Return the results by the names of updates."""
    return {result.update.name: result for result in outcome.updates}
