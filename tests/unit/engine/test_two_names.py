"""One machine under two names of the inventory: it is patched once, and the second name ends with the reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetpatch.cli.runtime.exit_codes import ExitCode, to_run_exit_code
from inventory.machine import Machine
from tasks.domain.model import RunReport
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tasks.rules.machine_checks.precheck import build_instance_id
from tasks.steps.context.run_context import MachineInstances
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.sim_machine import SimMachine

SAME = "the same machine as {}, which this run has already"


def identify(machine: SimMachine, **ids: str) -> None:
    """Let a machine tell these ids, as facts.sh does."""

    facts = machine._facts
    machine.answer("facts", lambda _: [{**each, **ids} if each["kind"] == "kernel" else each for each in facts()])


def two_names(**ids: str) -> tuple[SimFleet, SimMachine]:
    """Return a fleet with one machine, "web", which the inventory has as "www" too."""
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("openssl"), FakePackage("kernel", requires_reboot=True)])
    identify(web, **{"installation": "c0ffee", "first_process": "12", **ids})
    fleet.machines["www"] = web
    fleet.described.append(Machine(name="www", address="192.0.2.2"))
    return fleet, web


def states(report: RunReport) -> dict[str, OperationState]:
    return {each.machine: each.state for each in report.outcomes}


def test_the_second_name_is_left_out_and_says_so() -> None:
    fleet, web = two_names()
    report = fleet.patch(reboot="Always")
    assert states(report) == {"web": OperationState.SUCCEEDED, "www": OperationState.NOT_STARTED}
    assert to_run_exit_code(report) is ExitCode.WARNINGS
    second = outcome_of(report, "www")
    assert SAME.format("web") in second.reason
    (finding,) = [each for each in second.findings if each.level is FindingLevel.BLOCK]
    assert finding.remedy == "Remove one of the two names from the inventory."
    assert {each.state for each in second.updates} == {UpdateState.PENDING}
    assert len(web.boots.orders) == 1


@pytest.mark.parametrize("unknown", ["installation", "first_process", "boot_id"])
def test_an_id_that_can_not_be_read_says_nothing_and_the_lock_keeps_the_second_name_away(unknown: str) -> None:
    fleet, web = two_names(**{unknown: ""})
    fleet.described = [each for each in fleet.described if each.name == "www"]  # a process of the run has the others
    until = fleet.clock.now().timestamp() + 3600
    web.locked_by, web.lock_holder = ("20260310-010000-aaaaaa", "me", until), "20260310-010000-aaaaaa/web"
    report = fleet.patch(reboot="Never")
    second = outcome_of(report, "www")
    assert second.state is OperationState.NOT_STARTED
    assert SAME.format("web") in second.reason
    assert web.installs() == []


def test_clones_and_containers_of_one_host_are_machines_of_their_own() -> None:
    fleet = SimFleet()
    for name, first_process in (("a", "12"), ("b", "12"), ("c", "345")):
        machine = fleet.add(name, [FakePackage("openssl")])
        boot = {"boot_id": "of the host"} if name != "a" else {}  # "a" is a clone, the others are containers
        identify(machine, installation="c0ffee", first_process=first_process, **boot)
    report = fleet.patch(reboot="Never")
    assert set(states(report).values()) == {OperationState.SUCCEEDED}


def test_a_dry_run_and_an_assessment_tell_it_too() -> None:
    fleet, _ = two_names()
    plan = outcome_of(fleet.patch(dry_run=True), "www")
    assert (plan.state, SAME.format("web") in plan.reason) == (OperationState.NOT_STARTED, True)
    told = outcome_of(fleet.assess(), "www")
    assert any(each.level is FindingLevel.WARN and SAME.format("web") in each.message for each in told.findings)


def test_a_machine_is_known_again_after_its_reboot() -> None:
    fleet, _ = two_names()
    report = fleet.patch(reboot="Always")
    instances = MachineInstances([(each.machine, each.facts) for each in report.outcomes])
    facts = outcome_of(report, "web").facts
    assert facts is not None
    assert instances.meet(facts, "www") == "web"
    assert instances.meet(facts, "web") == ""
    assert instances.meet(replace(facts, instance_id=""), "www") == ""


@given(parts=st.lists(st.lists(st.text(), min_size=3, max_size=3), min_size=2, max_size=2))
def test_ids_are_equal_only_if_every_part_is_known_and_equal(parts: list[list[str]]) -> None:
    one, other = (build_instance_id(*each) for each in parts)
    assert bool(one) == all(parts[0])
    if one and other and not any("\0" in part for each in parts for part in each):
        assert (one == other) == (parts[0] == parts[1])
