"""Rehearsals on copies of machines: what is done on them, what that means for the machines, and that no copy stays."""

import re
from dataclasses import replace
from typing import Any

import pytest

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import read_resume_state
from flows.local_run import LocalRunner
from flows.ports.ports import GateDecision, Ports
from inventory.machine import Check, CheckKind, Machine, MachineSet
from tasks.domain.model import RunReport
from tasks.domain.protocols.transport import Transport
from tasks.domain.provided_machines import Overlay, PowerState, ProviderAct, ProviderOrder
from tasks.domain.states import Classification, OperationState, UpdateState
from tasks.steps.context.run_control import StopToken
from tasks.steps.machine.machine_lock import ATTEMPT_ACT
from tests.support.fake_packages import FakePackage
from tests.support.fake_provider import FakeHypervisor, ProviderFault
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet, copies, outcome_of, result_of
from tests.support.mortal import Killed, Life, Mortal, choose_calls, mortal_machine, mortal_records
from tests.support.others import works
from tests.support.sim_machine import SimMachine
from tests.support.told_lines import ToldLines

RUN = "20260310-010000-aaaaaa"


def packages(**fields: Any) -> list[FakePackage]:
    security = Classification.SECURITY
    return [
        FakePackage("openssl", classification=security, **fields),
        FakePackage("kernel", classification=security, asks_reboot=True),
    ]


class RehearsedFleet:
    """Machines on a hypervisor that makes copies of them. What is broken is broken on the copy and on the machine."""

    def __init__(self, *names: str, sets: tuple[MachineSet, ...] = ()) -> None:
        self.fleet, self.sets = SimFleet(), sets
        self.hypervisor = FakeHypervisor(self.fleet.clock)
        self.hypervisor.apply = self._follow
        self.copies: dict[str, SimMachine] = {}
        self.copied: list[str] = []
        self.most_copies = 0
        self.reached: list[Machine] = []
        self.spoil: dict[str, dict[str, Any]] = {}
        self.life = Life()
        self.gate_saw: list[RunReport] = []
        for name in names:
            self.add(name)

    def add(self, name: str, *, provider: str = "lab", **fields: Any) -> SimMachine:
        if provider:
            self.hypervisor.add_machine(name)
        return self.fleet.add(name, packages(), provider=provider, **fields)

    def ports(self) -> Ports:
        ports = self.fleet.ports()
        return replace(
            ports,
            inventory=replace(ports.inventory, sets=self.sets),
            connect=self._connect,
            open_provider=self._open_provider,
            records=mortal_records(self.fleet.records, self.life),
            gate=self._gate,
        )

    def run(self, resumed: bool = False, **fields: Any) -> RunReport:
        self.fleet.control = StopToken()
        state = read_resume_state(FakeHistory(self.fleet.records), RUN) if resumed else None  # type: ignore[arg-type]
        request = self.fleet.request(**{"rehearse": True, **fields})
        return FleetRun(request, self.ports(), LocalRunner(), run_id=RUN, resume_state=state).execute()

    def jobs(self, name: str) -> int:
        return len(self.fleet.machines[name].jobs())

    def _connect(self, machine: Machine) -> Transport:
        self.reached.append(machine)
        is_copy = machine.host_keys_of is not None
        target = self.copies[machine.name] if is_copy else self.fleet.machines[machine.name]
        return mortal_machine(target, self.life)  # type: ignore[no-any-return]

    def _open_provider(self, machine: Machine) -> Any:
        provider = self.hypervisor.open(machine)
        return provider and Mortal(provider, self.life, frozenset({"carry_out", "read_machine"}))

    def _gate(self, report: RunReport, _token: StopToken) -> GateDecision:
        self.gate_saw.append(report)
        return GateDecision()

    def _follow(self, name: str, order: ProviderOrder) -> None:
        if order.act is ProviderAct.DELETE_OVERLAY:
            self.copies.pop(name).is_off = True
        elif order.act is ProviderAct.START_OVERLAY:
            machine = self.fleet.machines[name]
            copy = SimMachine(self.fleet.clock, name, copies(machine.world.packages))
            for package in copy.world.packages:
                for key, value in self.spoil.get(package.id, {}).items():
                    setattr(package, key, value)
            copy.cut(25)  # it boots
            self.copies[name] = copy
            self.copied.append(name)
            self.most_copies = max(self.most_copies, len(self.copies))


