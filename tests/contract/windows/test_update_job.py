"""Windows: what a job installs, and what it leaves, by the scripts on a stand-in for the Windows Update Agent."""

import time
from dataclasses import replace

import pytest

from tasks.domain.errors import ManagerError, RepositoryError
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.protocols.transport import JobPhase
from tasks.domain.states import Classification, YesNoUnknown
from tests.contract.windows.update_machine import UpdateMachine, guid, of_kind, offer, one, story
from tests.lab.windows.scenario import Scenario, Service
from tests.lab.windows.state import change_state

LCU = "2026-11 Cumulative Update for Microsoft server operating system version 21H2"
STACK = "2026-11 Servicing Stack Update for Windows Server 2022"
OFFERED_NO_MORE = "no longer offered"
DONE = [("download_started", 0), ("transaction_started", 0), ("transaction_ended", 0), ("finished", None)]


class TestAssess:
    def test_everything_that_is_offered_is_told(self) -> None:
        updates = (
            offer(1, LCU, severity="Critical", reboot_behavior=2, cves=("CVE-2026-1",)),
            offer(2, hidden=True),
            offer(3, classification="update", browse_only=True),
            offer(4, type="Driver", classification="driver", no_installation_behavior=True),
            offer(5, eula_accepted=False),
            offer(6, asks_user=True),
        )
        with UpdateMachine.opened(*updates) as machine:
            state = machine.assess()
        found = {update.name: update for update in state.updates}
        assert list(found)[-1] == "KB5000001"
        lcu = found["KB5000001"]
        assert (lcu.id, lcu.available, lcu.severity) == (guid(1), "rev 200", "Critical")
        assert (lcu.classification, lcu.size_bytes) == (Classification.SECURITY, 100_000_000)
        assert found["KB5000003"].optional
        assert found["KB5000004"].optional == "a driver"
        assert (state.held, state.reboot.answer) == (("KB5000002",), YesNoUnknown.NO)
        assert [name for name, update in found.items() if update.blocked] == ["KB5000006"]
        assert [name for name, update in found.items() if update.needs_licence] == ["KB5000005"]
        assert state.problems == ()

    def test_wsus_down_is_an_error_of_its_server(self) -> None:
        policies = {"WUServer": "http://wsus:8530", r"AU\UseWUServer": 1}
        with (
            UpdateMachine.opened(offer(1), policies=policies, search_hresults=[0x80244022]) as machine,
            pytest.raises(RepositoryError, match=r"WSUS http://wsus:8530.*0x80244022"),
        ):
            machine.assess()

    def test_a_disabled_service_is_named(self) -> None:
        services = tuple(each for each in Scenario().services if each.name != "wuauserv")
        off = Service("wuauserv", "Stopped", "Disabled")
        with (
            UpdateMachine.opened(offer(1), services=(*services, off)) as machine,
            pytest.raises(ManagerError, match="ERROR_SERVICE_DISABLED"),
        ):
            machine.assess()

    def test_a_search_that_is_denied_to_the_login_is_done_by_a_job(self) -> None:
        with UpdateMachine.opened(offer(1), search_hresults=[0x80070005, 0]) as machine:
            assert list(machine.pending()) == ["KB5000001"]

    def test_a_search_that_wsus_breaks_off_goes_on(self) -> None:
        with UpdateMachine.opened(offer(1), search_hresults=[0x80244010, 0x80244010, 0]) as machine:
            assert list(machine.pending()) == ["KB5000001"]

    def test_another_updater_at_work_is_told(self) -> None:
        with UpdateMachine.opened(offer(1), installer_busy_seconds=600) as machine:
            assert machine.assess().lock_holder == "Windows servicing (TiWorker.exe)"

    def test_a_pending_reboot_is_told(self) -> None:
        with UpdateMachine.opened(reboot_pending=True) as machine:
            need = machine.assess().reboot
        assert (need.answer, need.reasons) == (YesNoUnknown.YES, ("the Windows Update Agent asks for a reboot",))


