"""What a run says of its machines."""

import pytest

from flows.engine.run_info import count_machines, describe_machines
from flows.request import AssessRequest, PatchRequest
from inventory.scope import Scope
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet


@pytest.mark.parametrize("kind", [PatchRequest, AssessRequest])
def test_a_run_of_named_machines_names_them(kind: type[PatchRequest | AssessRequest]) -> None:
    assert describe_machines(kind(scope="*")) == "*"
    assert describe_machines(kind(scope="env=prod", only_machines=["web-1", "web-2"])) == "name=web-1|web-2"
    many = kind(scope="env=prod", only_machines=[f"machine-{number}" for number in range(2000)])
    assert describe_machines(many) == "2\u202f000 machines of env=prod"


def test_the_scope_that_is_recorded_selects_what_the_run_selected(fleet: SimFleet) -> None:
    for name in ("web-1", "web-2", "db"):
        fleet.add(name, [FakePackage("a")])
    report = fleet.patch(only_machines=["web-1", "db"])
    assert {outcome.machine for outcome in report.outcomes} == {"web-1", "db"}
    selected = Scope.parse(report.run.scope).select_machines(fleet.ports().inventory)
    assert {machine.name for machine in selected} == {"web-1", "db"}


def test_a_shard_counts_with_the_machines_of_the_whole_run(fleet: SimFleet) -> None:
    for name in ("web-1", "web-2", "db"):
        fleet.add(name, [FakePackage("a")])
    inventory = fleet.ports().inventory
    assert count_machines(PatchRequest(scope="web-1|web-2", only_machines=["web-1"]), inventory) == 1
    assert count_machines(PatchRequest(scope="web-1|web-2", only_machines=["web-1"], shard="run-1"), inventory) == 2
