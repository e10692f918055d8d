"""One run of the real engine on Windows machines that differ in what Windows Update does there.

Each is judged by its own state, not only by the report (see ``patching.judge``).
"""

from collections.abc import Iterator

import pytest

from flows.request.patch_request import UpdatesRequest
from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, RebootState, UpdateState
from tests.lab.windows.patching import WindowsFleet, cumulative, guid, kb, offer, result_of, states
from tests.lab.windows.scenario import SERVICES, Scenario, Service, three_failures
from tests.support.local_powershell import require_pwsh

FAILED = 0x800F0922
STACK = "Servicing Stack Update 10.0.20348.1 for Windows Server"
MACHINES = (
    Scenario(
        name="SOME-FAIL",
        updates=(
            offer(1),
            offer(2, install_hresult=FAILED),
            offer(3, "Security Update for SQL Server 2022"),
            cumulative(4),
            offer(5, lies=True),
            offer(6, download_hresult=0x80072EE2, download_failures=1),
            offer(7, download_hresult=0x80070070),
        ),
    ),
    Scenario(
        name="IN-ORDER",
        updates=(
            cumulative(1, needs=(guid(3),)),
            offer(2, impact=2),
            offer(3, STACK),
            offer(4),
        ),
        installer_busy_seconds=20,
    ),
    Scenario(
        name="NOT-ALL",
        updates=(
            offer(1),
            offer(2, supersedes=(guid(1),)),
            offer(3, eula_accepted=False),
            offer(4, asks_user=True),
            offer(5, type="Driver", classification="driver", no_installation_behavior=True),
            offer(6, browse_only=True, supersedes=(guid(2),)),
            offer(7, classification="definition"),
            offer(8, hidden=True),
            offer(9, "Windows Server 2025", classification="upgrade", needs_reboot=True, rolled_back=True),
        ),
    ),
    Scenario(
        name="CHAIN",
        updates=(
            offer(1, STACK, classification="update"),
            cumulative(2, appears_after=(guid(1),)),
            offer(3, "2026-03 Cumulative Update for .NET Framework 4.8", appears_after=(guid(2),)),
            offer(4, classification="definition", appears_after=(guid(1),)),
        ),
        # stalls of the download, and what Automatic Updates could not do, block nothing
        history=[
            *three_failures(guid(2), 0x80D02002),
            *three_failures(guid(1), FAILED, client="UpdateOrchestrator"),
        ],
    ),
    Scenario(
        name="ROLLED-BACK",
        updates=(offer(1), cumulative(2, rolled_back=True)),
        component_store="Repairable",
        services=(
            *SERVICES,
            Service("Broken", display_name="Kaputter Dienst", start_fails=True),
            Service("Late", is_delayed=True),
            Service("Done", ends_after_start=True),
            Service("OnEvent", is_triggered=True),
            Service("ByHand", becomes="Manual"),
            Service("OnEventNow", becomes="Triggered"),
            Service("SwitchedOff", becomes="Disabled"),
            Service("Removed", becomes="Gone"),
        ),
        late_start_seconds=8,
    ),
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WindowsFleet]:
    """The machines, after one run."""
    require_pwsh()
    with WindowsFleet.opened(tmp_path_factory.mktemp("fleet"), *MACHINES) as it:
        it.patch(minutes=240, updates=UpdatesRequest(include=[kb(9)]))
        yield it


def test_what_fails_does_not_keep_the_rest_from_being_installed(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="SOME-FAIL")

    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.COMPLETED)
    failed = {name for name, state in states(outcome).items() if state is not UpdateState.INSTALLED}
    assert failed == {kb(2), kb(5), kb(7)}
    assert "0x800F0922 CBS_E_INSTALLERS_FAILED" in result_of(outcome, 2).reason
    assert "reported success" in result_of(outcome, 5).reason  # the word of the agent alone does not count
    state = fleet.find("SOME-FAIL").machine.read_state()
    there = [update["installed"] for update in state["updates"].values()]
    assert there == [True, False, True, True, False, True, False]
    assert (state["boot"]["number"], state["ubr"]) == (2, 2800)


def test_the_plan_names_updates_of_sql_server(fleet: WindowsFleet) -> None:
    notes = {plan.machine: plan.notes for plan in fleet.plans()}

    assert any(note.startswith(f"updates of SQL Server: {kb(3)};") for note in notes["SOME-FAIL"])
    assert not any("SQL Server" in note for note in notes["IN-ORDER"])


def test_the_servicing_stack_comes_first_the_cumulative_update_last_and_the_exclusive_one_alone(
    fleet: WindowsFleet,
) -> None:
    outcome = fleet.outcome(name="IN-ORDER")

    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert outcome.kernel_change == "20348.2700 -> 20348.2800"
    journal = fleet.find("IN-ORDER").machine.read_state()["journal"]
    order = [entry["id"] for entry in journal if entry["what"] == "install"]
    assert (order[0], order[-1], len(order)) == (guid(3), guid(1), 4)
    assert outcome.install is not None
    assert all(len(transaction.updates) == 1 for transaction in outcome.install.transactions)
    state = fleet.find("IN-ORDER").machine.read_state()  # the installation of somebody else was waited for
    assert min(entry["time"] for entry in journal if entry["what"] == "install") >= state["busy_until"]


