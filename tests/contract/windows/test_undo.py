"""Windows: runs taken back by the packages of the component store, with stand-ins for the module Dism."""

from dataclasses import replace

import pytest

from tasks.domain.errors import ManagerError
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.states import Classification, OperationState, RebootState, UpdateState
from tests.contract.windows.update_machine import CLOCK, UpdateMachine, guid, of_kind, offer, one, story
from tests.contract.windows.windows_fleet import WindowsFleet
from tests.lab.windows.scenario import Scenario, history_entry
from tests.lab.windows.state import change_state
from tests.support.fleet import result_of

LCU = "2026-11 Cumulative Update for Microsoft server operating system version 21H2"
ROLLUP = "Package_for_RollupFix~31bf3856ad364e35~amd64~~20348.2800.1.3"
STACK = "Package_for_ServicingStack_2770~31bf3856ad364e35~amd64~~20348.2770.1.0"
PATCHED = "20260310-010001-aaaaaa"


def back(update: Update) -> Update:
    return replace(update, installed=update.available, available="", goes_back=True)


def way(number: int) -> Update:
    """The removal of an update that is installed."""
    name = f"KB500000{number}"
    kind = Classification.SECURITY
    return Update(guid(number), name, "", "rev 200", "", kind, kb=name, goes_back=True)


class TestManager:
    def test_what_can_be_removed_is_told_and_then_removed(self) -> None:
        updates = (
            offer(1),
            offer(2, LCU, package=ROLLUP, needs_reboot=True),
            offer(3, "2026-11 Servicing Stack Update for Windows Server 2022", package=STACK),
        )
        with UpdateMachine.opened(*updates) as machine:
            pending = machine.pending()
            machine.install(*pending.values())
            ways = {name: back(update) for name, update in pending.items()}
            told = machine.simulate(*ways.values())
            assert told.refused[guid(3)] == "it is a servicing stack, which Windows never removes"
            assert told.changes[guid(1)] == ""
            assert machine.installed(ways["KB5000001"]) == {"KB5000001": "rev 200"}
            status = machine.install(ways["KB5000001"], job_id="job-2")
            (ended,) = of_kind(status, "transaction_ended")
            assert (ended["exit_code"], ended["error"], ended["reboot_required"]) == (0, "", False)
            assert machine.done("remove") == [guid(1)]
            assert machine.installed(ways["KB5000001"]) == {}

    def test_what_was_removed_is_not_taken_for_undone_by_a_boot(self) -> None:
        """Servicing tells a removal in the Setup log, and the undo notes its own. Each is enough."""
        day = 86_400.0
        past = [history_entry("", guid(1), at=CLOCK.now().timestamp() - ago * day) for ago in (3, 2, 1)]
        with UpdateMachine.opened(offer(1, installed=True), offer(2), history=past) as machine:
            machine.install(way(1))
            state = machine.assess()
            assert [update.given_up for update in state.updates] == ["", ""]
            assert not any("offered again" in warning for warning in state.warnings)
            notes = r"SOFTWARE\FleetPatch\Removed"
            with change_state(machine.warm.windows.folder) as windows:
                events, windows["events"] = windows["events"], []
            assert machine.pending()["KB5000001"].given_up == ""
            with change_state(machine.warm.windows.folder) as windows:
                windows["events"] = events
                del windows["registry"][notes]
            assert machine.pending()["KB5000001"].given_up == ""
            with change_state(machine.warm.windows.folder) as windows:
                windows["events"] = []
            assert "3 times Windows undid it" in machine.pending()["KB5000001"].given_up

    def test_a_permanent_update_says_so_when_it_is_removed(self) -> None:
        with UpdateMachine.opened(offer(1, permanent=True, installed=True), offer(2, installed=True)) as machine:
            ways = [
                Update(
                    guid(n),
                    f"KB500000{n}",
                    "",
                    "rev 200",
                    "",
                    Classification.SECURITY,
                    kb=f"KB500000{n}",
                    goes_back=True,
                )
                for n in (1, 2)
            ]
            status = machine.install(*ways)
            failed, fine = of_kind(status, "transaction_ended")
            assert (failed["exit_code"], fine["exit_code"]) == (0x800F0825, 0)
            assert "CBS_E_CANNOT_UNINSTALL" in str(failed["error"])
            assert machine.done("remove") == [guid(2)]
            assert machine.installed(*ways) == {"KB5000001": "rev 200"}

    def test_a_download_of_a_removal_does_nothing(self) -> None:
        with UpdateMachine.opened(offer(1, installed=True)) as machine:
            first = way(1)
            status = machine.follow(machine.start(one(0, first), kind=JobKind.STAGE))
            assert story(status) == [("transaction_started", 0), ("transaction_ended", 0), ("finished", None)]
            assert machine.done("remove") == []

    def test_nothing_is_removed_after_the_latest_start_or_without_a_package(self) -> None:
        with UpdateMachine.opened(offer(1, installed=True)) as machine:
            first = way(1)
            late = machine.follow(machine.start(one(0, first, seconds=-5)))
            assert [record["why"] for record in of_kind(late, "not_attempted")] == ["window"]
            status = machine.install(replace(first, kb="KB5999999", name="KB5999999"), job_id="job-2")
            (ended,) = of_kind(status, "transaction_ended")
            assert (ended["exit_code"], ended["cause"]) == (1, "refused")
            assert machine.done("remove") == []

    def test_servicing_at_work_is_waited_for(self) -> None:
        with UpdateMachine.opened(offer(1, installed=True), installer_busy_seconds=600) as machine:
            first = way(1)
            status = machine.follow(machine.start(one(0, first), quick={"lock_wait_seconds": "1"}))
            (ended,) = of_kind(status, "transaction_ended")
            assert (ended["cause"], story(status, "transaction_started")) == ("lock", [])

    def test_a_component_store_that_does_not_answer_is_an_error(self) -> None:
        with UpdateMachine.opened(offer(1, installed=True), component_store_error=0x800F0831) as machine:
            first = way(1)
            with pytest.raises(ManagerError, match="component store of Windows could not be asked"):
                machine.simulate(first)


def test_a_run_is_taken_back_with_its_reboot() -> None:
    lcu = offer(1, LCU, package=ROLLUP, needs_reboot=True, reboot_behavior=2)
    with WindowsFleet.opened(
        Scenario(
            updates=(lcu, offer(2), offer(3, "2026-11 Servicing Stack Update for Windows Server 2022", package=STACK))
        )
    ) as fleet:
        patched = fleet.patch()
        assert patched.count_updates(UpdateState.INSTALLED) == 3
        outcome = fleet.patch(undo_of=PATCHED)
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS, outcome.reason
    assert "KB5000003: the package manager would not install it: it is a servicing stack" in outcome.reason
    for name in ("KB5000001", "KB5000002"):
        removed = result_of(outcome, guid(int(name[-1])))
        assert (removed.state, removed.version_after) == (UpdateState.INSTALLED, None), removed
    assert outcome.reboot is RebootState.COMPLETED
