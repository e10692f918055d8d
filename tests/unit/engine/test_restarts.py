"""Services that run replaced files: a run restarts them once, or reboots for them, and tells what it leaves."""

import contextlib
from typing import Any

import pytest

from tasks.domain.errors import ConnectionLost, RequestError, ScriptFailed
from tasks.domain.model import Outcome
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import (
    FindingLevel,
    HookKind,
    OperationState,
    RebootPolicy,
    RebootState,
    UpdateState,
    YesNoUnknown,
)
from tasks.rules.machine_checks.services import SERVICE_RESTART_CHECK, SYSTEM_MANAGER
from tasks.rules.runs.figures import predict_reboot
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet, outcome_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.sim_machine import SimMachine
from tests.support.taking_up import RUN, begin, resume

WEB, CRON, BUS = "nginx.service", "cron.service", "dbus.service"
LEAVE: dict[str, Any] = {"restart_services": "Never", "reboot": RebootPolicy.NEVER}


@pytest.fixture
def fleet() -> SimFleet:
    return SimFleet()


@pytest.fixture
def web(fleet: SimFleet) -> SimMachine:
    return fleet.add("web", [FakePackage("libssl", used_by=(WEB, BUS, CRON)), FakePackage("tzdata")])


def told(outcome: Outcome, level: FindingLevel) -> list[str]:
    return [each.message for each in outcome.findings if each.check == SERVICE_RESTART_CHECK and each.level is level]


def restarted(machine: SimMachine) -> list[str]:
    machine.world.catch_up()
    return [unit for _, unit, _ in machine.world.services.restarted]


def test_services_that_run_replaced_files_are_a_warning_that_names_them(fleet: SimFleet, web: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(**LEAVE), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert told(outcome, FindingLevel.WARN) == [
        f"3 services still run files that updates have replaced: {WEB}, {BUS}, {CRON}"
    ]
    (finding,) = [each for each in outcome.findings if each.check == SERVICE_RESTART_CHECK]
    assert f"Restart {WEB}, {CRON}" in finding.remedy
    assert f"No run restarts {BUS}" in finding.remedy
    assert restarted(web) == []


def test_a_machine_with_nothing_to_install_says_so_too(fleet: SimFleet, web: SimMachine) -> None:
    fleet.patch(**LEAVE)
    outcome = outcome_of(fleet.patch(restart_services="Never"), "web")  # it might have rebooted
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "3 services still run files" in outcome.reason
    assert not any(step.step == "install" for step in outcome.steps)
    outcome = outcome_of(fleet.patch(**LEAVE), "web")  # its owner has decided twice that no run renews them
    assert outcome.state is OperationState.SUCCEEDED
    (remark,) = told(outcome, FindingLevel.REMARK)
    assert remark.startswith("3 services still run files")


def test_a_default_run_reboots_for_what_only_a_reboot_renews_and_nothing_is_left(fleet, web) -> None:
    outcome = outcome_of(fleet.patch(), "web")
    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.COMPLETED), outcome.reason
    assert outcome.reboot_result is not None
    assert f"only a reboot renews {BUS}, which run replaced files" in outcome.reboot_result.reason
    assert (outcome.services_to_restart, restarted(web)) == ((), [])


def test_a_default_run_restarts_what_is_safe_to_restart_and_does_not_reboot() -> None:
    fleet = SimFleet()
    web = fleet.add("web", [FakePackage("libssl", used_by=(SYSTEM_MANAGER, "ssh.service", CRON, "getty@tty1.service"))])
    outcome = outcome_of(fleet.patch(), "web")
    assert (outcome.state, outcome.reboot) == (OperationState.SUCCEEDED, RebootState.NOT_NEEDED), outcome.reason
    assert restarted(web) == ["ssh.service", CRON, "getty@tty1.service", SYSTEM_MANAGER]  # systemd at the end


