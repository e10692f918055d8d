"""The runs of Windows services: one that ends after an update, and is started again, is told."""

from tasks.domain.model import Services
from tasks.domain.protocols.clock import Deadline
from tasks.domain.states import FindingLevel
from tasks.rules.machine_checks.units import check_runs, find_restarted_services
from tasks.steps.machine.facts import read_facts
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.scenario import SERVICES, Scenario, Service
from tests.lab.windows.state import change_state


def soon() -> Deadline:
    return Deadline.after(CLOCK, 60)


def test_a_service_that_ended_and_was_started_again_is_told() -> None:
    with WarmMachine.opened(Scenario(services=(*SERVICES, Service("Backup", "Running")))) as warm:

        def look() -> Services:
            return read_facts(warm.open_host(), CLOCK, soon(), with_units=True).services

        assert read_facts(warm.open_host(), CLOCK, soon()).services.runs == ()  # an assessment does not ask for them
        before, first = look(), look()
        assert {run.name for run in before.runs} == set(before.running)
        assert before.runs != ()
        assert [run.run for run in first.runs] == [run.run for run in before.runs]
        with change_state(warm.windows.folder) as state:
            (service,) = [each for each in state["services"] if each["name"] == "Backup"]
            service["starts"] += 1
        second = look()
        assert find_restarted_services(before, second) == ("Backup",)
        (finding,) = check_runs(before, first, second, 45)
        assert finding.level is FindingLevel.BLOCK
        assert finding.message == "ended since patching, and was started again: Backup"
        assert check_runs(before, second, second, 45) == ()  # restarted by an installer before the first look
        assert not warm.windows.stand_in_errors()
