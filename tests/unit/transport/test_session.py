"""Sessions: what is asked again, what never is, and for how long."""

import pytest

from inventory.machine import Inventory, Machine, TransportKind
from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    InventoryError,
    PrivilegeError,
    ProtocolViolation,
    Unreachable,
)
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, Script
from tasks.machines.transport.session import MAX_ATTEMPTS, Session
from tasks.machines.transport.ssh.jump_hosts import find_route
from tests.contract.transport_subjects import fake_machine
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport

GREET = Script("greet", {"name": "x"})


class Setup:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.machine = fake_machine(self.clock)
        self.opening: list[Exception] = []
        self.opened = 0
        self.session = Session(self._open, machine="m", clock=self.clock)

    def _open(self, deadline: Deadline) -> FakeTransport:
        self.opened += 1
        if self.opening:
            raise self.opening.pop(0)
        return self.machine.connect()

    def soon(self, seconds: float = 60.0) -> Deadline:
        return Deadline.after(self.clock, seconds)


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_nothing_is_opened_before_the_first_call(setup):
    assert setup.opened == 0
    setup.session.run_script(GREET, deadline=setup.soon())
    setup.session.run_script(GREET, deadline=setup.soon())
    assert setup.opened == 1


def test_what_only_reads_is_asked_again_with_growing_waits(setup):
    for _ in range(MAX_ATTEMPTS - 1):
        setup.machine.fail(ConnectionLost("cut"))
    assert setup.session.run_script(GREET, deadline=setup.soon()).exit_code == 7
    assert len(setup.clock.sleeps) == MAX_ATTEMPTS - 1
    assert 1 <= setup.clock.sleeps[0] <= 2 <= setup.clock.sleeps[1] <= 3


def test_it_gives_up_after_three_times(setup):
    for _ in range(MAX_ATTEMPTS):
        setup.machine.fail(ConnectionLost("cut"))
    with pytest.raises(ConnectionLost) as caught:
        setup.session.run_script(GREET, deadline=setup.soon())
    assert len(setup.machine.calls) == MAX_ATTEMPTS
    assert caught.value.machine in {"m", "subject"}


def test_no_wait_goes_past_the_deadline(setup):
    setup.machine.fail(ConnectionLost("cut"))
    with pytest.raises(ConnectionLost):
        setup.session.run_script(GREET, deadline=setup.soon(0.5))
    assert setup.clock.sleeps == []


def test_what_changes_something_is_sent_once(setup):
    setup.machine.fail(ConnectionLost("cut"), after_the_act=True)
    with pytest.raises(ConnectionLost):
        setup.session.run_script(Script("greet", {"name": "x"}, read_only=False), deadline=setup.soon())
    assert len(setup.machine.calls) == 1


def test_a_job_whose_reply_was_lost_is_attached_to_not_started_again(setup):
    setup.machine.fail(ConnectionLost("cut"), on="start", after_the_act=True)
    view = setup.session.start_job(Job("j", Script("work")), deadline=setup.soon())
    assert view.attached
    assert [call.verb for call in setup.machine.calls] == ["start", "start"]


def test_a_look_without_an_answer_is_a_lost_line(setup):
    setup.session.start_job(Job("j", Script("work")), deadline=setup.soon())
    for _ in range(MAX_ATTEMPTS):
        setup.machine.fail(DeadlineExceeded("silence"), on="look")
    with pytest.raises(ConnectionLost) as caught:
        setup.session.poll_job("j", deadline=setup.soon())
    assert caught.value.transient


@pytest.mark.parametrize(
    "kind", [AuthenticationFailed, HostKeyMismatch, PrivilegeError, ProtocolViolation, Unreachable]
)
def test_what_another_try_cannot_mend_is_raised_at_once(setup, kind):
    setup.opening = [kind("no")]
    with pytest.raises(kind) as caught:
        setup.session.run_script(GREET, deadline=setup.soon())
    assert setup.opened == 1
    assert setup.clock.sleeps == []
    assert caught.value.machine == "m"


def machine(name: str, *jump: str, transport: TransportKind = TransportKind.SSH) -> Machine:
    return Machine(name, f"{name}.example", jump=jump, transport=transport)


def test_routes_are_followed_to_the_controller():
    fleet = Inventory((machine("a"), machine("b", "a"), machine("c", "b"), machine("d", "a", "b"), machine("e", "c")))
    assert [hop.name for hop in find_route(fleet.find_machine("e"), fleet)] == ["a", "b", "c"]
    assert [hop.name for hop in find_route(fleet.find_machine("d"), fleet)] == ["a", "b"]
    assert find_route(fleet.find_machine("a"), fleet) == ()


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        ((machine("m", "m"),), "circle: m → m"),
        ((machine("m", "a"), machine("a", "b"), machine("b", "m")), "circle: m → a → b → m"),
        ((machine("m", "a", "a"), machine("a")), "circle"),
        ((machine("m", "gone"),), "'gone' is not in the inventory"),
        ((machine("m", "w"), machine("w", transport=TransportKind.WINRM)), "not reached by SSH"),
    ],
)
def test_routes_that_lead_nowhere_are_inventory_errors(fleet, why):
    with pytest.raises(InventoryError, match=why) as caught:
        find_route(fleet[0], Inventory(fleet))
    assert caught.value.machine == "m"


def test_who_closes_a_session_forgets_how_it_became_root_and_a_lost_line_does_not(setup):
    forgotten: list[bool] = []
    session = Session(setup._open, machine="m", clock=setup.clock, forget_privilege=lambda: forgotten.append(True))
    setup.machine.fail(ConnectionLost("cut"))
    session.run_script(GREET, deadline=setup.soon())
    assert (setup.opened, forgotten) == (2, [])
    session.close()
    session.run_script(GREET, deadline=setup.soon())
    assert (setup.opened, forgotten) == (3, [True])
