"""A run that is taken up has another attempt, and a machine is told by which one it is asked."""

import contextlib
from dataclasses import replace

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from tasks.domain.errors import AuthenticationFailed, ConnectionLost, FleetpatchError, ProtocolViolation, RecordsError
from tasks.domain.states import RebootState
from tasks.steps.context.run_control import StopToken
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN, begin, resume

HOLDER = f"{RUN}/web"


def named(machine: SimMachine) -> list[tuple[object, object]]:
    """By which run and attempt each job was ordered."""
    params = [job.script.params for job in machine.jobs()]
    return [(each["lock_run"], each["lock_attempt"]) for each in params]


def locks(machine: SimMachine) -> list[str]:
    """The attempts that asked for the lock or gave it back, in order."""
    return [str(call.script.params["attempt"]) for call in machine.calls if call.name == "machine_lock" and call.script]


def test_every_order_says_of_which_attempt_it_is(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])

    fleet.patch()

    assert named(web) == [(HOLDER, "1")] * 2
    assert locks(web) == ["1", "1"]


def test_who_takes_a_run_up_has_a_later_attempt(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    died = next(n for n in range(1, 99) if len(_left_by(n).jobs()) == 1)
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(), Life(dies_at=died, after_the_act=True))

    resume(fleet)

    assert named(web) == [(HOLDER, "1"), (HOLDER, "2")]
    assert locks(web) == ["1", "2"]
    assert [entry.act for entry in fleet.records.journal].count("attempt") == 2


def test_a_run_that_is_finalized_lets_the_machine_hear_of_it_before_it_looks(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    died = next(n for n in range(1, 99) if _announced(n))
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(), Life(dies_at=died, after_the_act=True))
    assert web.jobs() == []
    web.calls.clear()
    control = StopToken()
    control.request_stop("finalized")
    past = read_resume_state(FakeHistory(fleet.records), RUN)  # type: ignore[arg-type]  # the fake tells what the real one does

    FleetRun(
        parse_recorded_request(past.run),
        replace(fleet.ports(), stop_token=control),
        LocalRunner(),
        run_id=RUN,
        resume_state=past,
    ).execute()

    assert next(call.name for call in web.calls if call.verb == "look" or call.name == "machine_lock") == "machine_lock"
    assert "look" in [call.verb for call in web.calls]
    assert set(locks(web)) == {"2"}
    assert web.jobs() == []


def orders(machine: SimMachine) -> list[tuple[object, object]]:
    """By which run and attempt each reboot was ordered."""
    params = [call.script.params for call in machine.calls if call.name == "reboot" and call.script]
    return [(each["lock_run"], each["lock_attempt"]) for each in params]


def test_a_reboots_order_says_so_too(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.world.shelf.reboot_reasons.append("from before")

    fleet.patch(reboot_pending_first=True)

    assert orders(web) == [(HOLDER, "1")] * 2


@pytest.mark.parametrize("heard", [False, True])
def test_a_machine_hears_of_a_later_attempt_before_its_boot_is_believed(heard: bool) -> None:
    """The first one has died with the order given, or about to be; the second asks the machine who has it, first."""
    fleet, died = SimFleet(), 0
    while not _ordering(fleet) or bool(fleet.machines["web"].boots.orders) is not heard:
        died += 1
        fleet = _left(died, FakePackage("a", asks_reboot=True))
    web = fleet.machines["web"]
    web.boots.down_after = None if heard else 2.0
    web.trouble.clear()
    web.calls.clear()

    resume(fleet)

    asked = [call.name for call in web.calls if call.name in ("machine_lock", "reboot")]
    assert asked[:2] == ["machine_lock", "reboot"]
    assert locks(web)[0] == "2"
    assert orders(web) == [(HOLDER, "2")]


def _ordering(fleet: SimFleet) -> bool:
    return any(entry.act == "reboot" for entry in fleet.records.journal)


def test_a_boot_that_an_earlier_release_has_noted_is_no_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has noted the kernel's boot id alone, and died before the order was given."""
    fleet, died = SimFleet(), 0
    while not _ordering(fleet):
        died += 1
        fleet = _left(died, FakePackage("a", asks_reboot=True))
    web = fleet.machines["web"]
    assert web.boots.orders == []
    monkeypatch.setattr(SimMachine, "boot_id", property(lambda machine: f"boot-{machine._boot}.7"))
    noted = [replace(entry, key="boot-1") if entry.act == "reboot" else entry for entry in fleet.records.journal]
    fleet.records.journal[:] = noted

    report = resume(fleet)

    assert outcome_of(report, "web").reboot is RebootState.COMPLETED
    assert web.boots.count == 1


@pytest.mark.parametrize("error", [ConnectionLost("cut"), ProtocolViolation("cut"), AuthenticationFailed("no")])
def test_a_machine_on_its_way_down_hears_of_it_once_it_is_up_again(error: FleetpatchError) -> None:
    fleet, died = SimFleet(), 0
    while not _ordering(fleet):
        died += 1
        fleet = _left(died, FakePackage("a", asks_reboot=True))
    web = fleet.machines["web"]
    web.calls.clear()
    web.fail(error, on="machine_lock")

    report = resume(fleet)

    assert outcome_of(report, "web").reboot is RebootState.COMPLETED
    assert web.boots.count == 1
    assert locks(web)[:2] == ["2", "2"]


def test_a_reboot_that_the_machine_refuses_was_not_ordered_and_is_not_asked_for_again(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a", asks_reboot=True)])
    web.boots.refuses = f"run {RUN} was resumed: its attempt 2 has the lock, and this order is of attempt 1"

    outcome = outcome_of(fleet.patch(), "web")

    assert orders(web) == [(HOLDER, "1")]
    assert outcome.reboot_result is not None
    assert (outcome.reboot, outcome.reboot_result.count) == (RebootState.FAILED, 0)
    assert "was resumed" in outcome.reason
    assert web.boots.count == 0


def _left(dies_at: int, *packages: FakePackage) -> SimFleet:
    """A fleet of one whose controller has died at that call, once it was carried out."""
    fleet = SimFleet()
    fleet.add("web", packages or [FakePackage("a")])
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(), Life(dies_at=dies_at, after_the_act=True))
    return fleet


def _left_by(dies_at: int) -> SimMachine:
    return _left(dies_at).machines["web"]


def _announced(dies_at: int) -> bool:
    """Whether a controller that dies at that call has announced its first job, and not handed it over."""
    fleet = _left(dies_at)
    return not fleet.machines["web"].jobs() and any(entry.act == "stage" for entry in fleet.records.journal)


def test_nothing_is_locked_without_a_number(fleet: SimFleet) -> None:
    web = fleet.add("web", [FakePackage("a")])
    fleet.records.fail_append_at = 1

    with pytest.raises(RecordsError, match="told to fail"):
        fleet.patch()

    asked = [call.script.params for call in web.calls if call.name == "machine_lock" and call.script]
    assert all(params.get("release") for params in asked)
    assert web.jobs() == []