class TestInstall:
    def test_each_update_is_downloaded_and_then_installed_in_order(self) -> None:
        lcu = replace(
            offer(3, reboot_behavior=2, needs_reboot=True), title="2026-11 Security Update (KB5000003) (20348.2800)"
        )
        with UpdateMachine.opened(lcu, offer(2), offer(1, STACK)) as machine:
            updates = list(machine.pending().values())
            before = machine.simulate(*updates)
            status = machine.install(*updates)
            assert (before.refused, before.download_bytes) == ({}, 300_000_000)
            assert [update.name for update in updates] == ["KB5000001", "KB5000002", "KB5000003"]
            assert machine.done("install") == [guid(1), guid(2), guid(3)]
            marks = ("download_started", "transaction_started", "transaction_ended")
            assert story(status) == [*((kind, number) for number in range(3) for kind in marks), ("finished", None)]
            ended = of_kind(status, "transaction_ended")
            assert [(each["exit_code"], each["error"], each["reboot_required"]) for each in ended] == [
                (0, "", False),
                (0, "", False),
                (0, "", True),
            ]
            programs = [str(each["undo"]).split()[0] for each in ended]
            assert programs == ["wusa.exe", "wusa.exe", "Dism.exe"]  # a cumulative update has the servicing stack in it
            assert machine.installed(*updates) == dict.fromkeys(["KB5000001", "KB5000002", "KB5000003"], "rev 200")
            state = machine.assess(refresh=False)
            assert state.updates == ()
            assert state.reboot.answer is YesNoUnknown.YES
            assert "KB5000003" in state.reboot.reasons[0]

    def test_one_update_that_fails_fails_alone_and_is_not_tried_again(self) -> None:
        with UpdateMachine.opened(offer(1), offer(2, install_hresult=0x800F0922), offer(3)) as machine:
            updates = list(machine.pending().values())
            status = machine.install(*updates)
            first, failed, last = of_kind(status, "transaction_ended")
            assert (first["exit_code"], last["exit_code"]) == (0, 0)
            assert (failed["exit_code"], failed["cause"]) == (0x800F0922, "maintainer-script")
            assert str(failed["error"]).startswith("maintainer-script: KB5000002: 0x800F0922 CBS_E_INSTALLERS_FAILED: ")
            assert machine.installed(*updates) == {"KB5000001": "rev 200", "KB5000003": "rev 200"}
            assert machine.done("install").count(guid(2)) == 1
            assert "installing: KB5000001\n" in status.log
            assert status.log.count("CBS_E_INSTALLERS_FAILED") == 1
            assert "installed: KB5000002" not in status.log

    def test_a_download_that_fails_for_a_while_is_tried_again(self) -> None:
        with UpdateMachine.opened(offer(1, download_hresult=0x80072EE2, download_failures=2)) as machine:
            (update,) = machine.pending().values()
            status = machine.install(update)
            assert story(status) == DONE
            assert machine.installed(update) == {"KB5000001": "rev 200"}
            assert status.log.count("ERROR_INTERNET_TIMEOUT") == 2

    def test_a_download_that_fails_for_good_begins_nothing(self) -> None:
        broken = offer(1, download_hresult=0x80244019)
        with UpdateMachine.opened(broken, offer(2)) as machine:
            status = machine.install(*machine.pending().values())
            failed, fine = of_kind(status, "transaction_ended")
            assert (failed["exit_code"], failed["cause"], fine["exit_code"]) == (0x80244019, "fetch", 0)
            assert [record["number"] for record in of_kind(status, "transaction_started")] == [1]
            assert machine.done("download").count(guid(1)) == 1

    def test_exclusive_updates_are_installed_alone(self) -> None:
        with UpdateMachine.opened(offer(1, impact=2), offer(2, impact=2), offer(3)) as machine:
            status = machine.install(*machine.pending().values())
            assert [each["exit_code"] for each in of_kind(status, "transaction_ended")] == [0, 0, 0]

    def test_what_needs_the_servicing_stack_comes_after_it(self) -> None:
        with UpdateMachine.opened(offer(2, LCU, needs=(guid(1),)), offer(1, STACK, impact=2)) as machine:
            status = machine.install(*machine.pending().values())
            assert [each["exit_code"] for each in of_kind(status, "transaction_ended")] == [0, 0]

    @pytest.mark.parametrize(("result", "code", "said"), [(3, 0, "0x80240FFF"), (5, 5, "was aborted")])
    def test_what_succeeds_with_errors_is_installed_and_what_is_aborted_is_not(
        self, result: int, code: int, said: str
    ) -> None:
        hresult = 0x80240FFF if result == 3 else 0
        with UpdateMachine.opened(offer(1, install_result=result, install_hresult=hresult)) as machine:
            (update,) = machine.pending().values()
            (ended,) = of_kind(machine.install(update), "transaction_ended")
            assert ended["exit_code"] == code
            assert said in str(ended["error"])
            assert bool(machine.installed(update)) is (code == 0)

    def test_several_updates_in_one_transaction_fail_alone_too(self) -> None:
        with UpdateMachine.opened(offer(1, install_hresult=0x80070643), offer(2), offer(3)) as machine:
            updates = list(machine.pending().values())
            status = machine.follow(machine.start(one(0, *updates)))
            (ended,) = of_kind(status, "transaction_ended")
            assert ended["exit_code"] == 0x80070643
            assert "KB5000001" in str(ended["error"])
            assert "; " not in str(ended["error"])
            assert machine.installed(*updates) == {"KB5000002": "rev 200", "KB5000003": "rev 200"}


