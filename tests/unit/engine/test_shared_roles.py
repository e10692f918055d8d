"""Machines that share a role and are in no machine set are told in the plan and in the report of a run."""

from functools import partial

from tasks.domain.protocols.transport import Script, ScriptRecord
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet
from tests.support.sim_machine import SimMachine

ROLES = {"kind": "roles", "names": ["domain controller of corp.example.org"]}


def tell_roles(machine: SimMachine, _: Script) -> list[ScriptRecord]:
    return [*machine._facts(), ROLES]


def test_a_plan_tells_that_the_roles_of_a_windows_machine_were_not_read(fleet: SimFleet) -> None:
    machine = fleet.add("dc-1", [FakePackage("a")])
    fleet.add("web-1", [FakePackage("a")])
    facts = [{**record, **({"id": "windows"} if record["kind"] == "os" else {})} for record in machine._facts()]
    machine.answer("facts", lambda _: facts)
    (note,) = [note for note in fleet.patch(dry_run=True).notes if "machine set" in note]
    assert note.startswith("warning: the roles of dc-1 could not be read")


def test_a_plan_and_a_run_propose_a_set(fleet: SimFleet) -> None:
    for name in ("dc-1", "dc-2"):
        machine = fleet.add(name, [FakePackage("a")])
        machine.answer("facts", partial(tell_roles, machine))
    for report in (fleet.patch(dry_run=True), fleet.patch()):
        (note,) = [note for note in report.notes if "machine set" in note]
        assert '"name=dc-1|dc-2"' in note
