"""A fleet for ticks of automatic patching: an inventory file, records, and a stand-in for Prefect."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.automatic.tick import TickResult, run_tick
from flows.ports.caller import Caller
from flows.request.automatic_request import AutomaticRequest
from flows.request.base import FormModel
from inventory.credentials import Credential, CredentialKind, Secret
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.model import Update
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.run_control import LoggingListener
from tests.support.builders import make_assessment, make_package_state
from tests.support.fake_clock import FakeClock

INVENTORY = """
defaults: {owner: managed}
machines:
  - {name: ber-1, address: 192.0.2.1, location: ber}
  - {name: ber-2, address: 192.0.2.2, location: ber}
  - {name: muc-1, address: 192.0.2.3, location: muc}
  - {name: own-1, address: 192.0.2.4, location: ber, owner: fleetpatch}
"""
NAMES = ("ber-1", "ber-2", "muc-1")


def _read_no_credential(reference: str) -> Credential:
    return Credential(CredentialKind.PASSWORD, secret=Secret(reference))


class Killed(BaseException):
    """The process dies here."""


@dataclass
class FakeStarter:
    """Prefect, which gives each key one flow run.

    Attributes:
        started: requests by key.
        ends: how flow runs ended, by id.
        is_down: whether it does not answer.
        refused: words in the keys of runs that it refuses.
    """

    started: dict[str, tuple[str, FormModel]] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    is_down: bool = False
    refused: str = "nothing"

    def start(self, deployment: str, key: str, name: str, request: FormModel) -> str:
        self._answer()
        if self.refused in key:
            raise RequestError("Prefect refuses it")
        self.started.setdefault(key, (deployment, request))
        return f"flow of {key}"

    def find(self, key: str) -> str:
        self._answer()
        return f"flow of {key}" if key in self.started else ""

    def describe_end(self, flow_run_id: str) -> str:
        self._answer()
        return self.ends.get(flow_run_id, "")

    def _answer(self) -> None:
        if self.is_down:
            raise PatchError("Prefect does not answer")


class Lines(LoggingListener):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, message: str) -> None:
        self.lines.append(message)


@dataclass
class AutomaticFleet:
    """A fleet of three managed machines in two locations.

    Attributes:
        url: the URL of the records.
        records: the same records, opened.
    """

    url: str
    records: SqlRecords
    folder: Path
    clock: FakeClock
    starter: FakeStarter = field(default_factory=FakeStarter)
    listener: Lines = field(default_factory=Lines)
    read_credential: Callable[[str], Credential] = field(default=_read_no_credential)

    def write_inventory(self, text: str = INVENTORY) -> Path:
        path = self.folder / "fleet.yaml"
        path.write_text(text)
        return path

    def assess(self, *updates: Update, names: tuple[str, ...] = NAMES, at: datetime | None = None) -> None:
        moment = at or self.clock.now()
        for name in names:
            state = make_package_state(updates=updates)
            self.records.save(make_assessment(machine=name, at=moment, run_id=f"a{moment:%d%H%M}", packages=state))

    def request(self, **fields: Any) -> AutomaticRequest:
        return AutomaticRequest(inventory=self.write_inventory(), **fields)

    def tick(self, request: AutomaticRequest | None = None) -> TickResult:
        caller = Caller(listener=self.listener, name="anne", records_url=self.url)
        return run_tick(request or self.request(), caller, self.starter, self.clock, self.read_credential)

    def begin(self, request: AutomaticRequest | None = None) -> TickResult:
        """Freeze a rollout in one tick, and start its first run in the next one."""
        self.tick(request)
        return self.tick(request)

    def started(self, deployment: str) -> list[Any]:
        return [request for name, request in self.starter.started.values() if name == deployment]