class TestNotBegun:
    def why(self, machine: UpdateMachine) -> tuple[str, str]:
        (update,) = machine.pending().values()
        return self.install(machine, update)

    @staticmethod
    def install(machine: UpdateMachine, update: Update, *, seconds: float = 600) -> tuple[str, str]:
        """Install it, and return why it was not begun, and the detail."""
        status = machine.install(update, seconds=seconds)
        (record,) = of_kind(status, "not_attempted")
        assert not of_kind(status, "transaction_started")
        assert machine.done("install") == []
        return str(record["why"]), str(record["detail"])

    def test_what_an_installed_update_has_superseded_since_is_not_installed(self) -> None:
        with UpdateMachine.opened(
            offer(1), offer(2, LCU, supersedes=(guid(1),), appears_after=(guid(3),)), offer(3)
        ) as machine:
            old, first = machine.pending().values()
            machine.install(first)
            assert machine.simulate(old).refused == {}  # what is chosen stays chosen, whatever is newer
            assert list(machine.pending()) == ["KB5000002"]
            machine.install(*machine.pending().values(), job_id="job-2")
            status = machine.install(old, job_id="job-3")
            (record,) = of_kind(status, "not_attempted")
            assert record["why"] == "it is no longer offered"
            assert machine.installed(old, first) == {"KB5000003": "rev 200"}
            assert OFFERED_NO_MORE in machine.simulate(old).refused[old.id]

    def test_what_a_preview_supersedes_is_missing_until_it_is_installed(self) -> None:
        preview = offer(2, "2026-11 Cumulative Update Preview", browse_only=True, supersedes=(guid(1),))
        with UpdateMachine.opened(offer(1, LCU, needs_reboot=True, rolled_back=True), preview) as machine:
            assert set(machine.pending()) == {"KB5000001", "KB5000002"}
            fix = machine.pending()["KB5000001"]
            machine.install(fix)
            machine.warm.windows.power_cut()
            assert machine.installed(fix) == {}  # the boot has undone it: the history alone would say otherwise

    def test_another_revision_is_not_installed(self) -> None:
        with UpdateMachine.opened(offer(1, revision=201)) as machine:
            (update,) = machine.pending().values()
            older = replace(update, available="rev 200")
            refused = machine.simulate(older).refused
            assert "rev 201 is offered now" in refused[update.id]
            why, detail = self.install(machine, older)
            assert (why, detail) == (
                "it is no longer offered",
                "KB5000001: revision 201 of it has replaced revision 200",
            )

    def test_what_was_hidden_since_is_left(self) -> None:
        with UpdateMachine.opened(offer(1)) as machine:
            (update,) = machine.pending().values()
            with change_state(machine.warm.windows.folder) as state:
                state["updates"][guid(1)]["hidden"] = True
            assert self.install(machine, update)[0] == "it is on hold"

    def test_licence_terms_are_accepted_only_if_that_is_allowed(self) -> None:
        with UpdateMachine.opened(offer(1, eula_accepted=False)) as machine:
            (update,) = machine.pending().values()
            assert update.needs_licence
            assert self.install(machine, replace(update, needs_licence=False)) == (
                "its licence terms are not accepted",
                "KB5000001: fleetpatch may not accept them",
            )
            machine.install(update, job_id="job-2")
            assert machine.installed(update) == {"KB5000001": "rev 200"}

    def test_what_asks_a_person_is_left(self) -> None:
        with UpdateMachine.opened(offer(1, asks_user=True)) as machine:
            assert self.why(machine)[0] == "it can not be installed unattended"

    def test_a_window_that_is_over_begins_nothing(self) -> None:
        with UpdateMachine.opened(offer(1)) as machine:
            (update,) = machine.pending().values()
            assert self.install(machine, update, seconds=-5) == ("window", "")
            assert machine.done("download") == []

    def test_a_reboot_that_has_to_come_first_is_told(self) -> None:
        with UpdateMachine.opened(offer(1)) as machine:
            (update,) = machine.pending().values()
            with change_state(machine.warm.windows.folder) as state:
                state["reboot_before_installation"] = True
            assert self.install(machine, update)[0] == "a reboot has to come first"

    def test_another_installation_is_waited_for(self) -> None:
        with UpdateMachine.opened(offer(1), installer_busy_seconds=6) as machine:
            (update,) = machine.pending().values()
            assert story(machine.install(update)) == DONE

    def test_another_installation_that_does_not_end_is_a_lock(self) -> None:
        with UpdateMachine.opened(offer(1), installer_busy_seconds=600) as machine:
            (update,) = machine.pending().values()
            status = machine.install(update, quick={"lock_wait_seconds": "2"})
            (ended,) = of_kind(status, "transaction_ended")
            assert (ended["exit_code"], ended["cause"]) == (1, "lock")
            assert not of_kind(status, "transaction_started")

    def test_a_job_that_repairs_has_nothing_to_do(self) -> None:
        with UpdateMachine.opened(offer(1)) as machine:
            status = machine.follow(machine.start(one(0), kind=JobKind.REPAIR))
            assert [record["why"] for record in of_kind(status, "not_attempted")] == ["nothing to repair"]