def test_each_line_is_of_what_is_done_on_the_copy_now() -> None:
    fleet = RehearsedFleet("web")
    told = fleet.fleet.watch = ToldLines()
    fleet.hypervisor.faults[ProviderAct.START_OVERLAY] = [ProviderFault.AWAY_BEFORE]
    fleet.run()
    span = r": since [\d:]+ UTC, until [\d:]+ UTC at most"
    wanted = [
        "assess ends: Succeeded",
        f"its provider starts a copy of it{span}",
        rf"its provider: no answer since .*; it is asked until .*; before: its provider starts a copy of it{span}",
        rf"rehearsal on its copy: assess: it boots, or can't be assessed yet \(.*\){span}",
        "rehearsal on its copy: install: .*",
        "rehearsal on its copy: reboot: coming up: .*",
        f"its provider deletes its copy{span}",
        "assess ends: Succeeded",
        "precheck ends: Succeeded",
    ]
    lines = iter(told.of("web"))
    for pattern in wanted:
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, told.of("web"))


def machine_set(*names: str) -> MachineSet:
    healthy = Check("app", CheckKind.COMMAND, "true")
    return MachineSet("web", "*", names, max_unavailable=1, healthy=(healthy,))


def test_a_rehearsal_that_passes_gives_its_minutes_to_the_plan_before_it_is_approved() -> None:
    fleet = RehearsedFleet("web-1")
    report = fleet.run()
    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.SUCCEEDED
    assert (fleet.copied, fleet.copies) == (["web-1"], {})
    (plan,) = fleet.gate_saw[0].plans
    assert plan.prediction.basis == "rehearsed"
    assert outcome.install is not None
    assert outcome.reboot_result is not None
    seconds = [
        (one.ended_at - one.started_at).total_seconds()
        for one in outcome.install.transactions
        if one.ended_at and one.started_at
    ]
    assert plan.prediction.install == pytest.approx(sum(seconds), rel=0.3)
    assert plan.prediction.reboot == pytest.approx(
        (outcome.reboot_result.down_seconds or 0) + (outcome.reboot_result.up_seconds or 0), rel=0.3
    )
    (note,) = [note for note in report.notes if note.startswith("rehearsal")]
    assert note.startswith("rehearsal on a copy of web-1: passed; 2 updates in ")
    assert "1 reboot" in note
    assert "it could reach mirror.lan:80 10.0.0.5" in note
    assert any(note in seen.notes for seen in fleet.gate_saw)


def test_a_copy_is_reached_through_its_host_with_the_keys_of_its_original() -> None:
    fleet = RehearsedFleet("web-1")
    fleet.run()
    (copy,) = {machine.address: machine for machine in fleet.reached if machine.host_keys_of}.values()
    assert (copy.address, copy.port, copy.jump) == ("127.0.0.1", 2222, ("hypervisor",))
    assert copy.host_keys_of == ("192.0.2.1", 22)
    assert copy.credential == fleet.fleet.described[0].credential


def test_a_bad_update_is_found_on_the_copy_and_the_machine_is_not_touched() -> None:
    fleet = RehearsedFleet("web-1")
    fleet.spoil["openssl"] = {"fails": "it is bad"}
    machine = fleet.fleet.machines["web-1"]
    before = (machine.boot_id, machine.world.whole())
    report = fleet.run()
    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.NOT_STARTED
    assert outcome.reason.startswith("the rehearsal on a copy of web-1 failed: ")
    assert (machine.boot_id, machine.world.whole(), fleet.jobs("web-1")) == (*before, 0)
    assert machine.locked_by is None
    assert fleet.copies == {}
    assert {result.state for result in outcome.updates} == {UpdateState.NOT_ATTEMPTED}


