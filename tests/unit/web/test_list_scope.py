"""The scope of a list selects exactly the machines that the list shows, or there is none."""

from datetime import UTC, datetime

import pytest

from fleetpatch.machines.machine_list import MachineFilters
from fleetpatch.machines.scopes import MAX_SCOPE_LENGTH, build_list_scope, build_machine_scope
from inventory.machine import Inventory, Machine, PatchOwner
from inventory.scope import Scope
from tasks.records.machine_rows import Plans, build_machine_row
from tests.support.builders import make_machine

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def make_fleet(*machines: Machine) -> Inventory:
    return Inventory(machines)


FLEET = make_fleet(
    make_machine(name="web-1", environment="prod", location="a, b"),
    make_machine(name="web-2", environment="prod", location="fra"),
    make_machine(name="db-1", environment="stage", location="fra", owner=PatchOwner.MANUAL),
    make_machine(name="x-1", environment="", location="p*d"),
    make_machine(name="x-2", environment="prXd", location="pXd"),
)


def build(filters: MachineFilters, *names: str, fleet: Inventory = FLEET) -> str:
    chosen = [each for each in fleet.machines if each.name in names]
    rows = [build_machine_row(machine.name, machine, None, NOW, plans=Plans()) for machine in chosen]
    return build_list_scope(filters, rows, fleet)


ALL = tuple(each.name for each in FLEET.machines)


@pytest.mark.parametrize(
    ("filters", "names", "scope"),
    [
        (MachineFilters(), ALL, "*"),
        (MachineFilters(environment="prod"), ("web-1", "web-2"), "env=prod"),
        (MachineFilters(environment="prod", location="fra"), ("web-2",), "env=prod,location=fra"),
        (MachineFilters(environment="(none)"), ("x-1",), "!env=*"),
        (MachineFilters(owner="manual"), ("db-1",), "owner=manual"),
        (MachineFilters(scope="web-1 or x-1"), ("web-1", "x-1"), "web-1 or x-1"),
        (
            MachineFilters(scope="name=web-* or name=db-1", location="fra"),
            ("web-2", "db-1"),
            "name=web-*,location=fra or name=db-1,location=fra",
        ),
        # No term of a scope says this: the machines are named.
        (MachineFilters(q="web"), ("web-1", "web-2"), "name=web-1|web-2"),
        (MachineFilters(environment="prod", show="critical"), ("web-2",), "name=web-2"),
        # The text would mean something else in a scope.
        (MachineFilters(location="a, b"), ("web-1",), "name=web-1"),
        (MachineFilters(location="p*d"), ("x-1",), "name=x-1"),
        (MachineFilters(q="nobody"), (), ""),
        (MachineFilters(scope="env="), ("web-1",), "name=web-1"),
    ],
)
def test_the_scope_is_exact(filters: MachineFilters, names: tuple[str, ...], scope: str) -> None:
    assert build(filters, *names) == scope
    if scope:
        assert {each.name for each in Scope.parse(scope).select_machines(FLEET)} == set(names)


def test_a_list_that_no_short_scope_selects_has_none() -> None:
    fleet = make_fleet(*(make_machine(name=f"machine-{number:04}") for number in range(400)))
    names = [each.name for each in fleet.machines]

    assert build(MachineFilters(show="critical"), *names[:300], fleet=fleet) == ""
    few = build(MachineFilters(show="critical"), *names[:90], fleet=fleet)
    assert few.count("|") == 89
    assert len(few) <= MAX_SCOPE_LENGTH


def test_a_machine_has_a_scope_only_if_its_name_means_itself() -> None:
    fleet = make_fleet(make_machine(name="web-[1]"), make_machine(name="web-1"), make_machine(name="a,b"))

    assert build_machine_scope("web-1", fleet) == "name=web-1"
    assert build_machine_scope("web-[1]", fleet) == ""
    assert build_machine_scope("a,b", fleet) == ""
    assert build_machine_scope("web-1", None) == ""
