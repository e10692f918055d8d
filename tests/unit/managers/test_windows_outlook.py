"""Windows: whether a plan expects a reboot and why, and updates that fail again and again."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.domain.model import MachinePlan, PackageState, Selection
from tasks.domain.states import Classification, UpdateState, YesNoUnknown
from tasks.machines.managers.windows_update.assessment import parse_windows_assessment
from tasks.machines.managers.windows_update.hresults import ERROR_CODES, explain_code
from tasks.machines.managers.windows_update.update_history import MAX_TRIES
from tasks.rules.runs.figures import explain_reboot, predict_reboot
from tasks.rules.updates.selection import describe_unapplied_limits, select_updates
from tasks.rules.updates.transaction_planning import predict_reboot_need
from tests.unit.managers.windows_records import (
    DRIVER,
    ENROLLED,
    NOW,
    assessment,
    history_record,
    system_record,
    update_record,
)

DAY = 86_400
NO, PERHAPS, YES = YesNoUnknown.NO, YesNoUnknown.UNKNOWN, YesNoUnknown.YES
NEVER, ALWAYS, CAN_ASK = 0, 1, 2
ENROLLED_BY_ARC = ENROLLED | {"licence": 1, "arc": True}
HOTPATCH = update_record(6, title="Hotpatch Update for Windows Server 2025 (KB5000006)", reboot_behavior=CAN_ASK)
LCU = update_record(5, title="2026-11 Cumulative Update for Windows Server 2025 (KB5000005)", reboot_behavior=CAN_ASK)
NET = update_record(4, title="2026-11 Cumulative Update for .NET Framework 4.8 (KB5000004)", reboot_behavior=CAN_ASK)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def state_of(*records: dict[str, Any], now: int = NOW, **system: Any) -> PackageState:
    of_machine = {"build": "26100", "ubr": 3981, "edition": "ServerStandard", **system}
    return parse_windows_assessment(assessment(system_record(at=now, **of_machine), *records))


def plan_of(*records: dict[str, Any], now: int = NOW, **system: Any) -> MachinePlan:
    state = state_of(*records, now=now, **system)
    everything = Selection(classifications=frozenset(Classification), include=("*",))
    chosen, skipped = select_updates(state, everything)
    return MachinePlan("one", chosen, skipped, reboot_expected=predict_reboot_need(chosen, state.reboot))


class TestExpectedReboot:
    def test_only_hotpatches_in_a_month_of_hotpatches_need_none(self) -> None:
        plan = plan_of(ENROLLED_BY_ARC, HOTPATCH, now=at("2026-11-18"))
        assert predict_reboot(plan) is NO
        assert explain_reboot(plan) == (
            "KB5000006 (a hotpatch, which changes the running system; the next planned baseline is on 2027-01-12); "
            "what the machine says after the installation decides"
        )

    @pytest.mark.parametrize(
        ("day", "expected"),
        [
            ("2026-10-12", NO),  # the monthly updates of September are the newest
            ("2026-10-13", YES),
            ("2026-11-09", YES),
            ("2026-11-10", NO),
            ("2027-01-11", NO),
            ("2027-01-12", YES),
            ("2027-04-13", YES),
            ("2027-07-13", YES),
        ],
    )
    def test_a_month_with_a_planned_baseline_expects_one(self, day: str, expected: YesNoUnknown) -> None:
        plan = plan_of(ENROLLED_BY_ARC, HOTPATCH, now=at(day))
        assert predict_reboot(plan) is expected
        assert ("planned baseline" in explain_reboot(plan)) is True

    @pytest.mark.parametrize(
        ("other", "expected", "reason"),
        [
            (LCU, YES, "KB5000005 (a cumulative update, which a boot completes)"),
            (NET | {"reboot_behavior": ALWAYS}, YES, "KB5000004 (it always needs one)"),
            (NET, PERHAPS, "KB5000004 (it may ask for one)"),
            (HOTPATCH | {"reboot_behavior": ALWAYS}, YES, "KB5000006 (it always needs one)"),
        ],
    )
    def test_another_selected_update_may_need_one_also_then(
        self, other: dict[str, Any], expected: YesNoUnknown, reason: str
    ) -> None:
        plan = plan_of(ENROLLED_BY_ARC, HOTPATCH | {"id": "0000abcd-0000-4000-8000-000000000000"}, other)
        assert (predict_reboot(plan), explain_reboot(plan)) == (expected, reason)

    @pytest.mark.parametrize(
        ("changes", "doubt"),
        [
            ({"enrolled": ""}, "the machine is not enrolled for hotpatches"),
            ({"licence": 0}, "the machine's edition or licence is not one for hotpatches"),
            ({"vbs_status": 0}, "virtualization-based security is set, but does not run"),
        ],
    )
    def test_a_machine_that_is_not_ready_for_hotpatches_may_need_one(self, changes: dict[str, Any], doubt: str) -> None:
        plan = plan_of(ENROLLED_BY_ARC | changes, HOTPATCH)
        assert (predict_reboot(plan), explain_reboot(plan)) == (PERHAPS, f"KB5000006 (a hotpatch, but {doubt})")

    def test_what_the_publisher_says_of_a_hotpatch_counts_in_every_month(self) -> None:
        plan = plan_of(HOTPATCH | {"reboot_behavior": NEVER}, now=at("2026-10-20"))
        assert predict_reboot(plan) is NO

    def test_a_request_without_reboots_says_what_is_left(self) -> None:
        plan = plan_of(LCU)
        never = MachinePlan("one", plan.chosen, (), reboot_expected=NO)
        assert explain_reboot(never).startswith("the request allows none, although one is needed for KB5000005")

    def test_updates_that_say_nothing_need_no_words(self) -> None:
        assert explain_reboot(plan_of(update_record())) == ""


def failure(days_ago: float, hresult: int = 0x8024200B, **changes: Any) -> dict[str, Any]:
    return history_record(at=int(NOW - days_ago * DAY), result_code=4, hresult=hresult, **changes)


def success(days_ago: float, **changes: Any) -> dict[str, Any]:
    return history_record(at=int(NOW - days_ago * DAY), **changes)


FAILED = [failure(days) for days in (3, 2, 1)]


def given_up(*records: dict[str, Any]) -> str:
    (update,) = state_of(update_record(), *records).updates
    return update.given_up


class TestGivenUp:
    def test_what_failed_again_and_again_is_excluded_and_says_how_to_try_it_again(self) -> None:
        chosen, (left,) = select_updates(state_of(update_record(), *FAILED), Selection())
        assert (chosen, left.state) == ((), UpdateState.BLOCKED)
        assert left.reason.startswith("its last 3 tries on this machine failed (the last one on 2026-11-17: 0x8024200B")
        assert left.reason.endswith("to try it again, name it in include, without wildcards")
        assert left.update.remark == left.reason

    @pytest.mark.parametrize(
        ("mask", "is_chosen"),
        [("KB5000001", True), ("5000001", True), ("*", False), ("KB500000?", False), ("KB5000009", False)],
    )
    def test_only_its_own_name_tries_it_again(self, mask: str, *, is_chosen: bool) -> None:
        selection = Selection(include=(mask,))
        chosen, _ = select_updates(state_of(update_record(), *FAILED), selection)
        assert bool(chosen) is is_chosen
        assert any("KB5000001 is tried again" in note for note in describe_unapplied_limits(chosen, selection)) is (
            is_chosen
        )

    def test_an_exclude_wins_over_its_name(self) -> None:
        selection = Selection(include=("KB5000001",), exclude=("KB5000001",))
        assert select_updates(state_of(update_record(), *FAILED), selection)[0] == ()

    def test_what_a_boot_undid_counts_once_for_each_installation(self) -> None:
        undone = [each for days in (3, 2) for each in (success(days), failure(days - 0.02))]
        assert given_up(*undone) == ""
        assert "3 times Windows undid it during a boot" in given_up(*undone, success(1))

    def test_tries_that_follow_at_once_are_one(self) -> None:
        assert given_up(*(failure(1 - hours / 24) for hours in (0, 1, 2, 3))) == ""

    @pytest.mark.parametrize(
        "hresult", [0x80240034, 0x80240009, 0x80070070, 0x80240023, 0x80070005, 0x80070BC9, 0x8007000E, 0x8024A004]
    )
    def test_the_network_locks_the_disk_and_settings_are_no_fault_of_the_update(self, hresult: int) -> None:
        assert given_up(*(failure(days, hresult) for days in (5, 4, 3, 2, 1))) == ""

    @given(st.one_of(st.sampled_from(sorted(ERROR_CODES)), st.integers(-(2**31), 2**31 - 1)))
    @example(0x80D02002)
    @example(0x80240069)
    @example(0x8007041D)
    @example(0x80073712)
    @example(0x80242FFE)
    @example(0x800F0ABC)
    def test_only_a_code_that_the_table_blames_on_the_update_excludes_it(self, hresult: int) -> None:
        known = explain_code(hresult)
        state = state_of(update_record(), *(failure(days, hresult) for days in (5, 4, 3, 2, 1)))
        assert (state.updates[0].given_up != "") is known.is_update_fault
        assert not known.is_update_fault or known.name

    def test_no_code_whose_remedy_is_a_state_of_the_machine_is_the_updates_fault(self) -> None:
        remedies = {code.remedy for code in ERROR_CODES.values() if code.is_update_fault}
        assert remedies == {"", "see C:\\Windows\\Logs\\CBS\\CBS.log"}

    def test_a_fault_of_the_machine_is_told_with_its_remedy_and_excludes_nothing(self) -> None:
        state = state_of(update_record(), *(failure(days, 0x80073712) for days in (3, 2, 1)))
        assert select_updates(state, Selection())[0] == state.updates
        (remark,) = state.remarks
        assert remark.startswith("KB5000001 fails again and again: its last 3 tries on this machine failed")
        assert "dism /online /cleanup-image /restorehealth" in remark
        assert remark.endswith("mend the cause on the machine")

    @pytest.mark.parametrize(
        ("hresult", "days", "is_told"),
        [
            (0x800F1234, (3, 2, 1), True),
            (0x800F1234, (2, 1), False),
            (0x80070005, (3, 2, 1), True),
            (0x80D02002, (3, 2, 1), False),
            (0x800F0922, (3, 2, 1), True),
            (0x80070643, (3, 2, 1), True),
            (0x8024200B, (3, 2, 1), False),
        ],
    )
    def test_what_fails_for_an_unknown_cause_is_told_after_three_tries(
        self, hresult: int, days: tuple[int, ...], *, is_told: bool
    ) -> None:
        assert bool(state_of(update_record(), *(failure(ago, hresult) for ago in days)).remarks) is is_told

    def test_tries_of_others_do_not_count_but_what_a_boot_undid_does(self) -> None:
        foreign = {"client": "UpdateOrchestrator"}
        assert given_up(*(each | foreign for each in FAILED)) == ""
        assert given_up(*FAILED[1:], FAILED[0] | foreign) == ""
        assert "3 times Windows undid it" in given_up(*(success(days, **foreign) for days in (3, 2, 1)))

    @pytest.mark.parametrize(
        "changes",
        [{"revision": 199}, {"operation": 2}, {"result_code": 5}, {"id": "0000abcd-0000-4000-8000-0000000000ff"}],
    )
    def test_other_entries_do_not_count(self, changes: dict[str, Any]) -> None:
        assert given_up(*(each | changes for each in FAILED)) == ""

    def test_what_was_before_a_removal_does_not_count(self) -> None:
        assert given_up(*FAILED, history_record(operation=2, at=NOW - 60)) == ""

    def test_a_removal_that_only_servicing_tells_ends_the_count_of_its_article(self) -> None:
        tries = [success(days) for days in (4, 3, 2)]
        removal = {"kind": "removal", "kb": "KB5000001", "at": NOW - DAY}
        assert "3 times Windows undid it" in given_up(*tries, removal | {"kb": "KB500000"}, removal | {"at": None})
        assert "3 times" in given_up(*tries, removal | {"at": NOW + DAY})  # by a clock that was wrong
        assert given_up(*tries, removal) == ""
        assert not state_of(update_record(), *tries, removal).warnings
        assert given_up(*FAILED[:2], removal | {"at": NOW - 90_000}, FAILED[2]) == ""

    def test_fewer_tries_do_not_count(self) -> None:
        assert len(FAILED) == MAX_TRIES
        assert given_up(*FAILED[1:]) == ""

    def test_an_optional_update_is_still_only_for_masks(self) -> None:
        state = state_of(update_record(categories=[DRIVER]), *FAILED)
        (left,) = select_updates(state, Selection())[1]
        assert left.state is UpdateState.NOT_SELECTED