def test_no_reboot_goes_round_what_its_owner_excludes() -> None:
    fleet = SimFleet()
    fleet.add("web", [FakePackage("libssl", used_by=(BUS, "docker.service"))])
    exclude = ["dbus", "docker*"]
    outcome = outcome_of(fleet.patch(restart_services_exclude=exclude), "web")
    assert (outcome.state, outcome.reboot) == (OperationState.COMPLETED_WITH_WARNINGS, RebootState.NOT_NEEDED)
    (finding,) = [each for each in outcome.findings if each.check == SERVICE_RESTART_CHECK]
    assert finding.remedy == f"The request excludes {BUS}, docker.service: restart them when it suits you."


def test_a_reboot_has_restarted_them(fleet: SimFleet, web: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.ALWAYS), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert restarted(web) == []


def test_they_are_restarted_but_for_those_that_hold_logins(fleet: SimFleet, web: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER), "web")
    assert restarted(web) == [WEB, CRON]
    assert told(outcome, FindingLevel.GOOD) == [f"restarted: {WEB}, {CRON}"]
    assert told(outcome, FindingLevel.WARN) == [f"1 service still runs files that updates have replaced: {BUS}"]


def test_what_its_owner_excludes_is_left(fleet: SimFleet, web: SimMachine) -> None:
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER, restart_services_exclude=["nginx*", "dbus"]), "web")
    assert restarted(web) == [CRON]
    assert told(outcome, FindingLevel.WARN) == [f"2 services still run files that updates have replaced: {WEB}, {BUS}"]


def test_a_machine_with_nothing_to_install_is_visited_for_them(fleet: SimFleet, web: SimMachine) -> None:
    fleet.patch(**LEAVE)
    fleet.patch(reboot=RebootPolicy.NEVER)
    assert restarted(web) == [WEB, CRON]


def test_a_plan_says_what_would_be_restarted(fleet: SimFleet, web: SimMachine) -> None:
    fleet.patch(**LEAVE)
    report = fleet.patch(dry_run=True)
    assert any(f"to be restarted unless it reboots: {WEB}, {CRON}" in note for note in report.plans[0].notes)
    assert restarted(web) == []


@pytest.mark.parametrize(
    ("fields", "expected", "boots"),
    [
        ({}, YesNoUnknown.YES, 1),
        ({"restart_services_exclude": ["dbus"]}, YesNoUnknown.UNKNOWN, 0),
        ({"reboot": RebootPolicy.NEVER}, YesNoUnknown.NO, 0),
        ({"updates": {"exclude": ["*"]}}, YesNoUnknown.NO, 0),
    ],
)
def test_a_plan_expects_the_reboot_that_outdated_services_need(
    fleet: SimFleet, web: SimMachine, fields: dict[str, Any], expected: YesNoUnknown, boots: int
) -> None:
    web.world.services.outdated.append(BUS)
    report = fleet.patch(dry_run=True, **fields)
    assert predict_reboot(report.plans[0]) is expected
    fleet.patch(**fields)
    assert web.boots.count == boots


def test_a_service_that_does_not_come_back_fails_the_machine(fleet: SimFleet, web: SimMachine) -> None:
    web.world.services.fails = (WEB,)
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER), "web")
    assert outcome.state is OperationState.FAILED
    assert any(
        "could not be restarted: nginx.service: it is failed now" in each for each in told(outcome, FindingLevel.WARN)
    )
    assert restarted(web) == [WEB, CRON]


def test_nothing_is_restarted_that_the_window_does_not_hold(fleet: SimFleet, web: SimMachine) -> None:
    web.world.shelf["libssl"].seconds = 60
    fleet.teach(transaction_seconds=1.0, install_seconds_per_update=1.0)
    fields: dict[str, Any] = {
        "minutes": 80 / 60,
        "reboot": RebootPolicy.NEVER,
        "stage": False,
    }
    outcome = outcome_of(fleet.patch("libssl", **fields), "web")
    assert restarted(web) == []
    assert any(
        "not restarted: nginx.service, cron.service: restarting a service needs" in each
        for each in told(outcome, FindingLevel.WARN)
    ), outcome.reason