def test_a_probe_that_fails_on_the_copy_keeps_the_machine_away() -> None:
    fleet = RehearsedFleet()
    check = Check("app", CheckKind.COMMAND, "true")
    fleet.add("web-1", probes=(check, Check("outside", CheckKind.TCP, "443")))
    usual = fleet._follow

    def follow(name: str, order: ProviderOrder) -> None:
        usual(name, order)
        if order.act is ProviderAct.START_OVERLAY:
            copy = fleet.copies[name]
            copy.on_start("install", 1, lambda: copy.answer("probe", {"kind": "probe", "exit_code": 1, "text": "none"}))

    fleet.hypervisor.apply = follow
    report = fleet.run()
    outcome = outcome_of(report, "web-1")
    assert outcome.state is OperationState.NOT_STARTED
    assert "app" in outcome.reason
    assert any("checks from the controller were left out: outside" in note for note in report.notes)


def test_one_member_stands_for_its_set_and_others_for_themselves() -> None:
    names = ("web-1", "web-2", "web-3", "db-1")
    fleet = RehearsedFleet(*names, sets=(machine_set("web-1", "web-2", "web-3"),))
    report = fleet.run()
    assert sorted(fleet.copied) == ["db-1", "web-1"]
    bases = {plan.machine: plan.prediction.basis for plan in fleet.gate_saw[0].plans}
    assert (bases["web-1"], bases["db-1"]) == ("rehearsed", "rehearsed")
    assert bases["web-2"] == bases["web-3"] != "rehearsed", "a copy of another machine makes none faster"
    assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}


@pytest.mark.parametrize(("minutes", "state"), [(50, UpdateState.NOT_ATTEMPTED), (120, UpdateState.INSTALLED)])
def test_a_member_with_slow_reboots_keeps_their_time_though_the_copy_was_fast(minutes: int, state: UpdateState) -> None:
    fleet = RehearsedFleet("web-1", sets=(machine_set("web-1", "big-2"),))
    fleet.add("big-2", provider="")
    # half as long again is kept for a reboot: 45 minutes
    fleet.fleet.records.teach("big-2", "reboot_seconds", 1800.0, fleet.fleet.clock.now())
    report = fleet.run(minutes=minutes)
    assert fleet.copied == ["web-1"]
    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED
    kernel = result_of(outcome_of(report, "big-2"), "kernel")
    assert (kernel.state, "45 min kept for a reboot" in kernel.reason) == (state, state is UpdateState.NOT_ATTEMPTED)


