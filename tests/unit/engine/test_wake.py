"""Machines that are off in their window: powered on, patched, and powered off again; or they stay on, and why."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import parse_recorded_request, read_resume_state
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest
from inventory.machine import MachineSet, WakeSettings
from tasks.domain.errors import TransportError
from tasks.domain.model import Hook, HookResult, Outcome, RunReport
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tasks.rules.runs.power import POWER_CHECK, POWER_OFF_ACT, POWER_ON_ACT
from tasks.steps.context.run_control import StopToken
from tests.support.fake_clock import START
from tests.support.fake_packages import FakePackage
from tests.support.fake_provider import FakeHypervisor
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls, mortal_machine, mortal_records
from tests.support.set_fleet import UP
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN

BOOT_SECONDS = 40.0


@dataclass
class PowerDesk:
    """Who gives machines their power: what the owner's commands and magic packets do.

    Attributes:
        orders: what was ordered for which machine, in order.
        works: whether a machine that is powered on comes up.
    """

    fleet: SimFleet
    orders: list[tuple[str, str]] = field(default_factory=list)
    packets: list[tuple[str, str, int]] = field(default_factory=list)
    works: bool = True
    fails: str = ""

    def call(self, hook: Hook, report: RunReport, subject: str, deadline: Deadline) -> HookResult:
        self.orders.append((hook.target, subject))
        now = self.fleet.clock.now()
        if self.fails:
            return HookResult(hook, subject, succeeded=False, message=self.fails, started_at=now, ended_at=now)
        if hook.target == "power on":
            self._on(self.fleet.machines[subject])
        elif hook.target == "power off":
            self.fleet.machines[subject].power.off()
        return HookResult(hook, subject, succeeded=True, message="", started_at=now, ended_at=now)

    def packet(self, mac: str, broadcast: str, port: int) -> None:
        self.packets.append((mac, broadcast, port))
        if self.fails:
            raise TransportError(self.fails)
        for machine in self.fleet.described:
            if machine.wake is not None and machine.wake.mac == mac:
                self._on(self.fleet.machines[machine.name])

    def _on(self, machine: SimMachine) -> None:
        if self.works:
            machine.power.on(BOOT_SECONDS)

    def ports(self) -> Ports:
        return replace(self.fleet.ports(), call_hook=self.call, send_magic_packet=self.packet)

    def patch(self, **fields: Any) -> RunReport:
        return FleetRun(self.fleet.request(**fields), self.ports(), LocalRunner(), run_id=RUN).execute()


@pytest.fixture
def desk(fleet: SimFleet) -> PowerDesk:
    return PowerDesk(fleet)


def add(fleet: SimFleet, name: str = "sleeper", *packages: FakePackage, **wake: Any) -> SimMachine:
    """Add a machine that is off and can be powered on."""
    settings = WakeSettings(**{"command": "power on", **wake})
    machine = fleet.add(name, list(packages or (FakePackage("a", seconds=20),)), wake=settings)
    machine.power.off()
    machine.power.changes.clear()
    return machine


def power_of(outcome: Outcome) -> str:
    """Return what the report says about the machine's power, or ""."""
    return "; ".join(finding.message for finding in outcome.findings if finding.check == POWER_CHECK)


def changes(machine: SimMachine) -> list[str]:
    return [what for _, what in machine.power.changes]


def test_a_machine_that_is_off_is_powered_on_patched_and_powered_off_again(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet)
    fleet.add("other", [FakePackage("a", seconds=20)])

    report = desk.patch()

    outcome = outcome_of(report, "sleeper")
    assert outcome.state is OperationState.SUCCEEDED
    assert result_of(outcome, "a").state is UpdateState.INSTALLED
    assert changes(sleeper) == ["on", "off"]
    assert desk.orders == [("power on", "sleeper")]
    told = power_of(outcome)
    assert told.startswith("powered on by this run: a login worked after 4")
    assert "; powered off again in " in told
    assert power_of(outcome_of(report, "other")) == ""
    assert report.run.state is OperationState.SUCCEEDED


def test_the_machine_is_rebooted_before_it_is_powered_off(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet, "sleeper", FakePackage("kernel", asks_reboot=True))
    outcome = outcome_of(desk.patch(), "sleeper")
    assert sleeper.boots.count == 1
    assert outcome.state is OperationState.SUCCEEDED
    assert changes(sleeper) == ["on", "off"]