def test_the_machine_begins_none_after_its_latest_start_and_what_goes_on_is_told(
    fleet: SimFleet, web: SimMachine
) -> None:
    web.world.services.hangs[WEB] = 4 * 3600.0
    outcome = outcome_of(fleet.patch("libssl", reboot=RebootPolicy.NEVER), "web")
    assert restarted(web) == [WEB]
    assert "not restarted: cron.service: no time was left" in told(outcome, FindingLevel.WARN)
    assert outcome.window_exceeded_seconds > 0


def test_a_stop_that_comes_meanwhile_leaves_the_rest(fleet: SimFleet, web: SimMachine) -> None:
    web.world.services.hangs[WEB] = 120.0
    web.on_start("restart", 5, lambda: fleet.control.request_stop("enough"))
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER), "web")
    assert restarted(web) == [WEB]
    assert "not restarted: cron.service: the run was asked to stop" in told(outcome, FindingLevel.WARN)


def test_broken_packages_keep_services_as_they_are(fleet: SimFleet, web: SimMachine) -> None:
    web.world.shelf["tzdata"].fails = "maintainer-script: no"
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER), "web")
    assert restarted(web) == []
    assert any("its packages are in a broken state" in each for each in told(outcome, FindingLevel.WARN))


@pytest.mark.parametrize(("code", "expected"), [(0, [WEB, CRON]), (1, [])])
def test_it_is_journalled_before_it_begins_and_hooks_come_first(
    fleet: SimFleet, web: SimMachine, code: int, expected: list[str]
) -> None:
    web.world.services.outdated += [WEB, CRON]
    web.world.packages.clear()
    web.answer("hook", {"kind": "hook", "exit_code": code, "text": ""})
    hook = {"name": "drain", "kind": HookKind.MACHINE_COMMAND, "target": "drain"}
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER, hooks={"before_machine": [hook]}), "web")
    assert restarted(web) == expected
    assert outcome.state is (OperationState.FAILED if code else OperationState.SUCCEEDED), outcome.reason
    marks = [(entry.act, entry.mark) for entry in fleet.records.journal if entry.act in {"hook", "restart"}]
    both = [("restart", JournalMark.BEFORE), ("restart", JournalMark.AFTER)] if expected else []
    assert marks == [("hook", JournalMark.BEFORE), ("hook", JournalMark.AFTER), *both]


@pytest.mark.parametrize("error", [ScriptFailed("no lock any more", exit_code=0), ConnectionLost("cut")])
def test_a_machine_that_would_not_or_was_out_of_touch_restarts_once_at_most(fleet, web, error) -> None:
    web.fail(error, on="start", call=3, after_the_act=isinstance(error, ConnectionLost))
    outcome = outcome_of(fleet.patch(reboot=RebootPolicy.NEVER), "web")
    assert restarted(web) == ([] if isinstance(error, ScriptFailed) else [WEB, CRON])
    assert all(result.state is UpdateState.INSTALLED for result in outcome.updates)


def one() -> SimFleet:
    fleet = SimFleet()
    fleet.add("web", [FakePackage("libssl", used_by=(WEB, CRON))])
    return fleet


def calls() -> int:
    life, fleet = Life(), one()
    begin(fleet, fleet.request(), life)
    return life.calls


@pytest.mark.parametrize("later", [60.0, 6 * 3600.0])
@pytest.mark.parametrize("dies_at", choose_calls(calls()))
def test_killed_at_any_call_each_service_is_restarted_once_and_inside_the_window(dies_at: int, later: float) -> None:
    fleet = one()
    with contextlib.suppress(Killed):
        request = fleet.request()
        begin(fleet, request, Life(dies_at=dies_at, after_the_act=bool(dies_at % 2)))
    fleet.clock.advance(later)
    if RUN in fleet.records.runs:
        with contextlib.suppress(RequestError):  # it was over
            resume(fleet)
    web = fleet.machines["web"]
    names = restarted(web)
    assert len(names) == len(set(names))
    run = fleet.records.runs.get(RUN)
    assert all(run and run.window and at < run.window.end for at, _, _ in web.world.services.restarted)
    if later < 3600 and RUN in fleet.records.runs:
        assert names == [WEB, CRON]
