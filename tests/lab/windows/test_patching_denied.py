"""Runs of the real engine where Windows refuses to a login over the network what it refuses to no other login."""

import threading
from pathlib import Path

from tasks.states import OperationState, RebootPolicy, UpdateState
from tests.lab.windows.patching import WindowsFleet, count, kb, offer, result_of, states
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state
from tests.support.local_powershell import require_pwsh

ASSESSED, BESIDE, AGAIN = "20260310-020000-aaaaaa", "20260310-030000-aaaaaa", "20260310-040000-aaaaaa"
END_READERS = """
$service = New-Object -ComObject Schedule.Service
$null = $service.Connect()
foreach ($task in $service.GetRunningTasks(0)) { if ($task.Name -like "*wua-read*") { $task.Stop() } }
"""


def test_an_assessment_and_a_patch_run_that_both_search_as_jobs_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Server 2025 refuses the search. Also an assessment whose job hangs, or is ended, keeps no patch run waiting."""
    require_pwsh()
    scenario = Scenario(updates=(offer(1, install_gate="go"), offer(2)), refused={"IUpdateSearcher.Search": "network"})
    with WindowsFleet.opened(tmp_path, scenario) as fleet:
        machine = fleet.one.machine
        with change_state(machine.folder) as state:
            state["search_gate"] = "never"
        assessment = threading.Thread(target=fleet.assess, args=(ASSESSED,))
        assessment.start()
        machine.wait_until(lambda state: state["tasks"] and not state["search_gate"])

        def end_one_and_assess_again() -> None:
            assert assessment.is_alive()  # so the run has searched, simulated and begun beside it
            assert machine.powershell.run_script(END_READERS, logon="system").exit_code == 0
            assessment.join(60)
            fleet.assess(BESIDE)
            machine.open_gate("go")

        fleet.patch(kb(1), at="installing", then=end_one_and_assess_again, reboot=RebootPolicy.NEVER)

        assert fleet.outcome().state is OperationState.SUCCEEDED, fleet.outcome().reason
        ended = fleet.outcome(ASSESSED)
        assert (ended.state, ended.updates) == (OperationState.FAILED, ()), ended.reason
        beside = fleet.outcome(BESIDE)
        assert beside.state is OperationState.SUCCEEDED, beside.reason
        assert set(states(beside)) == {kb(1), kb(2)}
        fleet.patch(kb(2), run=AGAIN, reboot=RebootPolicy.NEVER)
        assert result_of(fleet.outcome(AGAIN), 2).state is UpdateState.INSTALLED
        assert count(fleet.one, "install") == 2
