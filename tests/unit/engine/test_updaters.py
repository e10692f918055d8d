"""What updates a system by itself rests from the first package transaction to the end of a machine's turn, if asked."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from fleetpatch.cli.runtime.run_lookup import find_unfinished_acts
from tasks.domain.errors import ConnectionLost, RequestError
from tasks.domain.model import Outcome
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import FindingLevel, OperationState, RebootPolicy, UpdateState
from tasks.rules.machine_checks.packages import AUTO_UPDATER_CHECK
from tests.support.fake_manager import FakeManager
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN, begin, resume
from tests.unit.engine.hook_stage import Owner, asked_for, hook, run


def one(*packages: FakePackage) -> SimFleet:
    fleet = SimFleet()
    fleet.add("web", packages or [FakePackage("a", seconds=20)])
    return fleet


def found(outcome: Outcome) -> list[tuple[FindingLevel, str]]:
    return [(each.level, each.message) for each in outcome.findings if each.check == AUTO_UPDATER_CHECK]


def order_of(machine: SimMachine) -> list[str]:
    told = []
    for call in machine.calls:
        if call.script is None:
            continue
        if call.name in {"fake_updaters", "hook"}:
            told.append(str(call.script.params.get("place") or call.script.params["work"]))
        elif call.verb == "start":
            told.append(str(call.script.params["work"]))
        elif call.name in {"reboot", "machine_lock"}:
            told.append("release" if call.script.params.get("release") else call.name)
    return [each for each in told if each != "machine_lock"]


def test_they_are_left_alone_unless_that_was_asked() -> None:
    fleet = one()
    report = fleet.patch()
    assert fleet.machines["web"].updaters.asked == []
    assert found(outcome_of(report, "web")) == []


def test_they_rest_from_the_first_transaction_to_the_end_of_the_turn() -> None:
    fleet = one()
    machine = fleet.machines["web"]
    during: list[str] = []
    machine.on_start("install", 5, lambda: during.append(machine.rests_for))
    hooks = {
        "before_machine": [hook("drain", "machine-command")],
        "after_machine": [hook("undrain", "machine-command")],
    }

    report = run(Owner(fleet), asked_for(fleet, hooks, native_updaters="pause"))

    outcome = outcome_of(report, "web")
    assert during == [RUN]
    assert order_of(machine) == ["stage", "before_machine", "pause", "install", "restore", "after_machine", "release"]
    assert machine.rests_for == ""
    assert outcome.state is OperationState.SUCCEEDED
    assert found(outcome) == [(FindingLevel.GOOD, "paused while this run installed: fake.timer (it is as it was)")]
    acts = [(e.mark, e.act) for e in fleet.records.journal if e.act.endswith("_updaters")]
    assert acts == [
        (JournalMark.BEFORE, "pause_updaters"),
        (JournalMark.AFTER, "pause_updaters"),
        (JournalMark.AFTER, "restore_updaters"),
    ]


@pytest.mark.parametrize("fields", [{"download_only": True}, {"dry_run": True}])
def test_what_installs_nothing_pauses_nothing(fields: dict[str, Any]) -> None:
    fleet = one()
    fleet.patch(native_updaters="pause", **fields)
    assert fleet.machines["web"].updaters.asked == []


def test_where_nothing_fits_nothing_is_paused() -> None:
    fleet = one()
    fleet.teach(transaction_seconds=3000.0)
    fleet.patch(native_updaters="pause", minutes=20)
    assert fleet.machines["web"].updaters.asked == []


def test_a_repair_is_a_transaction_too() -> None:
    fleet = one(FakePackage("a"), FakePackage("b", broken=True))
    fleet.patch(native_updaters="pause", repair=True)
    assert order_of(fleet.machines["web"])[:3] == ["pause", "repair", "stage"]
    assert fleet.machines["web"].rests_for == ""


def test_they_are_brought_back_when_the_installation_failed() -> None:
    fleet = one(FakePackage("bad", fails="no"))
    report = fleet.patch(native_updaters="pause")
    assert outcome_of(report, "web").state is OperationState.FAILED
    assert fleet.machines["web"].updaters.asked == ["pause", "restore"]
    assert fleet.machines["web"].rests_for == ""


def test_they_are_brought_back_when_the_run_was_stopped() -> None:
    fleet = one(FakePackage("a", seconds=20), FakePackage("b", seconds=20))
    machine = fleet.machines["web"]
    machine.on_start("install", 5, lambda: fleet.control.request_stop("enough"))
    fleet.patch(native_updaters="pause")
    assert machine.updaters.asked == ["pause", "restore"]
    assert machine.rests_for == ""


def test_a_run_that_is_stopped_while_they_are_paused_installs_nothing() -> None:
    fleet = one()
    machine = fleet.machines["web"]
    pause = machine._handlers["fake_updaters"][0]

    def slow(script: object) -> object:
        fleet.control.request_stop("enough")
        return pause(script)  # type: ignore[arg-type]  # a Script

    machine.answer("fake_updaters", slow)  # type: ignore[arg-type]  # records
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED
    assert "enough" in result_of(outcome, "a").reason
    assert not machine.installs()
    assert machine.updaters.asked == ["pause", "restore"]


def test_a_reboot_brings_them_back_by_itself() -> None:
    fleet = one()
    outcome = outcome_of(fleet.patch(native_updaters="pause", reboot=RebootPolicy.ALWAYS), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert "a reboot has brought it back" in found(outcome)[0][1]


def test_what_can_not_be_paused_is_a_warning_and_patched_all_the_same() -> None:
    fleet = one()
    fleet.machines["web"].updaters.stuck = ("fake.timer",)
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert (FindingLevel.WARN, "fake.timer could not be paused: no") in found(outcome)
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_what_can_not_be_brought_back_is_a_warning() -> None:
    fleet = one()
    machine = fleet.machines["web"]
    machine.on_start("install", 1, lambda: setattr(machine.updaters, "stuck", ("fake.timer",)))
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert (FindingLevel.WARN, "not started again: fake.timer: no") in found(outcome)


def test_a_machine_without_such_updaters_has_nothing_to_pause_and_says_so() -> None:
    fleet = one()
    fleet.machines["web"].updaters.names = ()
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert found(outcome) == [
        (FindingLevel.GOOD, "nothing to pause: none of its own updaters is switched on"),
    ]


def test_a_package_manager_that_knows_of_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeManager, "updaters_script", None)
    fleet = one()
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert found(outcome) == [
        (FindingLevel.GOOD, "no automatic updater of fake is known"),
    ]
    assert fleet.machines["web"].updaters.asked == []


def test_what_its_owner_has_masked_and_what_is_at_work_is_told() -> None:
    fleet = one()
    updaters = fleet.machines["web"].updaters
    updaters.names, updaters.masked, updaters.running = ("one.timer", "two.timer"), ("two.timer",), ("one.service",)
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert [message for _, message in found(outcome)] == [
        "two.timer is left as it is: its owner has masked it",
        "one.service is running and is not stopped; the installation waits for it",
        "paused while this run installed: one.timer (it is as it was)",
    ]


def test_the_pre_check_does_not_remark_on_what_is_going_to_rest() -> None:
    for asked, level in (("leave", FindingLevel.REMARK), ("pause", FindingLevel.GOOD)):
        fleet = one()
        fleet.machines["web"].world.auto_updaters = (("fake.timer", 600.0),)
        assert found(outcome_of(fleet.patch(native_updaters=asked), "web"))[0][0] is level


def test_one_that_acts_already_is_still_told() -> None:
    fleet = one()
    fleet.machines["web"].world.auto_updaters = (("fake.service", 0.0),)
    assert found(outcome_of(fleet.patch(native_updaters="pause"), "web"))[0][0] is FindingLevel.REMARK


def test_what_can_not_be_paused_is_still_told() -> None:
    fleet = one()
    world = fleet.machines["web"].world
    world.auto_updaters, world.unpausable_updaters = (
        (("/etc/cron.daily/up", None), ("fake.timer", 9.0)),
        ("/etc/cron.daily/up",),
    )
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert [level for level, _ in found(outcome)][:2] == [FindingLevel.REMARK, FindingLevel.GOOD]
    (remedy,) = [each.remedy for each in outcome.findings if "/etc/cron.daily/up" in each.message]
    assert "No run pauses it" in remedy


def test_a_refusal_keeps_the_machine_as_it_is() -> None:
    fleet = one()
    fleet.machines["web"].answer("fake_updaters", {"kind": "refused", "why": "cannot write"})
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert outcome.state is OperationState.FAILED
    assert "refused to pause its own updaters: cannot write" in outcome.reason
    assert not fleet.machines["web"].installs()
    assert any(level is FindingLevel.WARN and "may still be paused" in message for level, message in found(outcome))
    assert not [entry for entry in find_unfinished_acts(fleet.records.journal) if entry.act == "pause_updaters"]


@pytest.mark.parametrize("after_the_act", [False, True])
def test_a_line_that_is_cut_is_asked_again(after_the_act: bool) -> None:
    fleet = one()
    machine = fleet.machines["web"]
    for call in (1, 3):
        machine.fail(ConnectionLost("cut"), on="fake_updaters", call=call, after_the_act=after_the_act)
    outcome = outcome_of(fleet.patch(native_updaters="pause"), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert machine.rests_for == ""


def test_a_machine_that_is_gone_at_the_end_is_warned_of() -> None:
    fleet = one()
    machine = fleet.machines["web"]
    machine.on_start("install", 5, lambda: machine.cut(3 * 3600))
    outcome = outcome_of(fleet.patch(native_updaters="pause", minutes=60), "web")
    assert machine.rests_for == RUN
    assert any(level is FindingLevel.WARN and "may still be paused" in message for level, message in found(outcome))


def calls() -> int:
    life, fleet = Life(), one()
    begin(fleet, fleet.request(native_updaters="pause"), life)
    return life.calls


CALLS = calls()


def late(fleet: SimFleet) -> None:
    fleet.clock.advance(5 * 3600)


def soon(fleet: SimFleet) -> None:
    fleet.clock.advance(60)


@pytest.mark.parametrize("when", [soon, late])
@pytest.mark.parametrize("dies_at", choose_calls(CALLS))
def test_killed_at_any_call_they_are_brought_back_by_who_takes_the_run_up(
    dies_at: int, when: Callable[[SimFleet], None]
) -> None:
    fleet = one()
    with contextlib.suppress(Killed):
        begin(fleet, fleet.request(native_updaters="pause"), Life(dies_at=dies_at, after_the_act=bool(dies_at % 2)))
    when(fleet)

    if RUN in fleet.records.runs:
        with contextlib.suppress(RequestError):  # it was over
            resume(fleet)
    assert fleet.machines["web"].rests_for == ""