def test_a_set_does_not_begin_when_its_rehearsal_failed_and_others_do() -> None:
    fleet = RehearsedFleet("web-1", "web-2", "db-1", sets=(machine_set("web-1", "web-2"),))
    fleet.spoil["openssl"] = {"fails": "Could not resolve 'cdn.example.org'"}
    db = fleet.fleet.machines["db-1"].world
    db.packages[:] = [package for package in db.packages if package.id != "openssl"]
    report = fleet.run()
    states = {outcome.machine: outcome.state for outcome in report.outcomes}
    assert states == {
        "web-1": OperationState.NOT_STARTED,
        "web-2": OperationState.NOT_STARTED,
        "db-1": OperationState.SUCCEEDED,
    }
    assert outcome_of(report, "web-2").reason.endswith("; `repositories` of its provider lacks cdn.example.org")


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("lack", ["provider", "act", "room", "stopped", "limit", "does not boot", "other copy"])
def test_without_a_copy_a_machine_begins_only_if_none_is_required(lack: str, required: bool) -> None:
    fleet = RehearsedFleet("web-0")
    fleet.add("web-1", provider="" if lack == "provider" else "lab")
    machines = fleet.hypervisor.machines
    if lack == "act":
        fleet.hypervisor.acts -= {ProviderAct.START_OVERLAY}
    elif lack == "room":
        fleet.hypervisor.faults[ProviderAct.START_OVERLAY] = [ProviderFault.REFUSED] * 2
    elif lack == "stopped":
        machines["web-1"] = replace(machines["web-1"], power=PowerState.STOPPED)
    elif lack == "other copy":
        machines["web-1"] = replace(machines["web-1"], overlay=Overlay("rehearsal-other-1"))
    elif lack == "does not boot":
        usual = fleet._follow

        def follow(name: str, order: ProviderOrder) -> None:
            usual(name, order)
            if order.act is ProviderAct.START_OVERLAY and name == "web-1":
                fleet.copies[name].is_off = True

        fleet.hypervisor.apply = follow
    report = fleet.run(
        rehearse={"on_copies": True, "strict": required, "at_most": 1 if lack == "limit" else 10}, minutes=600
    )
    outcome = outcome_of(report, "web-1")
    assert outcome.state is (OperationState.NOT_STARTED if required else OperationState.SUCCEEDED)
    if required:
        assert outcome.reason.startswith("the rehearsal on a copy of web-1 could not be made: ")
    assert any("a copy of web-1: could not be made: " in note for note in report.notes)
    assert fleet.copies == {}
    left = {name: machine.overlay for name, machine in machines.items() if machine.overlay}
    assert left == ({"web-1": Overlay("rehearsal-other-1")} if lack == "other copy" else {})


def test_a_machine_that_is_first_reached_in_its_wave_does_not_begin_without_a_rehearsal() -> None:
    fleet = RehearsedFleet("web-1", "web-2")
    fleet.fleet.machines["web-2"].cut(60)
    report = fleet.run(waves={"unreachable_percent": 100})
    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED
    assert outcome_of(report, "web-2").state is OperationState.FAILED
    assert fleet.jobs("web-2") == 0


def test_a_lost_answer_of_the_provider_makes_no_second_copy() -> None:
    fleet = RehearsedFleet("web-1")
    fleet.hypervisor.faults = {
        ProviderAct.START_OVERLAY: [ProviderFault.AWAY_AFTER],
        ProviderAct.DELETE_OVERLAY: [ProviderFault.AWAY_BEFORE, ProviderFault.AWAY_AFTER],
    }
    report = fleet.run()
    assert outcome_of(report, "web-1").state is OperationState.SUCCEEDED
    assert (fleet.copied, fleet.copies) == (["web-1"], {})


def test_a_copy_that_can_not_be_deleted_is_told() -> None:
    fleet = RehearsedFleet("web-1")
    fleet.hypervisor.faults[ProviderAct.DELETE_OVERLAY] = [ProviderFault.REFUSED]
    report = fleet.run()
    reason = "it could not be deleted: delete-overlay was refused"
    expected = f"the copy rehearsal-{RUN}-1 of web-1 may still be there: {reason}"
    assert expected in report.notes
    assert fleet.copies != {}


def test_a_controller_that_dies_at_any_call_leaves_no_copy_once_it_is_resumed() -> None:
    whole = RehearsedFleet("web-1", "web-2")
    whole.run()
    calls = whole.life.calls
    assert calls > 50
    for call in choose_calls(calls):
        fleet = RehearsedFleet("web-1", "web-2")
        fleet.life = Life(dies_at=call, after_the_act=call % 2 == 0)
        with pytest.raises(Killed):
            fleet.run()
        fleet.life = Life()
        run = fleet.fleet.records.runs.get(RUN)
        if run is None or run.state is OperationState.SUCCEEDED:  # it died before the beginning, or after the end
            assert fleet.copies == {}, call
            continue
        report = fleet.run(resumed=True)
        assert fleet.copies == {}, call
        assert fleet.most_copies <= 2, call
        assert {outcome.state for outcome in report.outcomes} == {OperationState.SUCCEEDED}, call
        assert [len(fleet.fleet.machines[name].installs()) for name in ("web-1", "web-2")] == [1, 1], call
        for name, machine in fleet.fleet.machines.items():  # attempts at the copy are none at the machine
            attempts = [e for e in fleet.fleet.records.read_entries(RUN, name) if e.act == ATTEMPT_ACT]
            locks = [one.script.params["attempt"] for one in machine.calls if one.script and one.name == "machine_lock"]
            assert locks[-1] == str(len(attempts)), call


