"""A simulated fleet with a component, and runs of the real engine that upgrade it."""

from dataclasses import replace
from typing import Any

from flows.engine.fleet_run import FleetRun
from flows.local_run import LocalRunner
from flows.ports.ports import Ports, WithdrawalFinder
from flows.request.patch_request import PatchRequest, WavesRequest, WindowRequest
from tasks.domain.components import Component, ComponentOrder, ComponentTry
from tasks.domain.model import RunReport
from tests.support.components import make_component
from tests.support.fake_components import PROBE, FakeComponents
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

RUN = "20260310-010000-aaaaaa"
EXPORTER = make_component("exporter", "1.0.0", "1.1.0", soak_seconds=20.0, canary_pause_seconds=20.0)
UPDATE = EXPORTER.update_id


class ComponentFleet:
    """Six machines at two locations, all with version 1.0.0 of the exporter. Two are at the canary location."""

    def __init__(self, count: int = 6, component: Component = EXPORTER, canaries: int = 2) -> None:
        self.fleet, self.component = SimFleet(), component
        self.tries: tuple[ComponentTry, ...] = ()
        self.held_back: dict[str, str] = {}
        self.find_withdrawal: WithdrawalFinder = lambda _name, _version: ""
        self.on: dict[str, FakeComponents] = {}
        for number in range(1, count + 1):
            location = "test" if number > count - canaries else "berlin"  # the canaries are last in the inventory
            machine = self.fleet.add(f"m{number}", [FakePackage("tzdata")], location=location, probes=(PROBE,))
            self.on[f"m{number}"] = FakeComponents(machine, {"exporter": "1.0.0"})

    @property
    def versions(self) -> dict[str, str | None]:
        return {name: components.versions["exporter"] for name, components in self.on.items()}

    def ports(self) -> Ports:
        def find(name: str, wanted: str) -> ComponentOrder:
            assert name == self.component.name
            return ComponentOrder(self.component, wanted, self.tries, self.held_back)

        return replace(
            self.fleet.ports(),
            list_components=lambda _machine: (self.component,),
            find_component_order=find,
            find_withdrawal=self.find_withdrawal,
        )

    def request(self, **fields: Any) -> PatchRequest:
        waves = WavesRequest(percent=20, round_down=True, first_locations=["test"], at_once=1)
        options: dict[str, Any] = {
            "window": WindowRequest(minutes=240),
            "waves": waves,
            "reboot": "Never",
            "settle_seconds": 0,
            "come_back_seconds": 0,
            "assess_at_once": 1,
            **fields,
        }
        return PatchRequest(scope="*", component="exporter", **options)

    def upgrade(self, **fields: Any) -> RunReport:
        return FleetRun(self.request(**fields), self.ports(), LocalRunner(), run_id=RUN).execute()
