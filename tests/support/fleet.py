"""A simulated fleet for the real engine: machines made of fakes, on one clock that stands still until somebody waits.

fleet = SimFleet()
web = fleet.add("web", [FakePackage("openssl", classification=Classification.SECURITY)])
web.on_start("install", 5, lambda: web.cut(120))          # five seconds into the installation its network goes away
report = fleet.patch(minutes=240)
outcome = outcome_of(report, "web")

Machines that are worked on side by side push the one clock on together, so time passes faster for each of them: nothing
starts later than it could, and tests that look at exact moments take ``at_once=1``, which is the default here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from flows.ports.ports import Ports, Runner
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest, WindowRequest
from flows.request.read_requests import AssessRequest
from inventory.machine import Inventory, Machine
from inventory.resource_limits import ResourceLimits
from tasks.domain.errors import FleetpatchError
from tasks.domain.model import Outcome, RunReport, UpdateResult
from tasks.domain.protocols.transport import Transport
from tasks.machines.transport.own_site import require_own_site
from tasks.steps.context.run_control import LoggingListener, ProgressListener, StopToken
from tests.support.fake_clock import FakeClock
from tests.support.fake_leases import FakeLeases
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeRecords
from tests.support.fake_scheduled_events import FakeScheduledEvents
from tests.support.sim_machine import SimMachine
from tests.support.unused_ports import UNUSED_PORTS


@dataclass
class SimFleet:
    """Machines, and the ports of a run over them; ``refused`` are those whose transport can't even be made."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(datetime(2026, 3, 10, 1, 0, tzinfo=UTC)))
    records: FakeRecords = field(default_factory=FakeRecords)
    leases: FakeLeases = field(default_factory=FakeLeases)
    machines: dict[str, SimMachine] = field(default_factory=dict)
    described: list[Machine] = field(default_factory=list)
    refused: dict[str, FleetpatchError] = field(default_factory=dict)
    watch: ProgressListener = field(default_factory=LoggingListener)
    control: StopToken = field(default_factory=StopToken)
    manager: FakeManager = field(default_factory=FakeManager)
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    events: FakeScheduledEvents = field(init=False)

    def __post_init__(self) -> None:
        """Let events see the runs of these records, by the one clock."""
        self.events = FakeScheduledEvents(self.records, self.clock)

    def add(
        self, name: str, packages: Sequence[FakePackage], *, skew_seconds: float = 0.0, **described: Any
    ) -> SimMachine:
        """Add a machine; ``describe_schedule`` are fields of its inventory entry."""
        machine = SimMachine(self.clock, name, packages, skew_seconds)
        self.machines[name] = machine
        self.described.append(Machine(name=name, address="192.0.2.1", **described))
        return machine

    def teach(self, **measures: float) -> None:
        """Let the records know how fast the machines are (see Records.learned)."""
        for name in self.machines:
            for measure, value in measures.items():
                self.records.teach(name, measure, value, self.clock.now())

    def ports(self) -> Ports:
        """Return the way out of a run."""
        return Ports(
            inventory=Inventory(tuple(self.described), limits=self.limits),
            clock=self.clock,
            records=self.records,
            leases=self.leases,
            connect=self._connect,
            find_manager=lambda facts: self.manager,
            listener=self.watch,
            stop_token=self.control,
            events=self.events,
            **UNUSED_PORTS,
        )

    def _connect(self, machine: Machine) -> Transport:
        require_own_site(machine)
        if machine.name in self.refused:
            raise self.refused[machine.name]
        return self.machines[machine.name]

    def request(self, *masks: str, minutes: float = 240, start: datetime | None = None, **fields: Any) -> PatchRequest:
        """Return a request to patch everything (or what the masks name), one machine at a time in one wave."""
        waves = WavesRequest(**{"percent": 100, "at_once": 1, **fields.pop("waves", {})})
        updates = UpdatesRequest(classifications=[], include=list(masks or ("*",)), **fields.pop("updates", {}))
        window = WindowRequest(minutes=minutes, start=start)
        options: dict[str, Any] = {
            "assess_at_once": 1,
            "scope": "*",
            "settle_seconds": 0,
            "come_back_seconds": 10,
            **fields,
        }
        return PatchRequest(window=window, waves=waves, updates=updates, **options)

    def campaign(self, request: PatchRequest | AssessRequest, runner: Runner | None = None) -> FleetRun:
        """Return a run of the real engine over this fleet."""
        return FleetRun(request, self.ports(), runner or LocalRunner(), run_id="20260310-010000-aaaaaa")

    def patch(self, *masks: str, runner: Runner | None = None, **fields: Any) -> RunReport:
        """Patch it."""
        return self.campaign(self.request(*masks, **fields), runner).execute()

    def assess(self, **fields: Any) -> RunReport:
        """Assess it."""
        return self.campaign(AssessRequest(**{"scope": "*", "at_once": 1, **fields})).execute()


def outcome_of(report: RunReport, machine: str) -> Outcome:
    """Return a machine's one outcome."""
    (found,) = [outcome for outcome in report.outcomes if outcome.machine == machine]
    return found


def result_of(outcome: Outcome, update_id: str) -> UpdateResult:
    """Return the one result of an update."""
    (found,) = [result for result in outcome.updates if result.update.id == update_id]
    return found


def copies(packages: Sequence[FakePackage]) -> list[FakePackage]:
    """Return packages of one's own, since machines change them."""
    return [replace(package) for package in packages]