def test_what_is_offered_only_after_the_servicing_stack_is_installed_in_the_same_run(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="CHAIN")

    journal = fleet.find("CHAIN").machine.read_state()["journal"]
    assert [entry["id"] for entry in journal if entry["what"] == "install"] == [guid(1), guid(2)]
    assert states(outcome)[kb(1)] is states(outcome)[kb(2)] is UpdateState.INSTALLED
    assert (outcome.reboot, outcome.kernel_change) == (RebootState.COMPLETED, "20348.2700 -> 20348.2800")
    assert outcome.install is not None
    assert [transaction.number for transaction in outcome.install.transactions] == [0, 1]
    # one more round, and no other one: what the reboot has uncovered is told
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert f"offered only now, and not installed: {kb(3)}" in outcome.reason
    assert kb(4) not in outcome.reason  # definitions are not asked for


def test_only_what_is_asked_for_and_allowed_is_installed(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="NOT-ALL")

    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS  # one may ask a person
    assert "on hold" not in outcome.reason
    assert any(
        "on hold although security updates are available: KB5000008" in each.message for each in outcome.findings
    )
    assert kb(1) not in states(outcome)  # KB5000002 has it
    assert "licence terms are not accepted" in result_of(outcome, 3).reason
    assert "may ask a person" in result_of(outcome, 4).reason
    assert "driver" in result_of(outcome, 5).reason
    assert "preview" in result_of(outcome, 6).reason
    assert "Definition" in result_of(outcome, 7).reason
    assert states(outcome)[kb(8)] in (UpdateState.EXCLUDED, UpdateState.NOT_SELECTED)
    there = fleet.find("NOT-ALL").machine.read_state()["updates"]
    assert [update for update, its in there.items() if its["installed"]] == [guid(2)]


def test_an_upgrade_is_not_installed_and_the_plan_and_the_report_say_why(fleet: WindowsFleet) -> None:
    why = "fleetpatch does not install upgrades to another version of Windows: the reboot would undo them"
    (plan,) = [plan for plan in fleet.plans() if plan.machine == "NOT-ALL"]
    (planned,) = [result for result in plan.skipped if result.update.name == kb(9)]
    reported = result_of(fleet.outcome(name="NOT-ALL"), 9)
    for result in (planned, reported):
        assert result.state is UpdateState.BLOCKED
        assert why in result.reason
    assert fleet.outcome(name="NOT-ALL").reboot is RebootState.NOT_NEEDED


def test_an_update_that_a_boot_undoes_has_failed(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="ROLLED-BACK")

    assert (outcome.state, outcome.reboot) == (OperationState.FAILED, RebootState.COMPLETED)
    assert "rolled back during the boot" in result_of(outcome, 2).reason
    assert "KB5000002" in outcome.reason
    assert guid(2) not in outcome.reason
    assert result_of(outcome, 1).state is UpdateState.INSTALLED
    assert fleet.find("ROLLED-BACK").machine.read_state()["ubr"] == 2700
    assert outcome.kernel_change == "20348.2700"
    (event,) = [message for message in _log_findings(outcome) if not message.startswith("a service")]
    assert kb(2) in event
    assert "0x800f0922" in event


def test_downloads_are_tried_again_where_that_may_help(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="SOME-FAIL")

    assert result_of(outcome, 6).state is UpdateState.INSTALLED
    assert result_of(outcome, 7).state is not UpdateState.INSTALLED
    assert "0x80070070" in result_of(outcome, 7).reason
    tried = [
        entry["id"] for entry in fleet.find("SOME-FAIL").machine.read_state()["journal"] if entry["what"] == "download"
    ]
    assert (tried.count(guid(6)), tried.count(guid(7)) <= 2) == (2, True)


def test_services_that_ran_must_run_after_the_reboot(fleet: WindowsFleet) -> None:
    outcome = fleet.outcome(name="ROLLED-BACK")

    services = {(each.level, each.message) for each in outcome.findings if each.check == "services"}
    assert services == {
        (FindingLevel.BLOCK, "failed since patching: Broken"),
        (FindingLevel.BLOCK, "ran before patching, and disabled since: SwitchedOff"),
        (FindingLevel.BLOCK, "ran before patching, and Windows does not have it any more: Removed"),
        (FindingLevel.WARN, "ran before patching, and not started since: only somebody starts it now: ByHand"),
        (FindingLevel.WARN, "ran before patching, and not started since: only an event starts it now: OnEventNow"),
    }
    told = {
        (each.check, each.level): each.message
        for each in outcome.findings
        if each.level is not FindingLevel.GOOD and each.check != "services"
    }
    assert told.pop(("event log", FindingLevel.WARN))
    (event,) = [message for message in _log_findings(outcome) if message.startswith("a service")]
    assert event.startswith("a service did not start: Kaputter Dienst (")
    assert "(Repairable)" in told.pop(("packages", FindingLevel.WARN))
    assert "rolled back during the boot: KB5000002" in told.pop(("versions", FindingLevel.BLOCK))
    assert not told
    assert outcome.facts is not None
    assert "Late" in outcome.facts.services.running


def _log_findings(outcome: Outcome) -> list[str]:
    return [finding.message for finding in outcome.findings if finding.check == "event log"]