def test_a_machine_whose_disks_somebody_has_taken_back_stays_off(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper, hypervisor = add(fleet), FakeHypervisor()
    hypervisor.add_machine("sleeper")
    hypervisor.taken_back.add("sleeper")
    fleet.described[:] = [replace(machine, provider="hv") for machine in fleet.described]
    ports = replace(desk.ports(), open_provider=hypervisor.open)
    report = FleetRun(fleet.request(), ports, LocalRunner(), run_id=RUN).execute()
    assert (changes(sleeper), desk.orders) == ([], [])
    assert "it was not powered on: " in (reason := outcome_of(report, "sleeper").reason)
    assert "somebody has taken back its disks" in reason


def test_a_magic_packet_goes_to_the_broadcast_address(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet, command="", mac="52:54:00:12:34:56", broadcast="192.0.2.255", port=7)
    desk.patch()
    assert desk.packets == [("52:54:00:12:34:56", "192.0.2.255", 7)]
    assert changes(sleeper) == ["on", "off"]


def test_the_owners_command_powers_it_off(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet, off_command="power off")
    outcome = outcome_of(desk.patch(), "sleeper")
    assert desk.orders == [("power on", "sleeper"), ("power off", "sleeper")]
    assert changes(sleeper) == ["on", "off"]
    assert "powered off again" in power_of(outcome)


def test_an_off_command_is_not_run_while_somebody_is_logged_in(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet, off_command="power off")
    sleeper.power.people = "anne (pts/0)"
    outcome = outcome_of(desk.patch(), "sleeper")
    assert changes(sleeper) == ["on"]
    assert "it stays on: somebody is logged in: anne (pts/0)" in power_of(outcome)
    assert outcome.state is OperationState.SUCCEEDED


@pytest.mark.parametrize(
    ("about", "state"),
    [
        ("machine_lock", OperationState.SUCCEEDED),
        ("people", OperationState.SUCCEEDED),
        ("inhibitor", OperationState.COMPLETED_WITH_WARNINGS),
    ],
)
def test_a_machine_that_others_need_stays_on_without_a_warning(
    fleet: SimFleet, desk: PowerDesk, monkeypatch: pytest.MonkeyPatch, about: str, state: OperationState
) -> None:
    sleeper = add(fleet)
    refusal = {"kind": "refused", "why": "run other (anne) has it", "about": about}
    monkeypatch.setattr(sleeper.power, "_refuse", lambda _run: refusal)
    outcome = outcome_of(desk.patch(), "sleeper")
    assert changes(sleeper) == ["on"]
    assert "it stays on: run other (anne) has it" in power_of(outcome)
    assert outcome.state is state


def test_a_machine_that_is_not_to_be_powered_off_stays_on(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet, off_again=False)
    outcome = outcome_of(desk.patch(), "sleeper")
    assert changes(sleeper) == ["on"]
    assert "it stays on, as its inventory entry says" in power_of(outcome)


@pytest.mark.parametrize("fields", [{"dry_run": True}, {"download_only": True}], ids=["dry run", "download only"])
def test_a_run_that_changes_nothing_powers_nothing_on(
    fleet: SimFleet, desk: PowerDesk, fields: dict[str, bool]
) -> None:
    sleeper = add(fleet)
    desk.patch(**fields)
    assert (desk.orders, changes(sleeper)) == ([], [])


def test_an_assessment_powers_nothing_on(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet)
    fleet.assess()
    assert changes(sleeper) == []


def test_nothing_is_powered_on_before_the_window_opens(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet)
    opens = START + timedelta(hours=2)
    outcome = outcome_of(desk.patch(start=opens), "sleeper")
    assert outcome.state is OperationState.SUCCEEDED
    assert sleeper.power.changes[0][0] >= opens


def test_a_machine_that_was_on_all_the_time_is_never_powered_off(fleet: SimFleet, desk: PowerDesk) -> None:
    """Its network failed for a while: what makes it answer again is not the order."""
    sleeper = fleet.add("sleeper", [FakePackage("a")], wake=WakeSettings(command="power on"))
    sleeper.cut(60)
    outcome = outcome_of(desk.patch(), "sleeper")
    assert desk.orders == [("power on", "sleeper")]
    assert outcome.state is OperationState.SUCCEEDED
    assert changes(sleeper) == []
    assert "asked to power on" in power_of(outcome)
    assert "it was on already, for 10 d, so it stays on" in power_of(outcome)


def test_a_machine_that_answers_is_not_touched(fleet: SimFleet, desk: PowerDesk) -> None:
    machine = fleet.add("m", [FakePackage("a")], wake=WakeSettings(command="power on", mac="52:54:00:12:34:56"))
    outcome = outcome_of(desk.patch(), "m")
    assert (desk.orders, desk.packets, changes(machine), power_of(outcome)) == ([], [], [], "")


def test_a_machine_that_does_not_come_up_is_unreachable_and_the_report_says_what_was_tried(
    fleet: SimFleet, desk: PowerDesk
) -> None:
    add(fleet, minutes=5, mac="52:54:00:12:34:56")
    desk.works = False
    began = fleet.clock.now()
    outcome = outcome_of(desk.patch(), "sleeper")
    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "Unreachable"
    assert "Wake-on-LAN was sent for 52:54:00:12:34:56 to 255.255.255.255:9" in outcome.reason
    assert "the wake command succeeded; no login worked in 5 min" in outcome.reason
    assert timedelta(minutes=5) <= fleet.clock.now() - began < timedelta(minutes=7)


def test_the_words_of_a_command_that_fails_are_kept(fleet: SimFleet, desk: PowerDesk) -> None:
    add(fleet, minutes=1, command="ipmitool -P secret-word power on")
    desk.fails = "exit code 1: no such host"
    outcome = outcome_of(desk.patch(), "sleeper")
    assert "the wake command failed: exit code 1: no such host" in outcome.reason
    assert "secret-word" not in str(fleet.records.read_entries(RUN)) + str(outcome)


def test_a_wake_never_lasts_past_the_time_at_which_the_machine_could_begin(fleet: SimFleet, desk: PowerDesk) -> None:
    add(fleet, minutes=300)
    desk.works = False
    began = fleet.clock.now()
    desk.patch(minutes=60, reboot_reserve_minutes=15)
    assert fleet.clock.now() - began < timedelta(minutes=46)


def test_nothing_is_powered_on_for_which_no_time_is_left(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet)
    outcome = outcome_of(desk.patch(minutes=15.5, reboot_reserve_minutes=15), "sleeper")
    assert changes(sleeper) == []
    assert "not powered on: no time was left" in outcome.reason


@pytest.mark.parametrize(
    ("package", "why"),
    [
        (FakePackage("a", fails="no"), "its turn ended as Failed"),
        (FakePackage("a", asks_reboot=True), "its reboot is Required"),
    ],
    ids=["a failure", "a reboot that is due"],
)
def test_a_machine_in_doubt_stays_on(fleet: SimFleet, desk: PowerDesk, package: FakePackage, why: str) -> None:
    sleeper = add(fleet, "sleeper", package)
    outcome = outcome_of(desk.patch(reboot="Never"), "sleeper")
    assert changes(sleeper) == ["on"]
    assert f"it stays on: {why}" in power_of(outcome)


@pytest.mark.parametrize("wake", [{}, {"off_command": "power off"}], ids=["by itself", "by a command"])
def test_what_prevents_a_shutdown_for_a_moment_is_waited_for(
    fleet: SimFleet, desk: PowerDesk, wake: dict[str, str]
) -> None:
    sleeper = add(fleet, **wake)
    sleeper.power.inhibited_until = START + timedelta(minutes=3)
    outcome = outcome_of(desk.patch(), "sleeper")
    assert changes(sleeper) == ["on", "off"]
    assert sleeper.power.changes[1][0] >= sleeper.power.inhibited_until
    assert outcome.state is OperationState.SUCCEEDED


def test_a_member_of_a_machine_set_stays_on(fleet: SimFleet, desk: PowerDesk) -> None:
    """Powered off, it would count as out of service, and the next member would never begin."""
    sleeper, other = add(fleet, "a-1"), fleet.add("a-2", [FakePackage("a")])
    sets = (MachineSet("a", "a-*", ("a-1", "a-2"), healthy=(UP,), healthy_seconds=120),)
    ports = desk.ports()
    ports = replace(ports, inventory=replace(ports.inventory, sets=sets))
    report = FleetRun(fleet.request(), ports, LocalRunner(), run_id=RUN).execute()
    assert [outcome.state for outcome in report.outcomes] == [OperationState.SUCCEEDED] * 2
    assert changes(sleeper) == ["on"]
    assert "it stays on: members of its set that are off" in power_of(outcome_of(report, "a-1"))
    assert other.begun()


def test_what_prevents_a_shutdown_for_long_keeps_it_on(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet)
    sleeper.power.inhibited_until = START + timedelta(hours=3)
    outcome = outcome_of(desk.patch(), "sleeper")
    assert changes(sleeper) == ["on"]
    assert "it stays on: systemd-inhibit" in power_of(outcome)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS


def test_a_machine_that_does_not_go_down_is_a_warning(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet)
    sleeper.power.goes_off = False
    outcome = outcome_of(desk.patch(), "sleeper")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    (finding,) = [each for each in outcome.findings if each.check == POWER_CHECK]
    assert finding.level is FindingLevel.WARN
    assert "still answers 600 s later" in finding.message
    off = next(n for n, call in enumerate(sleeper.calls) if call.script and call.script.params.get("work") == "off")
    assert sum(call.name == "facts" for call in sleeper.calls[off:]) < 80


def test_machines_that_can_be_powered_on_do_not_stop_the_run_as_unreachable(fleet: SimFleet, desk: PowerDesk) -> None:
    """More than half of the fleet does not answer, as at night. Without wake settings the run would not begin."""
    sleepers = [add(fleet, f"s{number}") for number in range(3)]
    fleet.add("on", [FakePackage("a")])
    report = desk.patch()
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}
    assert [changes(machine) for machine in sleepers] == [["on", "off"]] * 3