def test_a_resumed_run_keeps_the_result_of_a_rehearsal() -> None:
    fleet = RehearsedFleet("web-1")
    fleet.spoil["openssl"] = {"fails": "it is bad"}
    usual = fleet._gate

    def die(report: RunReport, token: StopToken) -> GateDecision:
        if not fleet.gate_saw:
            usual(report, token)
            raise Killed
        return usual(report, token)

    fleet._gate = die  # type: ignore[assignment, method-assign]
    with pytest.raises(Killed):
        fleet.run()
    fleet.spoil.clear()
    report = fleet.run(resumed=True)
    assert fleet.copied == ["web-1"]
    assert outcome_of(report, "web-1").reason.startswith("the rehearsal on a copy of web-1 failed: ")


@pytest.mark.parametrize("required", [True, False])
def test_what_came_in_after_a_required_rehearsal_is_not_installed(required: bool) -> None:
    fleet = RehearsedFleet("web-1")
    machine = fleet.fleet.machines["web-1"]
    machine.world.packages.append(FakePackage("other"))
    works(machine, "other", 200, becomes="2.0")
    fleet.spoil["other"] = {"broken": False, "installed": "2.0"}  # on the copy, nobody is at work
    usual = fleet._gate

    def add(report: RunReport, token: StopToken) -> GateDecision:
        machine.world.packages.append(FakePackage("late", classification=Classification.SECURITY))
        machine.world.shelf["openssl"].available = "3.0"
        return usual(report, token)

    fleet._gate = add  # type: ignore[assignment, method-assign]
    outcome = outcome_of(fleet.run(rehearse={"on_copies": True, "strict": required}), "web-1")
    assert result_of(outcome, "kernel").state is UpdateState.INSTALLED
    late, openssl = result_of(outcome, "late"), result_of(outcome, "openssl")
    if not required:
        assert {late.state, openssl.state} == {UpdateState.INSTALLED}
        return
    assert (late.state, late.reason) == (UpdateState.NOT_SELECTED, "not part of what a rehearsal tried")
    assert openssl.state is UpdateState.NOT_SELECTED
    assert openssl.reason == "a rehearsal tried 2.0, and not 3.0, which is offered now"


@pytest.mark.parametrize("required", [True, False])
def test_after_a_required_rehearsal_no_other_round_follows(required: bool) -> None:
    fleet = RehearsedFleet("web-1")
    fleet.fleet.manager.offers_more_later = True
    late = FakePackage("late", classification=Classification.SECURITY, appears_after="openssl")
    fleet.fleet.machines["web-1"].world.packages.append(late)
    outcome = outcome_of(fleet.run(rehearse={"on_copies": True, "strict": required}), "web-1")
    installed = {result.update.id for result in outcome.updates if result.state is UpdateState.INSTALLED}
    assert installed == ({"openssl", "kernel"} if required else {"openssl", "kernel", "late"})
    assert ("late: no rehearsal has tried them" in outcome.reason) is required


@pytest.mark.parametrize("fields", [{"dry_run": True}, {"download_only": True}])
def test_plans_and_downloads_rehearse_nothing(fields: dict[str, Any]) -> None:
    fleet = RehearsedFleet("web-1")
    fleet.run(**fields)
    assert fleet.hypervisor.orders == []
