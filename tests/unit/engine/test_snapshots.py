"""A snapshot before the first change of a machine, and the way back to it when the run fails there."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.request.patch_request import PatchRequest
from inventory.machine import Check, CheckKind
from tasks.domain.model import Outcome
from tasks.domain.protocols.records import JournalMark
from tasks.domain.provided_machines import Consistency, ProvidedMachine, ProviderAct, ProviderOrder, Snapshot
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tasks.rules.runs.snapshots import SNAPSHOT_ACT, build_snapshot_id
from tests.support.fake_packages import FakePackage
from tests.support.fake_provider import FakeProvider, ProviderFault
from tests.support.fleet import outcome_of, result_of
from tests.support.mortal import Killed, Life, choose_calls
from tests.support.snapshot_fleet import SnapshotFleet
from tests.support.taking_up import RUN, begin, resume_unless_ended
from tests.support.told_lines import ToldLines

TAKE, REVERT, DELETE = ProviderAct.TAKE_SNAPSHOT, ProviderAct.REVERT, ProviderAct.DELETE_SNAPSHOT
POLICY = {"take": "before", "revert_on_failure": True}
BEFORE = {"a": "1.0", "b": "1.0"}


@pytest.fixture
def fleet() -> SnapshotFleet:
    fleet = SnapshotFleet()
    fleet.add("web", [FakePackage("a", seconds=20), FakePackage("b", seconds=20, asks_reboot=True)])
    return fleet


def find_messages(outcome: Outcome) -> list[str]:
    return [finding.message for finding in outcome.findings if finding.check == "snapshot"]


def is_untouched(fleet: SnapshotFleet, name: str = "web") -> bool:
    machine = fleet.machines[name]
    return not machine.installs() and machine.boots.count == 0


def break_boot(fleet: SnapshotFleet) -> None:
    fleet.machines["web"].boots.up_after = None


@pytest.mark.parametrize("snapshot", [None, {"take": "before", "patch_without": True}])
def test_a_machine_whose_disks_somebody_has_taken_back_is_not_changed(
    fleet: SnapshotFleet, snapshot: dict[str, Any] | None
) -> None:
    fleet.hypervisor.taken_back.add("web")
    report = fleet.patch(snapshot=snapshot) if snapshot else fleet.patch()
    outcome = outcome_of(report, "web")
    (finding,) = [finding for finding in outcome.findings if finding.check == "disks"]
    assert (finding.level, finding.remedy) == (FindingLevel.BLOCK, "The way back.")
    assert (outcome.state, is_untouched(fleet)) == (OperationState.FAILED, True)
    assert not fleet.hypervisor.orders


def test_what_was_taken_back_stays_so_while_the_provider_is_silent(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.taken_back.add("web")
    fleet.hypervisor.is_away = True
    outcome = outcome_of(fleet.patch(), "web")
    (finding,) = [finding for finding in outcome.findings if finding.check == "disks"]
    assert finding.level is FindingLevel.BLOCK
    assert "does not answer; before: somebody has taken back its disks" in finding.message
    assert (outcome.state, is_untouched(fleet)) == (OperationState.FAILED, True)


def test_what_is_taken_back_after_the_pre_check_stops_the_machine_whatever_the_policy_is(fleet: SnapshotFleet) -> None:
    order = FakeProvider.carry_out

    def take_back_first(provider: FakeProvider, *given: Any, **named: Any) -> str:
        fleet.hypervisor.taken_back.add("web")
        return order(provider, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeProvider, "carry_out", take_back_first)
        outcome = outcome_of(fleet.patch(snapshot={"take": "before", "patch_without": True}), "web")
    assert "somebody has taken back its disks" in outcome.reason
    assert "The way back." in [finding.remedy for finding in outcome.findings]
    assert (outcome.state, is_untouched(fleet)) == (OperationState.FAILED, True)


def test_one_snapshot_is_taken_just_before_the_first_change(fleet: SnapshotFleet) -> None:
    report = fleet.patch_with_snapshot()
    outcome = outcome_of(report, "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert [order.id for order in fleet.find_acts("web", TAKE)] == [build_snapshot_id(RUN, "web")]
    (taken,) = fleet.provided("web").snapshots
    assert taken.taken_at is not None
    assert taken.taken_at <= min(begun.at for begun in fleet.machines["web"].begun() if begun.work == "install")
    assert outcome.snapshot is not None
    assert outcome.snapshot.consistency is Consistency.FILE_SYSTEM
    assert outcome.snapshot.taken_at is not None
    assert outcome.snapshot.expires_at == outcome.snapshot.taken_at + timedelta(days=3)
    assert any("file-system-consistent" in message for message in find_messages(outcome))


def test_its_order_is_in_the_journal_first(fleet: SnapshotFleet) -> None:
    seen: list[bool] = []
    follow = fleet.hypervisor.apply

    def look(machine: str, order: object) -> None:
        entries = fleet.records.read_entries(RUN, "web")
        seen.append(any(e.act == SNAPSHOT_ACT and e.mark is JournalMark.BEFORE for e in entries))
        follow(machine, order)  # type: ignore[arg-type]  # passed on as it came

    fleet.hypervisor.apply = look
    fleet.patch_with_snapshot()
    assert seen == [True]


@pytest.mark.parametrize("fields", [{}, {"download_only": True}, {"dry_run": True}])
def test_no_snapshot_is_taken_that_nobody_asked_for_or_needs(fleet: SnapshotFleet, fields: dict[str, Any]) -> None:
    fleet.patch(snapshot="before" if fields else "never", **fields)
    assert not fleet.hypervisor.orders


def test_a_machine_without_anything_to_install_gets_none(fleet: SnapshotFleet) -> None:
    fleet.patch_with_snapshot("nothing-is-called-so")
    assert not fleet.hypervisor.orders


def test_an_early_reboot_waits_for_the_snapshot(fleet: SnapshotFleet) -> None:
    fleet.machines["web"].world.shelf.reboot_reasons.append("linux-image")
    report = fleet.patch(snapshot="before", reboot_pending_first=True)
    (taken,) = fleet.provided("web").snapshots
    assert taken.taken_at is not None
    assert taken.taken_at <= fleet.machines["web"].boots.ordered_at[0]
    assert len(fleet.find_acts("web", TAKE)) == 1
    assert outcome_of(report, "web").state is OperationState.SUCCEEDED


def test_a_machine_without_a_provider_is_not_changed(fleet: SnapshotFleet) -> None:
    fleet.add("lone", [FakePackage("a")], provider="")
    outcome = outcome_of(fleet.patch_with_snapshot(), "lone")
    assert outcome.state is OperationState.FAILED
    assert "its inventory entry has no `provider`" in outcome.reason
    assert is_untouched(fleet, "lone")


def test_a_provider_that_is_away_keeps_the_machine_as_it_is(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.is_away = True
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert "does not answer" in outcome.reason
    assert is_untouched(fleet)


def test_a_provider_that_is_away_excuses_nothing_else(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.is_away = True
    fleet.machines["web"].answer("probe", lambda _script: {"kind": "probe", "exit_code": 1, "text": "down"})
    fleet.described[0] = replace(fleet.described[0], pre_checks=(Check("app", CheckKind.COMMAND, "true"),))
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    assert (outcome.state, is_untouched(fleet)) == (OperationState.FAILED, True)


def test_a_provider_that_goes_away_before_the_order_leaves_the_machine_not_started(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.faults[TAKE] = [ProviderFault.AWAY_BEFORE] * 1000
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    assert outcome.state is OperationState.NOT_STARTED
    assert is_untouched(fleet)
    assert result_of(outcome, "a").state is UpdateState.NOT_ATTEMPTED


@pytest.mark.parametrize("fault", [ProviderFault.AWAY_BEFORE, ProviderFault.AWAY_AFTER])
def test_a_lost_answer_is_asked_for_again_and_makes_no_second_snapshot(
    fleet: SnapshotFleet, fault: ProviderFault
) -> None:
    fleet.hypervisor.faults[TAKE] = [fault, fault]
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    assert outcome.state is OperationState.SUCCEEDED
    assert len(fleet.provided("web").snapshots) == 1


def test_others_who_begin_while_it_is_taken_leave_the_machine_not_started(fleet: SnapshotFleet) -> None:
    machine = fleet.machines["web"]

    def begin_soon(name: str, order: ProviderOrder) -> None:
        follow(name, order)
        now = fleet.clock.now()
        machine.world.locks = ((now, now + timedelta(minutes=5)),) if order.act is TAKE else ()

    follow, fleet.hypervisor.apply = fleet.hypervisor.apply, begin_soon
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    assert (outcome.state, is_untouched(fleet)) == (OperationState.NOT_STARTED, True)
    assert "others began to change packages while it was taken" in outcome.reason
    assert not fleet.provided("web").snapshots


def test_each_line_is_of_what_is_waited_for_now() -> None:
    fleet = SnapshotFleet()
    told = fleet.watch = ToldLines()
    machine, now = fleet.add("db", [FakePackage("a"), FakePackage("bad", fails="no space")]), fleet.clock.now()
    machine.world.locks = ((now + timedelta(seconds=2), now + timedelta(seconds=90)),)
    fleet.hypervisor.faults = {TAKE: [ProviderFault.AWAY_BEFORE], REVERT: [ProviderFault.AWAY_BEFORE]}
    fleet.patch_with_snapshot(revert_on_failure=True)
    lines = told.of("db")
    span = r": since [\d:]+ UTC, until [\d:]+ UTC at most"
    silent = r"its provider: no answer since [\d:]+ UTC; it is asked until [\d:]+ UTC; before: its provider "
    wanted = [
        f"a snapshot waits: .*{span}",
        f"its provider takes a snapshot{span}",
        f"{silent}takes a snapshot{span}",
        f"its provider takes a snapshot{span}",
        "it goes back to its snapshot: .*",
        f"{silent}puts its disks back to its snapshot{span}",
        f"its provider puts its disks back to its snapshot{span}",
        "coming up: .*",
        "it was put back: its packages, services and probes are looked at",
    ]
    left = iter(lines)
    for pattern in wanted:
        assert any(re.fullmatch(pattern, line) for line in left), (pattern, "\n".join(lines))
    waits = [line for line in lines if line.startswith("a snapshot waits")]
    assert len(waits) > len(set(waits)) == 1  # since when does not move


def test_a_plan_says_what_its_pre_check_would_find_at_the_provider(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.is_away = True
    outcome = outcome_of(fleet.patch(snapshot="before", dry_run=True), "web")
    assert (outcome.state, "does not answer" in outcome.reason) == (OperationState.NOT_STARTED, True)
    fleet.hypervisor.is_away, fleet.hypervisor.acts = False, frozenset({TAKE, DELETE})
    outcome = outcome_of(fleet.patch(snapshot=POLICY, dry_run=True), "web")
    assert (outcome.state, "can't revert" in outcome.reason) == (OperationState.FAILED, True)


def test_a_provider_that_reverts_nothing_leaves_the_way_back_to_its_console(fleet: SnapshotFleet) -> None:
    fleet.add("db", [FakePackage("a"), FakePackage("bad", fails="no space")])
    fleet.hypervisor.acts = frozenset({TAKE, DELETE})
    outcome = outcome_of(fleet.patch_with_snapshot(), "db")
    remedies = [finding.remedy for finding in outcome.findings if finding.level is FindingLevel.WARN]
    assert "To put it back, use the console of its provider: the provider hv (fake) can't revert." in remedies


def test_a_revert_that_a_provider_can_not_do_is_refused_before_anything_is_changed(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.acts = frozenset({TAKE, DELETE})
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "web")
    assert "the provider hv (fake) can't revert" in outcome.reason
    assert (outcome.state, is_untouched(fleet)) == (OperationState.FAILED, True)


def test_a_refused_snapshot_fails_the_machine_unless_the_request_patches_without(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.faults[TAKE] = [ProviderFault.REFUSED]
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    assert outcome.state is OperationState.FAILED
    assert "take-snapshot was refused" in outcome.reason
    assert is_untouched(fleet)


def test_a_machine_is_patched_without_a_snapshot_only_with_a_warning(fleet: SnapshotFleet) -> None:
    fleet.hypervisor.faults[TAKE] = [ProviderFault.REFUSED]
    outcome = outcome_of(fleet.patch_with_snapshot(patch_without=True), "web")
    assert outcome.state is OperationState.COMPLETED_WITH_WARNINGS
    assert "no snapshot was taken" in outcome.reason
    assert result_of(outcome, "a").state is UpdateState.INSTALLED


def test_a_snapshot_that_lacks_the_os_disk_is_none_and_is_deleted(fleet: SnapshotFleet) -> None:
    def keep_data_only(name: str, order: object) -> None:
        machine = fleet.provided(name)
        halves = tuple(Snapshot(one.id, one.taken_at, ("vdb",)) for one in machine.snapshots)
        fleet.hypervisor.machines[name] = ProvidedMachine(machine.id, machine.power, machine.disks, halves)

    fleet.hypervisor.apply = keep_data_only
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    assert outcome.state is OperationState.FAILED
    assert "it lacks the disk vda" in outcome.reason
    assert not fleet.provided("web").snapshots
    assert is_untouched(fleet)


def test_snapshots_of_others_are_left_alone(fleet: SnapshotFleet) -> None:
    machine = fleet.provided("web")
    foreign = Snapshot("before-the-migration", fleet.clock.now(), ("vda",))
    fleet.hypervisor.machines["web"] = ProvidedMachine(machine.id, machine.power, machine.disks, (foreign,))
    fleet.patch_with_snapshot()
    assert foreign in fleet.provided("web").snapshots
    assert not fleet.find_acts("web", DELETE)


@pytest.mark.parametrize(("days", "is_told"), [(2, False), (4, True)])
def test_a_snapshot_of_an_earlier_run_that_was_forgotten_is_told(
    fleet: SnapshotFleet, days: int, is_told: bool
) -> None:
    taken_at = fleet.clock.now() - timedelta(days=days)
    ours = Snapshot("fleetpatch-20260301-010000-0123456789", taken_at, ("vda",), Consistency.CRASH, 4096)
    theirs = Snapshot("nightly", taken_at - timedelta(days=90), ("vda",))
    fleet.hypervisor.machines["web"] = replace(fleet.provided("web"), snapshots=(ours, theirs))
    outcome = outcome_of(fleet.patch_with_snapshot(), "web")
    told = [message for message in find_messages(outcome) if "may be forgotten" in message]
    assert bool(told) is is_told
    assert all("1 snapshot" in message and "4,096 bytes" in message for message in told)
    assert len(fleet.provided("web").snapshots) == 3


def test_its_time_is_kept_of_the_window(fleet: SnapshotFleet) -> None:
    fleet.teach(snapshot_seconds=3600)
    outcome = outcome_of(fleet.patch(snapshot="before", minutes=60, reboot="Never"), "web")
    assert "kept for its snapshot" in outcome.reason
    assert not fleet.hypervisor.orders


def test_a_failed_update_is_reverted_by_policy(fleet: SnapshotFleet) -> None:
    fleet.add("db", [FakePackage("a"), FakePackage("bad", fails="no space")])
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "db")
    assert outcome.state is OperationState.FAILED
    assert "reverted to the snapshot of 2026-03-10" in outcome.reason
    assert "the machine is as it was before" in outcome.reason
    assert fleet.machines["db"].world.whole() == {"a": "1.0", "bad": "1.0"}
    assert {result.state for result in outcome.updates} == {UpdateState.FAILED}
    assert result_of(outcome, "a").version_after == "1.0"
    assert outcome.snapshot is not None
    assert outcome.snapshot.taken_at is not None
    since = f"since {outcome.snapshot.taken_at:%Y-%m-%d %H:%M} UTC ("
    assert f"all that was written to its OS disks {since}" in outcome.reason
    assert "is lost, also data on them; data disks stay as they are" in outcome.reason
    (revert,) = fleet.find_acts("db", REVERT)
    assert not revert.with_data_disks
    assert not fleet.find_acts("web", REVERT)


@pytest.mark.parametrize(("minutes", "is_reverted"), [(3, True), (600, False)])
def test_packages_that_somebody_changes_are_waited_for_before_a_revert(
    fleet: SnapshotFleet, minutes: int, is_reverted: bool
) -> None:
    fleet.add("db", [FakePackage("a"), FakePackage("bad", fails="no space")])
    machine, locks = fleet.machines["db"], list[tuple[datetime, datetime]]()

    def change_packages_soon() -> None:
        begins = fleet.clock.now() + timedelta(seconds=2)
        locks.append((begins, begins + timedelta(minutes=minutes)))
        machine.world.locks = (*locks,)

    machine.on_start("install", 1, change_packages_soon)
    outcome = outcome_of(fleet.patch(snapshot=POLICY, reboot="Never"), "db")
    assert outcome.state is OperationState.FAILED
    orders = fleet.find_acts("db", REVERT)
    assert bool(orders) is is_reverted
    assert ("the machine is as it was before" in outcome.reason) is is_reverted
    if is_reverted:
        assert outcome.snapshot is not None
        assert outcome.snapshot.reverted_at is not None
        assert outcome.snapshot.reverted_at > locks[0][1]
    else:
        assert "not reverted: others change its packages" in outcome.reason
        remedies = [finding.remedy for finding in outcome.findings]
        assert any(f"fleetpatch undo {RUN} db --by snapshot" in remedy for remedy in remedies)


def test_without_the_policy_the_report_tells_the_command(fleet: SnapshotFleet) -> None:
    fleet.add("db", [FakePackage("a"), FakePackage("bad", fails="no space")])
    outcome = outcome_of(fleet.patch_with_snapshot(), "db")
    assert not fleet.find_acts("db", REVERT)
    remedies = [finding.remedy for finding in outcome.findings if finding.level is FindingLevel.WARN]
    assert f"To put it back: fleetpatch undo {RUN} db --by snapshot" in remedies


def test_a_machine_that_never_comes_back_is_reverted_without_its_answer(fleet: SnapshotFleet) -> None:
    break_boot(fleet)
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "web")
    assert outcome.state is OperationState.FAILED
    assert "the machine is as it was before" in outcome.reason
    assert fleet.machines["web"].world.whole() == BEFORE
    assert outcome.snapshot is not None
    assert outcome.snapshot.reverted_at is not None
    assert result_of(outcome, "b").version_after == "1.0"
    assert fleet.machines["web"].locked_by is None


def test_a_machine_that_stays_away_after_the_revert_is_told(fleet: SnapshotFleet) -> None:
    break_boot(fleet)
    fleet.comes_back = False
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "web")
    assert "did not answer in a new boot" in outcome.reason
    assert outcome.snapshot is not None
    assert outcome.snapshot.reverted_at is None
    assert result_of(outcome, "a").state is UpdateState.PENDING  # whether it is there is not known
    assert "it may have been reverted" in result_of(outcome, "a").reason


@pytest.mark.parametrize("fault", [ProviderFault.AWAY_BEFORE, ProviderFault.AWAY_AFTER])
def test_a_provider_that_goes_away_in_the_revert_is_asked_again(fleet: SnapshotFleet, fault: ProviderFault) -> None:
    break_boot(fleet)
    fleet.hypervisor.faults[REVERT] = [fault]
    fleet.patch_with_snapshot(revert_on_failure=True)
    assert fleet.machines["web"].world.whole() == BEFORE


def test_a_revert_that_is_refused_leaves_the_machine_failed_and_told(fleet: SnapshotFleet) -> None:
    break_boot(fleet)
    fleet.hypervisor.faults[REVERT] = [ProviderFault.REFUSED]
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "web")
    assert outcome.state is OperationState.FAILED
    assert "not reverted: the provider did not do it: revert was refused" in outcome.reason
    assert "is lost" not in outcome.reason
    assert fleet.machines["web"].world.whole() != BEFORE


def test_a_provider_that_is_away_since_the_snapshot_did_not_revert_and_the_way_back_is_told(
    fleet: SnapshotFleet,
) -> None:
    break_boot(fleet)
    fleet.machines["web"].on_start("install", 1, lambda: setattr(fleet.hypervisor, "is_away", True))
    report = fleet.patch_with_snapshot(revert_on_failure=True)
    outcome = outcome_of(report, "web")
    assert "not reverted: the hypervisor does not answer" in outcome.reason
    assert not fleet.find_acts("web", REVERT)
    (finding,) = [one for one in outcome.findings if "not reverted" in one.message]
    assert finding.remedy.endswith(f"fleetpatch undo {report.run.id} web --by snapshot")


def test_a_machine_that_is_only_cut_off_is_not_reverted(fleet: SnapshotFleet) -> None:
    machine = fleet.machines["web"]
    machine.on_start("install", 1, lambda: machine.cut(20_000))
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "web")
    assert outcome.state is OperationState.FAILED
    assert not fleet.find_acts("web", REVERT)


def test_a_good_machine_is_never_reverted_and_keeps_its_snapshot(fleet: SnapshotFleet) -> None:
    fleet.patch_with_snapshot(revert_on_failure=True)
    assert not fleet.find_acts("web", REVERT)
    assert len(fleet.provided("web").snapshots) == 1


def test_data_disks_go_back_only_if_the_request_says_so(fleet: SnapshotFleet) -> None:
    break_boot(fleet)
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True, with_data_disks=True), "web")
    assert "all that was written to its OS and data disks since" in outcome.reason
    (revert,) = fleet.find_acts("web", REVERT)
    assert revert.with_data_disks


def make_failing_fleet() -> SnapshotFleet:
    fleet = SnapshotFleet()
    fleet.add("bad", [FakePackage("a", seconds=20), FakePackage("b", seconds=20, asks_reboot=True)])
    fleet.machines["bad"].boots.up_after = None
    fleet.add("good", [FakePackage("a", seconds=20)])
    return fleet


def request_failing(fleet: SnapshotFleet) -> PatchRequest:
    return fleet.request(waves={"failure_budget_count": 5}, snapshot=POLICY, coming_up_minutes=5)


def count_calls() -> int:
    life, fleet = Life(), make_failing_fleet()
    begin(fleet, request_failing(fleet), life)
    return life.calls


@pytest.mark.parametrize("after_the_act", [False, True])
def test_a_run_that_is_killed_anywhere_ends_as_if_it_was_not(after_the_act: bool) -> None:
    for call in choose_calls(count_calls() - after_the_act, 4):  # after its last act the run is over
        fleet = make_failing_fleet()
        with pytest.raises(Killed):
            begin(fleet, request_failing(fleet), Life(dies_at=call, after_the_act=after_the_act))
        was_put_back = bool(fleet.find_acts("bad", REVERT))
        fleet.clock.advance(300)
        if was_put_back:
            fleet.hypervisor.contents["bad-os"] = "written since"
        report = resume_unless_ended(fleet)
        assert len(fleet.find_acts("bad", REVERT)) == 1, call
        assert (fleet.hypervisor.contents["bad-os"] == "written since") is was_put_back, call
        for name in ("bad", "good"):
            assert len(fleet.provided(name).snapshots) == 1, (call, name)
        assert fleet.machines["bad"].world.whole() == BEFORE, call
        assert fleet.machines["good"].world.whole() == {"a": "2.0"}, call
        assert not fleet.find_acts("good", REVERT), call
        assert outcome_of(report, "bad").state is OperationState.FAILED, call
        assert "the machine is as it was before" in outcome_of(report, "bad").reason, call
        assert result_of(outcome_of(report, "bad"), "b").state is UpdateState.FAILED, call


def test_a_revert_whose_answers_are_lost_is_ordered_once_and_told_as_the_machine_is(fleet: SnapshotFleet) -> None:
    break_boot(fleet)
    fleet.hypervisor.faults[REVERT] = [ProviderFault.AWAY_AFTER] * 1000
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "web")
    assert len(fleet.find_acts("web", REVERT)) == 1
    result = result_of(outcome, "a")
    assert (result.state, result.version_after) == (UpdateState.FAILED, "1.0")
    assert fleet.machines["web"].world.whole() == BEFORE


def test_a_revert_that_is_never_answered_is_in_doubt(fleet: SnapshotFleet) -> None:
    break_boot(fleet)
    fleet.hypervisor.faults[REVERT] = [ProviderFault.AWAY_BEFORE] * 1000
    outcome = outcome_of(fleet.patch_with_snapshot(revert_on_failure=True), "web")
    assert "it may have been reverted: the hypervisor does not answer; if it was, all that was" in outcome.reason
    assert result_of(outcome, "a").state is UpdateState.PENDING
    assert len(fleet.find_acts("web", REVERT)) == 3
    # the machine can't refuse an order that its provider may still execute: no other run takes its lock over
    assert fleet.machines["web"].locked_by is not None
    assert "lock left" not in {entry.act for entry in fleet.records.journal}
