"""Runs of the real engine where Windows refuses to a login over the network what it refuses to no other login."""

import threading
from collections.abc import Iterator

import pytest

from tasks.domain.states import Compliance, OperationState, RebootPolicy, UpdateState
from tasks.reports.data.machine_reports import compute_compliance
from tasks.rules.runs.figures import UpdateCounts
from tests.lab.windows.patching import WindowsFleet, count, guid, kb, offer, result_of, states
from tests.lab.windows.scenario import Scenario, three_failures
from tests.lab.windows.state import change_state
from tests.support.local_powershell import require_pwsh

ASSESSED, BESIDE, AGAIN = "20260310-020000-aaaaaa", "20260310-030000-aaaaaa", "20260310-040000-aaaaaa"
SEARCH = "IUpdateSearcher.Search"
ENTRIES = ("Microsoft.Update.Session", "IUpdateSession.CreateUpdateSearcher", SEARCH, "IUpdateSearcher.QueryHistory")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WindowsFleet]:
    """One machine; each test says what it refuses."""
    require_pwsh()
    history = three_failures(guid(3), 0x8024200B)
    scenario = Scenario(updates=(offer(1, install_gate="go"), offer(2), offer(3)), history=history)
    with WindowsFleet.opened(tmp_path_factory.mktemp("denied"), scenario) as it:
        yield it


def refuse(fleet: WindowsFleet, whom: str, *entries: str) -> None:
    with change_state(fleet.one.machine.folder) as state:
        state["refused"] = dict.fromkeys(entries, whom)


@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_what_windows_refuses_to_the_login_system_is_asked_for(fleet: WindowsFleet, number: int) -> None:
    refuse(fleet, "network", ENTRIES[number])
    run = f"20260310-01000{number}-bbbbbb"
    report, outcome = fleet.assess(run), fleet.outcome(run)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    (assessment,) = report.assessments
    assert assessment.packages is not None
    given_up = {update.name: update.given_up != "" for update in assessment.packages.updates}
    assert given_up == {kb(1): False, kb(2): False, kb(3): True}


@pytest.mark.parametrize("number", range(len(ENTRIES)))
def test_what_windows_refuses_to_system_too_is_never_healthy(fleet: WindowsFleet, number: int) -> None:
    refuse(fleet, "everyone", ENTRIES[number])
    run = f"20260310-02000{number}-bbbbbb"
    report, outcome = fleet.assess(run), fleet.outcome(run)
    assert (outcome.state, outcome.updates) == (OperationState.FAILED, ()), outcome.reason
    assert "0x80070005 E_ACCESSDENIED" in outcome.reason
    assert ENTRIES[number].rpartition(".")[2] in outcome.reason
    assert outcome.error is not None
    assert "dcomcnfg" in outcome.error.hint
    newest = next(iter(report.assessments[::-1]), None)
    assert compute_compliance(outcome, newest, UpdateCounts({})) is Compliance.NOT_ASSESSED


def test_a_task_scheduler_that_is_refused_as_well_is_told(fleet: WindowsFleet) -> None:
    refuse(fleet, "network", SEARCH, "Schedule.Service")
    fleet.assess("20260310-030000-bbbbbb")
    outcome = fleet.outcome("20260310-030000-bbbbbb")
    assert outcome.state is OperationState.FAILED
    assert outcome.reason.startswith(
        "Windows refuses Search (0x80070005 E_ACCESSDENIED: access denied) to this login, "
    )
    assert "the task scheduler can't run it" in outcome.reason


def test_an_assessment_and_a_patch_run_that_both_search_as_jobs_do_not_disturb_each_other(fleet: WindowsFleet) -> None:
    """Server 2025 refuses the search. Also an assessment whose job hangs keeps no patch run waiting."""
    refuse(fleet, "network", *ENTRIES)
    machine = fleet.one.machine
    with change_state(machine.folder) as state:
        state["search_gate"] = "end"
    assessment = threading.Thread(target=fleet.assess, args=(ASSESSED,))
    assessment.start()
    machine.wait_until(lambda state: state["tasks"] and not state["search_gate"])

    def end_it_and_assess_again() -> None:
        assert assessment.is_alive()  # so the run has searched, simulated and begun beside it
        machine.open_gate("end")
        assessment.join(60)
        fleet.assess(BESIDE)
        machine.open_gate("go")

    fleet.patch(kb(1), at="installing", then=end_it_and_assess_again, reboot=RebootPolicy.NEVER)

    assert result_of(fleet.outcome(), 1).state is UpdateState.INSTALLED, fleet.outcome().reason
    for run in (ASSESSED, BESIDE):
        outcome = fleet.outcome(run)
        assert outcome.state is OperationState.SUCCEEDED, outcome.reason
        assert set(states(outcome)) == {kb(1), kb(2), kb(3)}
    fleet.patch(kb(2), run=AGAIN, reboot=RebootPolicy.NEVER)
    assert result_of(fleet.outcome(AGAIN), 2).state is UpdateState.INSTALLED
    assert count(fleet.one, "install") == 2