def test_machines_that_answer_do_not_wait_for_one_that_is_off(fleet: SimFleet, desk: PowerDesk) -> None:
    sleeper = add(fleet)
    other = fleet.add("other", [FakePackage("a", seconds=20)])
    desk.patch()
    assert other.begun()[0].at < sleeper.power.changes[0][0]


def _life_of_a_run(desk: PowerDesk, life: Life, request: PatchRequest | None = None) -> RunReport:
    ports = desk.ports()
    mortal = replace(
        ports,
        stop_token=StopToken(),
        records=mortal_records(ports.records, life),
        connect=lambda machine: mortal_machine(ports.connect(machine), life),
        call_hook=lambda *words: life.spend(desk.call, *words),
    )
    if request is not None:
        return FleetRun(request, mortal, LocalRunner(), run_id=RUN).execute()
    earlier = read_resume_state(FakeHistory(desk.fleet.records), RUN)  # type: ignore[arg-type]
    request = parse_recorded_request(earlier.run)
    return FleetRun(request, mortal, LocalRunner(), run_id=RUN, resume_state=earlier).execute()


def _scene() -> tuple[SimFleet, PowerDesk]:
    fleet = SimFleet()
    add(fleet, "sleeper", FakePackage("a", seconds=20), FakePackage("b", asks_reboot=True))
    return fleet, PowerDesk(fleet)


