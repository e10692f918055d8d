"""A machine whose first boot has not ended is neither patched nor rebooted: cloud-init must not be cut."""

from datetime import timedelta

from tasks.domain.protocols.transport import ScriptRecord
from tasks.domain.states import OperationState, RebootState, UpdateState
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.sim_machine import SimMachine

WORK = "cloud-init still sets this machine up: cloud-final.service"


def keep_booting(machine: SimMachine, seconds: float) -> None:
    """Let cloud-init need so many seconds from now."""
    until, facts = machine.fake_clock.now() + timedelta(seconds=seconds), machine._facts

    def tell() -> list[ScriptRecord]:
        is_over = machine.fake_clock.now() >= until
        return [
            {**each, "boot_work": "" if is_over else WORK} if each["kind"] == "kernel" else each for each in facts()
        ]

    machine.answer("facts", lambda _: tell())


def test_it_is_patched_once_its_boot_has_ended() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("openssl")])
    keep_booting(web, 600)
    booted = fleet.clock.now() + timedelta(seconds=600)
    outcome = outcome_of(fleet.patch(), "web")
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert min(each.at for each in web.begun()) >= booted


def test_it_is_left_alone_if_its_boot_does_not_end_in_the_window() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("openssl")])
    keep_booting(web, 7200)
    outcome = outcome_of(fleet.patch(minutes=60, reboot="Always"), "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.startswith(WORK)
    assert {each.state for each in outcome.updates} == {UpdateState.NOT_ATTEMPTED}
    assert (web.jobs(), web.boots.orders) == ([], [])
    assert outcome.reboot is not RebootState.COMPLETED
