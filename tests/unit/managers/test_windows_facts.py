"""Windows: reasons of a reboot, who else updates the machine, and hotpatches."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import LivePatching, PackageState, RebootNeed
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.windows_update.assessment import parse_windows_assessment
from tasks.machines.managers.windows_update.reboot_need import RebootRecord, find_windows_reboot_need
from tasks.machines.managers.windows_update.records import parse_record
from tasks.rules.hotpatch import BASELINE_MONTHS, find_next_baseline, find_second_tuesday
from tests.unit.managers.windows_records import (
    ENROLLED,
    NOW,
    assessment,
    history_record,
    policy_record,
    system_record,
)

HARD = ("update_agent", "servicing", "servicing_continues", "config_manager", "renamed", "joining")
MARKS = ["PackagesPending", "PostRebootReporting", "DVDRebootSignal", "UpdateExeVolatile", "CurrentRebootAttempts"]


def state_of(*records: Any) -> PackageState:
    return parse_windows_assessment(assessment(*records))


def reboot(uptime: float | None = 86_400, **values: Any) -> RebootNeed:
    return find_windows_reboot_need(parse_record(RebootRecord, {"kind": "reboot", **values}), uptime=uptime)


class TestReboot:
    @given(st.integers(0, 500), st.lists(st.sampled_from(MARKS), unique=True))
    def test_file_renames_and_marks_alone_are_noise(self, renames: int, marks: list[str]) -> None:
        assert reboot(file_renames=renames, marks=marks) == RebootNeed(YesNoUnknown.NO)

    @pytest.mark.parametrize("name", HARD)
    def test_each_hard_reason_means_yes_and_has_words(self, name: str) -> None:
        need = reboot(**{name: True}, file_renames=2, marks=["PackagesPending"])
        assert need.answer is YesNoUnknown.YES
        assert need.reasons[1:] == ("2 files are to be renamed or removed at the next boot", "marks: PackagesPending")

    def test_servicing_alone_soon_after_a_boot_is_not_trusted(self) -> None:
        assert reboot(uptime=60, servicing=True).answer is YesNoUnknown.UNKNOWN
        assert reboot(uptime=60, servicing=True, update_agent=True).answer is YesNoUnknown.YES
        assert reboot(uptime=901, servicing=True).answer is YesNoUnknown.YES
        assert reboot(uptime=None, servicing=True).answer is YesNoUnknown.YES

    def test_what_could_not_be_read_is_unknown(self) -> None:
        assert reboot(known=False).answer is YesNoUnknown.UNKNOWN
        assert find_windows_reboot_need(None).answer is YesNoUnknown.UNKNOWN


def names(state: PackageState) -> list[str]:
    return [name for name, _ in state.auto_updaters]


class TestOtherManagers:
    @pytest.mark.parametrize(
        ("policy", "kind", "expected"),
        [
            ({}, "Server", []),
            ({}, "Client", ["Automatic Updates"]),
            ({"AUOptions": "3"}, "Server", []),
            ({"AUOptions": "4"}, "Server", ["Automatic Updates"]),
            ({"AUOptions": "4", "NoAutoUpdate": "1"}, "Server", []),
            ({"AUOptions": "7"}, "Server", []),
            ({"AUOptions": "5"}, "Server", ["Automatic Updates"]),
            ({"LocalAUOptions": "4"}, "Server", ["Automatic Updates"]),
            ({"AUOptions": "3", "LocalAUOptions": "4"}, "Server", []),
        ],
    )
    def test_automatic_updates_install_by_themselves_only_if_a_policy_or_windows_says_so(
        self, policy: dict[str, str], kind: str, expected: list[str]
    ) -> None:
        state = state_of(policy_record(**policy), system_record(installation_type=kind))
        assert names(state) == expected
        assert state.unpausable_updaters == ()

    def test_the_time_of_the_policy_is_in_the_machines_own_zone(self) -> None:
        # it is Wednesday, 13:06:40 there; the next Sunday 3 o'clock is 3 days, 13 h, 53 min and 20 s away
        policy = policy_record(AUOptions="4", ScheduledInstallDay="1", ScheduledInstallTime="3")
        (found,) = state_of(policy, system_record(offset_minutes=120)).auto_updaters
        assert found == ("Automatic Updates", 3 * 86_400 + 13 * 3_600 + 53 * 60 + 20)

    @given(st.integers(0, 7), st.integers(0, 23), st.integers(NOW, NOW + 10**7), st.integers(-720, 840))
    def test_the_next_time_is_within_a_week(self, day: int, hour: int, now: int, offset: int) -> None:
        policy = policy_record(AUOptions="4", ScheduledInstallDay=str(day), ScheduledInstallTime=str(hour))
        ((_, seconds),) = state_of(policy, system_record(at=now, offset_minutes=offset)).auto_updaters
        assert seconds is not None
        assert 0 < seconds <= 7 * 86_400

    @pytest.mark.parametrize("values", [("9", "3"), ("0", "24"), ("0", "x"), ("0", ""), ("²", "3"), ("0", "٣")])
    def test_a_time_that_is_none_is_unknown(self, values: tuple[str, str]) -> None:
        policy = policy_record(AUOptions="4", ScheduledInstallDay=values[0], ScheduledInstallTime=values[1])
        assert state_of(policy).auto_updaters == (("Automatic Updates", None),)

    def test_other_products_are_told_and_can_not_be_paused(self) -> None:
        agents = {"kind": "agents", "config_manager": True, "mdm": True, "co_management": 16, "azure_updates": True}
        state = state_of(policy_record(AUOptions="4"), agents)
        assert len(names(state)) == 4
        assert state.unpausable_updaters == tuple(names(state)[1:])

    def test_the_agent_of_aws_counts_only_where_its_patch_manager_has_installed(self) -> None:
        state = state_of({"kind": "agents", "aws": True, "aws_patches": True})
        assert names(state) == list(state.unpausable_updaters) == ["AWS Systems Manager's Patch Manager"]
        assert state.warnings == ()
        for agents in ({"aws": True}, {"aws_patches": True}):
            assert names(state_of({"kind": "agents", **agents})) == []

    def test_enrolment_without_policies_of_updates_is_no_updater(self) -> None:
        assert names(state_of({"kind": "agents", "mdm": True, "co_management": 1})) == []

    @pytest.mark.parametrize(
        ("record", "word"),
        [
            ({"kind": "agents", "aws": True}, "AWS"),
            ({"kind": "service", "name": "wuauserv", "start": "Disabled"}, "wuauserv"),
        ],
    )
    def test_what_its_owner_should_know(self, record: dict[str, Any], word: str) -> None:
        state = state_of(record)
        (warning,) = (*state.warnings, *state.remarks)
        assert word in warning

    def test_an_idle_machine_has_nobody_at_work(self) -> None:
        state = state_of({"kind": "busy", "servicing": 1, "worker": False})
        assert (state.lock_holder, state.at_work) == ("", "")

    def test_servicing_at_work_is_told_apart_from_its_worker_at_work(self) -> None:
        assert state_of({"kind": "busy", "servicing": 2}).at_work == "Windows servicing"
        working = state_of({"kind": "busy", "servicing": 0, "worker": True})
        assert (working.lock_holder, working.at_work) == ("Windows servicing (TiWorker.exe)", "")


AZURE_2022 = system_record(edition="ServerTurbine", build="20348", ubr=2700)
STANDARD_2025 = system_record(edition="ServerStandard", build="26100", ubr=3981)
HOTPATCH_TITLE = "2026-11 Hotpatch Update for Windows Server 2025 for x64-based Systems (KB5058497)"


def live(*records: Any) -> LivePatching | None:
    return state_of(*records).live_patching


class TestHotpatch:
    def test_an_enrolled_machine_tells_the_next_baseline_and_its_hotpatches(self) -> None:
        then = [history_record(1, title=HOTPATCH_TITLE), history_record(2, title=HOTPATCH_TITLE, at=NOW - 86_400 * 90)]
        found = live(STANDARD_2025, ENROLLED | {"licence": 1, "arc": True}, *then)
        assert found is not None
        assert found.state == "enrolled, next planned baseline (with a reboot) on 2027-01-12"
        assert (found.kernel, found.patches, found.problem) == ("26100.3981", (HOTPATCH_TITLE,), "")

    @pytest.mark.parametrize(
        ("system", "changes", "problem"),
        [
            (AZURE_2022, {}, ""),
            (AZURE_2022, {"vbs_status": 1}, "virtualization-based security is set, but does not run"),
            (AZURE_2022, {"vbs_status": 0, "vbs_configured": 0}, "virtualization-based security is off"),
            (AZURE_2022, {"table_size": 0}, "HotPatchTableSize is 0"),
            (AZURE_2022, {"secure_boot": 0}, "Secure Boot is off"),
            (STANDARD_2025, {}, "no licence of Azure Arc for hotpatches is found"),
            (STANDARD_2025, {"licence": 1}, ""),
        ],
    )
    def test_what_keeps_it_from_hotpatches(self, system: dict[str, Any], changes: dict[str, Any], problem: str) -> None:
        found = live(system, ENROLLED | changes)
        assert found is not None
        assert found.problem == problem

    @pytest.mark.parametrize(
        ("system", "licence", "state"),
        [
            (AZURE_2022, None, "not enrolled"),
            (STANDARD_2025, 1, "not enrolled"),
            (STANDARD_2025, None, None),
            (system_record(), 1, None),
        ],
    )
    def test_only_a_machine_that_can_get_hotpatches_tells_of_them(
        self, system: dict[str, Any], licence: int | None, state: str | None
    ) -> None:
        found = live(system, ENROLLED | {"enrolled": "", "licence": licence, "arc": True})
        assert (found.state if found else None) == state

    @given(st.dates(date(2022, 1, 1), date(2090, 12, 31)))
    def test_a_baseline_is_a_second_tuesday_within_four_months(self, today: date) -> None:
        day = find_next_baseline(today)
        assert 0 <= (day - today).days <= 100
        assert (day.weekday(), day.month in BASELINE_MONTHS, 8 <= day.day <= 14) == (1, True, True)

    def test_a_hotpatch_never_mitigates_a_reboot(self) -> None:
        need = state_of(AZURE_2022, ENROLLED, {"kind": "reboot", "update_agent": True}).reboot
        assert (need.answer, need.mitigated_by) == (YesNoUnknown.YES, "")

    def test_the_day_of_updates(self) -> None:
        assert find_second_tuesday(2026, 11) == datetime(2026, 11, 10, tzinfo=UTC).date()
