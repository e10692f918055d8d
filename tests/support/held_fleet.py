"""A fleet whose updates are held: files, records, and a stand-in for Prefect."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from deployments.configuration.loader import load_configurations
from deployments.configuration.model import load_inventories
from deployments.maintenance.groups import HoldGroups, build_groups
from deployments.maintenance.tick import run_tick
from flows.ports.caller import Caller
from flows.request.patch_request import PatchRequest
from inventory.credentials import Credential, CredentialKind, Secret
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.model import Update
from tasks.domain.states import OperationState
from tasks.records.maintenance import GroupRecord, SqlMaintenance
from tasks.records.sql_records import SqlRecords
from tasks.rules.maintenance.model import Application
from tests.support.automatic_fleet import Lines
from tests.support.builders import make_assessment, make_outcome, make_package_state, make_run
from tests.support.fake_clock import FakeClock

INVENTORY = """
machines:
  - {name: web-1, address: 192.0.2.1, environment: prod}
  - {name: web-2, address: 192.0.2.2, environment: prod}
  - {name: os-1, address: 192.0.2.3, environment: prod, owner: os}
"""
CONFIGURATION = """
name: web
scope: env=prod
updates: {classifications: [Critical, Security, Other]}
window: {start: 2026-03-01 22:00, length: 2h, zone: UTC, recurrence: Week Sunday}
maintenance: {hold: 35 days}
notify: [{to: "env:NOBODY", on: [failed, waiting]}]
"""


def _read_no_credential(reference: str) -> Credential:
    return Credential(CredentialKind.PASSWORD, secret=Secret(reference))


@dataclass
class FakeApplyStarter:
    """Prefect, which gives each key one flow run.

    Attributes:
        started: groups and requests by key.
        ends: how flow runs ended, by id.
        refuses: whether it refuses each run.
        dies: whether this process dies as soon as Prefect has started a run.
    """

    started: dict[str, tuple[str, PatchRequest]] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    is_down: bool = False
    refuses: bool = False
    dies: bool = False

    def start(self, group: str, key: str, request: PatchRequest) -> str:
        if self.is_down:
            raise PatchError("Prefect does not answer")
        if self.refuses:
            raise RequestError("Prefect refuses it")
        self.started.setdefault(key, (group, request))
        if self.dies:
            raise KeyboardInterrupt
        return f"flow of {key}"

    def describe_end(self, flow_run_id: str) -> str:
        return self.ends.get(flow_run_id, "")


@dataclass
class HeldFleet:
    """Two machines whose updates are held, and one that its own system patches.

    Attributes:
        url: the URL of the records.
        records: the same records, opened.
    """

    url: str
    records: SqlRecords
    folder: Path
    clock: FakeClock
    starter: FakeApplyStarter = field(default_factory=FakeApplyStarter)
    listener: Lines = field(default_factory=Lines)
    configuration: str = CONFIGURATION
    inventory: str = INVENTORY

    @property
    def store(self) -> SqlMaintenance:
        """What the records have of maintenance control."""
        return SqlMaintenance(self.records.database)

    def load_groups(self) -> HoldGroups:
        """Write the files and read them."""
        inventory = self.folder / "fleet.yaml"
        inventory.write_text(self.inventory)
        folder = self.folder / "configurations"
        folder.mkdir(exist_ok=True)
        (folder / "web.yaml").write_text(f"{self.configuration}\ninventory: {inventory}\n")
        configurations = load_configurations(folder, self.clock.now().date())
        return build_groups(configurations, load_inventories(configurations))

    def tick(self) -> tuple[str, ...]:
        """Look at all groups."""
        caller = Caller(listener=self.listener, name="anne", records_url=self.url)
        return run_tick(self.load_groups(), caller, self.starter, self.clock, _read_no_credential)

    def assess(self, *updates: Update, names: tuple[str, ...] = ("web-1", "web-2"), at: datetime | None = None) -> None:
        """Let machines answer that they lack these updates."""
        moment = at or self.clock.now()
        for name in names:
            state = make_package_state(updates=updates)
            self.records.save(make_assessment(machine=name, at=moment, run_id=f"a{moment:%m%d%H%M%S}", packages=state))

    def finish_run(self, run_id: str, flow_run_id: str = "", *failed: str, state: OperationState | None = None) -> None:
        """Let a run end that has installed everything, apart from machines that failed."""
        now = self.clock.now()
        ended = state or (OperationState.FAILED if failed else OperationState.SUCCEEDED)
        result = OperationState.SUCCEEDED if failed else ended
        self.records.save(make_run(id=run_id, flow_run_id=flow_run_id, started_at=now, ended_at=now, state=ended))
        for name in ("web-1", "web-2"):
            outcome = OperationState.FAILED if name in failed else result
            if outcome is OperationState.SUCCEEDED:
                self.assess(names=(name,))  # as the validation does
            self.records.save(make_outcome(run_id=run_id, machine=name, state=outcome, started_at=now, ended_at=now))

    @property
    def group(self) -> GroupRecord:
        """What is remembered of the group."""
        return self.store.read_groups()["web"]

    @property
    def applications(self) -> tuple[Application, ...]:
        """Those of the package that is held."""
        return self.group.state.applications