class TestTime:
    def test_the_window_may_close_between_two_updates(self) -> None:
        with UpdateMachine.opened(offer(1, install_gate="slow"), offer(2)) as machine:
            first, second = machine.pending().values()
            late = one(1, second, seconds=3)
            job = machine.start(one(0, first), late)
            machine.wait_for(job, "transaction_started")
            machine.warm.windows.wait_until(lambda _: time.time() > late.latest_start + 2)
            machine.warm.windows.open_gate("slow")
            status = machine.follow(job)
            assert [record["exit_code"] for record in of_kind(status, "transaction_ended")] == [0]
            assert [(r["number"], r["why"]) for r in of_kind(status, "not_attempted")] == [(1, "window")]
            assert machine.installed(first, second) == {"KB5000001": "rev 200"}

    def test_a_stop_takes_effect_between_two_updates(self) -> None:
        with UpdateMachine.opened(offer(1, install_gate="slow"), offer(2)) as machine:
            first, second = machine.pending().values()
            job = machine.start(one(0, first), one(1, second))
            machine.wait_for(job, "transaction_started")
            machine.stop(job)
            machine.warm.windows.open_gate("slow")
            status = machine.follow(job)
            assert [(r["number"], r["why"]) for r in of_kind(status, "not_attempted")] == [(1, "stop")]
            assert story(status, "download_started") == [("download_started", 0)]
            assert machine.installed(first, second) == {"KB5000001": "rev 200"}

    def test_a_download_that_does_not_end_in_time_is_left_and_nothing_is_installed(self) -> None:
        with UpdateMachine.opened(offer(1, download_gate="slow"), offer(2)) as machine:
            first, second = machine.pending().values()
            status = machine.follow(machine.start(one(0, first, stop_in=3), one(1, second)))
            assert [(r["number"], r["why"]) for r in of_kind(status, "not_attempted")] == [(0, "download")]
            assert machine.installed(first, second) == {"KB5000002": "rev 200"}

    def test_a_stop_ends_the_wait_for_a_download(self) -> None:
        with UpdateMachine.opened(offer(1, download_gate="slow")) as machine:
            (update,) = machine.pending().values()
            job = machine.start(one(0, update))
            machine.wait_for(job, "progress")
            machine.stop(job)
            status = machine.follow(job)
            assert [record["why"] for record in of_kind(status, "not_attempted")] == ["stop"]

    def test_downloading_ahead_changes_nothing_and_ends_in_time(self) -> None:
        with UpdateMachine.opened(offer(1), offer(2), offer(3, download_gate="slow")) as machine:
            first, second, slow = machine.pending().values()
            status = machine.follow(machine.start(one(0, first, second), kind=JobKind.STAGE))
            assert [record["exit_code"] for record in of_kind(status, "transaction_ended")] == [0]
            assert machine.installed(first, second) == {}
            assert machine.simulate(first, second).download_bytes == 0
            parts = one(0, first, slow, stop_in=3)
            late = machine.follow(machine.start(parts, kind=JobKind.STAGE, job_id="job-2"))
            assert [record["why"] for record in of_kind(late, "not_attempted")] == ["download"]


