"""What health.ps1 says of a machine: its component store, and what its log has since a run began."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tasks.domain.errors import DeadlineExceeded
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import FindingLevel
from tasks.machines.managers.windows_update.manager import WindowsUpdateManager
from tasks.steps.machine.facts import parse_findings
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.machine import KERNEL_POWER, SERVICES, UPDATE_CLIENT, add_event
from tests.lab.windows.machine_facts import COMPONENTS
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state

UPDATE = "{0000AAAA-0000-4000-8000-000000000000}"
WER = "Microsoft-Windows-WER-SystemErrorReporting"


@pytest.fixture
def machine(warm: WarmMachine) -> Iterator[WarmMachine]:
    """A machine with a sound component store and an empty log."""
    with change_state(warm.windows.folder) as state:
        state["events"], state["component_store"] = [], "Healthy"
    yield warm
    assert not warm.windows.stand_in_errors()


def ask(machine: WarmMachine, since: float | None = None) -> list[Finding]:
    script = WindowsUpdateManager.health_script
    assert script is not None
    if since is not None:
        script = replace(script, params={"since": str(int(since))})
    answer = machine.open_host().run_script(script, deadline=Deadline.after(CLOCK, 60))
    assert answer.exit_code == 0, answer
    return list(parse_findings(answer))


def log(machine: WarmMachine, provider: str, number: int, ago: float = 0, **data: str) -> None:
    with change_state(machine.windows.folder) as state:
        add_event(state, provider, number, "Eine Meldung in einer anderen Sprache", data)
        state["events"][-1]["time"] -= ago


def test_a_machine_that_is_well_has_nothing_to_say(machine: WarmMachine) -> None:
    assert ask(machine) == []
    assert ask(machine, since=time.time() - 600) == []


@pytest.mark.parametrize(
    ("state", "level", "remedy"),
    [("Repairable", FindingLevel.WARN, "/RestoreHealth"), ("NonRepairable", FindingLevel.BLOCK, "setup.exe")],
)
def test_a_damaged_component_store_is_told(machine: WarmMachine, state: str, level: FindingLevel, remedy: str) -> None:
    with change_state(machine.windows.folder) as there:
        there["component_store"] = state
    (finding,) = ask(machine)
    assert (finding.check, finding.level) == ("packages", level)
    assert f"({state})" in finding.message
    assert remedy in finding.remedy


def test_while_windows_servicing_works_the_store_is_not_asked(machine: WarmMachine) -> None:
    place = rf"{COMPONENTS}\Interface"
    with change_state(machine.windows.folder) as state:
        state["component_store"], state["servicing_until"] = "NonRepairable", time.time() + 600
        state["registry"][place]["values"]["ServicingInProgress"]["data"] = 2
    try:
        (finding,) = ask(machine)
    finally:
        with change_state(machine.windows.folder) as state:
            state["servicing_until"] = 0
            state["registry"][place]["values"]["ServicingInProgress"]["data"] = 0
    assert finding.level is FindingLevel.GOOD
    assert "not asked" in finding.message


def test_a_store_that_can_not_be_asked_stops_nothing() -> None:
    with WarmMachine.opened(Scenario(component_store_error=0x80070422)) as machine:
        (finding,) = ask(machine)
        assert finding.level is FindingLevel.GOOD
        assert "not known: Der Vorgang ist fehlgeschlagen." in finding.message


def test_a_store_that_does_not_answer_is_given_up_and_the_machine_answers_again() -> None:
    with WarmMachine.opened(Scenario(component_store_seconds=3.0)) as machine:
        script = WindowsUpdateManager.health_script
        assert script is not None
        with pytest.raises(DeadlineExceeded):
            machine.open_host().run_script(script, deadline=Deadline.after(CLOCK, 1))
        assert ask(machine) == []


def test_a_stop_without_a_shutdown_is_one_finding(machine: WarmMachine) -> None:
    began = time.time()
    log(machine, KERNEL_POWER, 41, BugcheckCode="159")
    log(machine, "EventLog", 6008)
    log(machine, "Microsoft-Windows-Kernel-Boot", 20, LastShutdownGood="false")  # of another provider
    (finding,) = ask(machine, since=began)
    assert (finding.check, finding.level) == ("event log", FindingLevel.WARN)
    assert "without a shutdown: bug check 159 (EventLog 6008, Microsoft-Windows-Kernel-Power 41;" in finding.message
    log(machine, WER, 1001, param1="0x0000009f (0x3, 0x0)")
    (finding,) = ask(machine, since=began)
    assert "bug check 0x0000009f (0x3, 0x0) (EventLog 6008," in finding.message


def test_a_loss_of_power_has_no_bug_check(machine: WarmMachine) -> None:
    log(machine, KERNEL_POWER, 41, BugcheckCode="0")
    (finding,) = ask(machine, since=time.time() - 60)
    assert finding.message.startswith("Windows stopped without a shutdown (Microsoft-Windows-Kernel-Power 41; last at ")


def test_services_that_failed_are_told_once_each(machine: WarmMachine) -> None:
    for _ in range(3):
        log(machine, SERVICES, 7031, param1="Druckwarteschlange", param2="1")
    log(machine, SERVICES, 7000, param1="Sicherung", param2="%%1053")
    log(machine, SERVICES, 7040, param1="Sicherung")  # only its start mode was changed
    log(machine, "Somebody else", 7034, param1="Sicherung")
    told = [each.message.partition(" (")[0] for each in ask(machine, since=time.time() - 60)]
    assert told == ["a service did not start: Sicherung", "a service ended unexpectedly: Druckwarteschlange, 3 times"]


def test_what_was_so_in_the_month_before_is_not_told(machine: WarmMachine) -> None:
    began = time.time() - 60
    log(machine, SERVICES, 7034, param1="Old", ago=3600)
    log(machine, SERVICES, 7034, param1="Older", ago=40 * 86400)
    for name in ("Old", "Older"):
        log(machine, SERVICES, 7031, param1=name)
    (finding,) = ask(machine, since=began)
    assert finding.message.startswith("a service ended unexpectedly: Older (Service Control Manager 7031; last at ")


def test_what_was_before_the_run_is_not_told(machine: WarmMachine) -> None:
    log(machine, KERNEL_POWER, 41, BugcheckCode="0", ago=3600)
    log(machine, SERVICES, 7034, param1="Spooler", ago=3600)
    assert ask(machine, since=time.time() - 600) == []
    assert ask(machine) == []


def test_a_failed_installation_is_told_unless_it_succeeded_later(machine: WarmMachine) -> None:
    began = time.time() - 60
    failed = {"errorCode": "0x800f0922", "updateTitle": "Update (KB5000001)", "updateGuid": UPDATE}
    log(machine, UPDATE_CLIENT, 20, 0, **failed)
    log(machine, UPDATE_CLIENT, 20, 0, **failed)
    log(machine, UPDATE_CLIENT, 19, updateTitle="Another one", updateGuid=UPDATE.replace("A", "B"))
    (finding,) = ask(machine, since=began)
    assert finding.message.startswith("Windows could not install Update (KB5000001): 0x800f0922 (")
    log(machine, UPDATE_CLIENT, 19, updateTitle="Update (KB5000001)", updateGuid=UPDATE)
    assert ask(machine, since=began) == []


def test_a_log_without_end_makes_few_findings(machine: WarmMachine) -> None:
    with change_state(machine.windows.folder) as state:
        for number in range(400):
            add_event(state, SERVICES, 7034, "", {"param1": f"Service {number}"})
    found = ask(machine, since=time.time() - 60)
    assert len(found) == 10
    assert found[0].message.startswith("a service ended unexpectedly: Service 399 (")