def _count_calls() -> int:
    fleet, desk = _scene()
    life = Life()
    _life_of_a_run(desk, life, fleet.request())
    return life.calls


@pytest.mark.parametrize("after_the_act", [False, True], ids=["before", "after"])
def test_a_run_killed_anywhere_and_resumed_powers_it_off_in_the_end(after_the_act: bool) -> None:
    last = _count_calls()
    for call in choose_calls(last - 1):
        fleet, desk = _scene()
        with pytest.raises(Killed):
            _life_of_a_run(desk, Life(dies_at=call, after_the_act=after_the_act), fleet.request())
        if fleet.records.runs.get(RUN) is None or fleet.records.runs[RUN].ended_at is not None:
            continue
        fleet.clock.advance(60)
        machine = fleet.machines["sleeper"]

        report = _life_of_a_run(desk, Life())

        outcome = outcome_of(report, "sleeper")
        assert outcome.state is OperationState.SUCCEEDED, (call, outcome.reason)
        assert machine.is_off, (call, machine.power.changes)
        assert changes(machine).count("off") == 1, (call, machine.power.changes)
        assert changes(machine)[0] == "on", call
        assert "powered on by this run" in power_of(outcome), call


def test_an_order_is_in_the_journal_before_it_is_given(fleet: SimFleet, desk: PowerDesk) -> None:
    add(fleet)
    noted: list[list[str]] = []
    plain: Callable[..., HookResult] = desk.call

    def look(*words: Any) -> HookResult:
        noted.append([entry.act for entry in fleet.records.read_entries(RUN, "sleeper")])
        return plain(*words)

    ports = replace(desk.ports(), call_hook=look)
    FleetRun(fleet.request(), ports, LocalRunner(), run_id=RUN).execute()
    assert noted
    assert noted[0][-1] == POWER_ON_ACT
    assert [entry.act for entry in fleet.records.read_entries(RUN, "sleeper")].count(POWER_OFF_ACT) == 2