class TestReboot:
    def test_an_update_that_the_boot_undoes_is_offered_again_and_not_installed(self) -> None:
        with UpdateMachine.opened(offer(1, LCU, needs_reboot=True, rolled_back=True)) as machine:
            (update,) = machine.pending().values()
            machine.install(update)
            assert machine.installed(update) == {"KB5000001": "rev 200"}
            machine.warm.windows.power_cut()
            assert machine.installed(update) == {}
            state = machine.assess(refresh=False)
            assert [each.name for each in state.updates] == ["KB5000001"]
            (warning,) = state.warnings
            assert warning.startswith("KB5000001 was installed once, and is offered again")

    def test_an_agent_that_lies_is_not_believed(self) -> None:
        with UpdateMachine.opened(offer(1, lies=True)) as machine:
            (update,) = machine.pending().values()
            status = machine.install(update)
            assert [record["exit_code"] for record in of_kind(status, "transaction_ended")] == [0]
            assert machine.installed(update) == {}

    def test_an_update_that_the_boot_completes_is_installed(self) -> None:
        with UpdateMachine.opened(offer(1, LCU, needs_reboot=True, ubr_after=2800)) as machine:
            (update,) = machine.pending().values()
            machine.install(update)
            machine.warm.windows.power_cut()
            assert machine.installed(update) == {"KB5000001": "rev 200"}
            assert machine.assess(refresh=False).reboot.answer is YesNoUnknown.NO

    def test_a_power_cut_during_an_installation_loses_the_job_and_tells_what_is_there(self) -> None:
        with UpdateMachine.opened(offer(1, install_gate="never"), offer(2)) as machine:
            updates = list(machine.pending().values())
            job = machine.start(*(one(number, update) for number, update in enumerate(updates)))
            machine.wait_for(job, "transaction_started")
            machine.warm.windows.power_cut()
            assert machine.look(job).phase is JobPhase.LOST
            assert machine.installed(*updates) == {}
